"""Figure 1 of the paper, drawn again from run folders and set beside the paper's own points.

Reads every finished MNIST run with `norm=none` or `norm=batch` below a folder. Runs that differ in
nothing but their seed are one setting; of each arm the setting nearest to the paper's curve of the
arm without batch normalization is drawn, so both arms are drawn at the same setting.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro import paper
from bnrepro.config import differences
from bnrepro.errors import StorageError
from bnrepro.evidence import unlike
from bnrepro.figures import BLACK, BLUE, ORANGE, band, empty, typical_unit
from bnrepro.store import StoredRun, find_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {"none": "without BN", "batch": "with BN"}
COLORS = {"none": ORANGE, "batch": BLUE}


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration that differ in nothing but their seed."""

    norm: str
    config: dict[str, Any]
    runs: list[StoredRun]
    steps: np.ndarray  # (P,)
    accuracies: np.ndarray  # (runs, P)

    @property
    def mean(self) -> np.ndarray:
        """Test accuracy over training, the mean of the seeds."""
        result: np.ndarray = self.accuracies.mean(0)
        return result

    @property
    def distance(self) -> float:
        """Of the mean curve to the paper's."""
        return paper.distance(self.steps, self.mean, self.norm)

    @property
    def first_steps(self) -> list[int | None]:
        """Of every seed, the first step at or above `paper.TARGET`."""
        return [paper.first_step(self.steps, row) for row in self.accuracies]

    @property
    def setting(self) -> tuple[float, float]:
        """What the paper leaves open: learning rate and standard deviation of the weights."""
        return self.config["optimizer"]["lr"], self.config["init"]["scale"]


def arms(runs: Iterable[StoredRun]) -> list[Arm]:
    """All finished MNIST runs of either arm, those of one configuration together."""
    grouped: dict[str, list[StoredRun]] = defaultdict(list)
    configs: dict[str, dict[str, Any]] = {}
    for run in runs:
        config = run.config()
        named = config.get("norm", {}).get("name"), config.get("dataset", {}).get("name")
        summary = run.summary()
        if named[0] not in paper.CURVES or named[1] != "mnist" or not summary:
            continue
        if summary["status"] != "done" or run.drift():
            continue
        key = json.dumps(differences({**config, "seed": 0}, {}))
        grouped[key].append(run)
        configs[key] = config
    found = []
    for key, members in grouped.items():
        curves = [run.curve("test_accuracy") for run in members]
        found.append(
            Arm(
                norm=configs[key]["norm"]["name"],
                config=configs[key],
                runs=members,
                steps=curves[0][0],
                accuracies=np.stack([accuracies for _, accuracies in curves]),
            )
        )
    return sorted(found, key=lambda arm: (arm.norm, arm.distance))


def render(folder: Path, out: Path) -> str:
    """Write `fig1.md`, `fig1a.png` and `fig1bc.png` from the runs below `folder`.

    Returns:
        The Markdown.

    Raises:
        StorageError: there is no finished run of Fig. 1 there.
    """
    found = arms(find_runs(folder))
    if not found:
        raise StorageError(
            f"no finished run of Fig. 1 ({folder}): make some with 'bnrepro train experiment=fig1' "
            "and with 'norm=none'"
        )
    drawn = _pair(found)
    out.mkdir(parents=True, exist_ok=True)
    text = _markdown(found, drawn)
    for line in unlike(run for arm in found for run in arm.runs):
        text += f"\nCompared in spite of {line}.\n"
    accuracy_figure(drawn).savefig(out / "fig1a.png", metadata={"Software": None})
    probed = [arm for arm in drawn if any(run.probe_steps() for run in arm.runs)]
    if probed:
        band_figure(probed).savefig(out / "fig1bc.png", metadata={"Software": None})
        text += "\n![Fig. 1b, c](fig1bc.png)\n"
    (out / "fig1.md").write_text(text, encoding="utf-8")
    return text


def _pair(found: list[Arm]) -> list[Arm]:
    """The setting of the baseline nearest to the paper's, and the other arm at that setting."""
    baseline = next((arm for arm in found if arm.norm == "none"), found[0])
    others = (a for a in found if a.norm != baseline.norm and a.setting == baseline.setting)
    return [baseline, *islice(others, 1)]


def _markdown(found: list[Arm], drawn: list[Arm]) -> str:
    lines = [
        "# Figure 1",
        "",
        "![Fig. 1a](fig1a.png)",
        "",
        f"| arm | lr | init std | seeds | final test accuracy | first step at ≥ {paper.TARGET} "
        "| paper's | RMS distance to the paper's curve |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm in found:
        mark = "**" if arm in drawn else ""
        final = arm.accuracies[:, -1]
        theirs = paper.first_step(*paper.accuracy(arm.norm))
        first = ", ".join("never" if step is None else f"{step:,}" for step in arm.first_steps)
        lr, scale = arm.setting
        lines.append(
            f"| {mark}{NAMES[arm.norm]}{mark} | {lr} | {scale} | {len(arm.runs)} "
            f"| {final.mean():.4f} ({final.min():.4f} to {final.max():.4f}) "
            f"| {first} | {theirs:,} | {arm.distance:.4f} |"
        )
    return "\n".join(lines) + "\n"


def accuracy_figure(drawn: list[Arm]) -> Figure:
    """Fig. 1a: test accuracy over training, ours as lines, the paper's as points."""
    figure = empty((7.2, 4.2), layout="constrained", dpi=120)
    axes = figure.subplots()
    for arm in drawn:
        color, style = COLORS[arm.norm], "-" if arm.norm == "batch" else "--"
        low, high = arm.accuracies.min(0), arm.accuracies.max(0)
        axes.fill_between(arm.steps, low, high, color=color, alpha=0.25, linewidth=0)
        label = f"{NAMES[arm.norm]}, ours ({len(arm.runs)} seeds)"
        axes.plot(arm.steps, arm.mean, style, color=color, linewidth=1.4, label=label)
        at, accuracy = paper.accuracy(arm.norm)
        marker = "o" if arm.norm == "batch" else "^"
        label = f"{NAMES[arm.norm]}, paper"
        axes.plot(at, accuracy, marker, color=color, markersize=3, markerfacecolor="none",
                  markeredgewidth=0.7, label=label)  # fmt: skip
    axes.set(ylim=(0.7, 1.0), xlabel="step", ylabel="test accuracy")
    axes.axhline(paper.TARGET, color=BLACK, linewidth=0.5, linestyle=":")
    axes.legend(loc="lower right", fontsize=9)
    lr, scale = drawn[0].setting
    axes.set_title(f"Fig. 1a on MNIST: SGD, lr {lr}, initial weights N(0, {scale}²)", fontsize=10)
    return figure


def band_figure(drawn: list[Arm]) -> Figure:
    """Fig. 1b and c: the input of a typical sigmoid of the last hidden layer, paper's and ours."""
    figure = empty((7.2, 2.8 * len(drawn)), layout="constrained", dpi=120)
    every_axes = figure.subplots(len(drawn), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), arm in zip(every_axes, drawn, strict=True):
        curves = paper.percentiles(arm.norm)
        steps = curves[50][0]
        theirs = np.stack([np.interp(steps, *curves[p]) for p in (15, 50, 85)], axis=1)
        band(left, steps, theirs, COLORS[arm.norm], "")
        _title(left, f"{NAMES[arm.norm]}, paper")
        run = next(run for run in arm.runs if run.probe_steps())
        names = [name for name in run.probe(0) if name.endswith("/percentiles")]
        steps, percentiles = run.probed(names[-1])
        unit = typical_unit(percentiles)
        band(right, steps, percentiles[:, unit], COLORS[arm.norm], "")
        seed = run.config().get("seed")
        layer = names[-1].partition("/")[0]
        _title(right, f"{NAMES[arm.norm]}, ours: {layer}, unit {unit}, seed {seed}")
    for axes in every_axes[-1]:
        axes.set_xlabel("step")
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9)
    axes.axhline(0, color=BLACK, linewidth=0.5, linestyle=":")
