"""Figure 1 of the paper, drawn from run folders together with the paper's own points.

Reads every finished run below a folder that is one of Fig. 1: its network on MNIST, with batch
normalization or without, at whatever the paper leaves open (docs/fig1.md). Runs that differ in
nothing but their seed are one setting; of the arm without batch normalization the setting nearest
to the paper's curve is drawn, and the other arm at the same setting.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro.config import differences, flat
from bnrepro.errors import StorageError
from bnrepro.evidence import paper
from bnrepro.evidence.arms import NAMES
from bnrepro.evidence.exhibits import Curves, Line
from bnrepro.evidence.runs import unlike
from bnrepro.plots import BLACK, BLUE, ORANGE, band, empty, png, typical_unit
from bnrepro.report.draw import draw
from bnrepro.report.format import markdown
from bnrepro.store import StoredRun, atomic, find_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"none": ORANGE, "batch": BLUE}
COLUMNS = (
    "arm", "lr", "init std", "seeds", "final test accuracy", f"first step at ≥ {paper.TARGET}",
    "paper's", "RMS distance",
)  # fmt: skip

TOLD: dict[str, Any] = {
    "dataset.name": "mnist", "dataset.binary": True, "dataset.inputs": "default",
    "dataset.limit": None, "augment.flip": False, "augment.shift": 0, "augment.distortion": 0.0,
    "model.name": "mlp", "model.hidden": [100, 100, 100], "model.activation": "sigmoid",
    "model.dropout": 0.0, "init.name": "gaussian", "norm.placement": "pre",
    "norm.keep_bias": False, "optimizer.name": "sgd", "optimizer.momentum": 0.0,
    "optimizer.weight_decay": 0.0, "schedule.name": "constant", "train.batch_size": 60,
}  # fmt: skip
"""What the paper tells of the networks of Fig. 1 (§4.1), and nothing that it would have told."""

NAMED = 10  # runs left out that are named one by one


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
    def distance(self) -> float | None:
        """Of the mean curve to the paper's; None where it ends too soon to be compared."""
        return paper.distance(self.steps, self.mean, self.norm)

    @property
    def first_steps(self) -> list[int | None]:
        """Of every seed, the first step at or above `paper.TARGET`."""
        return [paper.first_step(self.steps, row) for row in self.accuracies]

    @property
    def setting(self) -> tuple[float, float]:
        """What the paper leaves open: learning rate and standard deviation of the weights."""
        return self.config["optimizer"]["lr"], self.config["init"]["scale"]

    @property
    def paired_by(self) -> str:
        """What the other arm at the same setting has in common: all but the normalization."""
        return _key(self.config, "norm")


@dataclass(frozen=True)
class Found:
    """The runs of Fig. 1 in a folder.

    `drawn` is the arm without batch normalization nearest to the paper's, and with it the other arm
    at the same setting; `notes` say which runs were left out, and why.
    """

    arms: list[Arm]
    drawn: list[Arm]
    notes: list[str]


def read(folder: Path) -> Found:
    """Find the runs of Fig. 1 below a folder.

    Raises:
        StorageError: there is no finished one.
    """
    taken: dict[str, dict[int, StoredRun]] = defaultdict(dict)
    notes: list[str] = []
    others: Counter[str] = Counter()
    for run in find_runs(folder):
        if why := run.damaged():
            notes.append(f"left out, {why}: {run.folder}")
        elif what := _what_else(run):
            others[f"{run.folder} ({what})"] += 1
        elif (summary := run.summary()) is None or summary["status"] != "done" or run.drift():
            state = "drifted" if run.drift() else run.status()["state"]
            notes.append(f"left out, {state}: {run.folder}")
        else:
            config = run.config()
            of_arm = taken[_key(config)]
            first = of_arm.setdefault(config["seed"], run)
            if first is not run:
                notes.append(f"counted once, seed {config['seed']}: {first.folder}, {run.folder}")
    if not taken:
        raise StorageError(
            f"no finished run of Fig. 1 ({folder}): make some with 'bnrepro train experiment=fig1' "
            "and with 'norm=none'"
        )
    if others:
        named = list(others)[:NAMED] + ["…"] * (len(others) > NAMED)
        notes.append(f"{len(others)} left out, not of Fig. 1: {', '.join(named)}")
    arms = sorted((_arm(list(by_seed.values())) for by_seed in taken.values()), key=_place)
    notes += [f"compared despite {line}" for line in unlike(r for a in arms for r in a.runs)]
    return Found(arms, _pair(arms), notes)


def _what_else(run: StoredRun) -> str:
    """What makes a run another one than those of Fig. 1; empty if nothing does."""
    config = run.config()
    norm = config.get("norm", {}).get("name")
    if norm not in paper.CURVES:
        return f"norm={norm}"
    settings = flat(config)
    for name, value in TOLD.items():
        setting = settings.get(name, value)  # a run that is older than a setting is as without it
        if setting != value:
            return f"{name}={setting}"
    return ""


def _key(config: Mapping[str, Any], *without: str) -> str:
    """The same text for configurations that differ in nothing but the seed and these settings."""
    rest = {name: value for name, value in config.items() if name not in without}
    return json.dumps(differences({**rest, "seed": 0}, {}))


def _arm(runs: list[StoredRun]) -> Arm:
    config = runs[0].config()
    curves = [run.curve("test_accuracy") for run in runs]
    accuracies = np.stack([accuracies for _, accuracies in curves])
    return Arm(config["norm"]["name"], config, runs, curves[0][0], accuracies)


def _place(arm: Arm) -> tuple[str, float, int]:
    """The nearest to the paper's first; those too short to be compared last, the longest first."""
    distance = np.inf if arm.distance is None else arm.distance
    return arm.norm, distance, -int(arm.steps[-1])


def _pair(arms: list[Arm]) -> list[Arm]:
    """The setting of the baseline nearest to the paper's, and the other arm at that setting."""
    baseline = next((arm for arm in arms if arm.norm == "none"), arms[0])
    others = (a for a in arms if a.norm != baseline.norm and a.paired_by == baseline.paired_by)
    return [baseline, *list(others)[:1]]


def render(figure: Found, out: Path) -> list[Path]:
    """Write `fig1.md`, `fig1a.png` and, where something was probed, `fig1bc.png` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = {"Fig. 1a": out / "fig1a.png"}
    _write(pictures["Fig. 1a"], png(accuracy_figure(figure.drawn)))
    probed = [arm for arm in figure.drawn if any(run.probe_steps() for run in arm.runs)]
    if probed:
        pictures["Fig. 1b, c"] = out / "fig1bc.png"
        _write(pictures["Fig. 1b, c"], png(band_figure(probed)))
    drawn = [f"![{name}]({path.name})" for name, path in pictures.items()]
    table = [COLUMNS, ["---"] * len(COLUMNS), *cells(figure, "**")]
    blocks = [
        "# Figure 1",
        drawn[0],
        "\n".join(f"| {' | '.join(row)} |" for row in table),
        *(markdown(f"{note[0].upper()}{note[1:]}.") for note in figure.notes),
        *drawn[1:],
    ]
    path = out / "fig1.md"
    text = "\n\n".join(blocks) + "\n"
    _write(path, text.encode())
    return [path, *pictures.values()]


def _write(path: Path, content: bytes) -> None:
    atomic.write(path, lambda file: file.write(content), durable=False)


def cells(figure: Found, mark: str = "") -> list[list[str]]:
    """The rows of the table, `COLUMNS`; the drawn arms' names between marks."""
    rows = []
    for arm in figure.arms:
        around = mark if arm in figure.drawn else ""
        final = arm.accuracies[:, -1]
        last = f"not by {int(arm.steps[-1]):,}"
        firsts = [last if step is None else f"{step:,}" for step in arm.first_steps]
        first = last if set(firsts) == {last} else ", ".join(firsts)
        theirs = paper.first_step(*paper.accuracy(arm.norm))
        rows.append([
            f"{around}{NAMES[arm.norm]}{around}",
            *map(str, arm.setting),
            str(len(arm.runs)),
            f"{final.mean():.4f} ({final.min():.4f} to {final.max():.4f})",
            first,
            f"{theirs:,}",
            "too short" if arm.distance is None else f"{arm.distance:.4f}",
        ])  # fmt: skip
    return rows


def accuracy_figure(drawn: list[Arm]) -> Figure:
    """Fig. 1a: test accuracy over training, ours as lines, the paper's as points."""
    longest = max(arm.steps[-1] for arm in drawn)
    lines = []
    for arm in drawn:
        name, (at, accuracy) = NAMES[arm.norm], paper.accuracy(arm.norm)
        low, high = arm.accuracies.min(0), arm.accuracies.max(0)
        lines.append(Line(name, arm.steps, arm.mean, low, high))
        if (seen := at <= longest).any():
            theirs = accuracy[seen]
            lines.append(Line(f"{name}, paper", at[seen], theirs, points=True, like=name))
    bottom = 0.7 if min(arm.mean[-1] for arm in drawn) > 0.72 else 0.0
    lr, scale = drawn[0].setting
    title = f"Fig. 1a on MNIST: SGD, lr {lr}, initial weights N(0, {scale}²)"
    seeds = ", ".join(f"{NAMES[arm.norm]} {len(arm.runs)}" for arm in drawn)
    [figure] = draw(
        Curves(f"{title}\nseeds: {seeds}", "step", "test accuracy", lines,
               limits=(bottom, 1.0), levels=(paper.TARGET,))
    )  # fmt: skip
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
