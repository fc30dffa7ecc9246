"""What a claim's measure reads: the stored runs of its arms, and what many measures ask of them.

Every array has one row a seed, in the order of `seeds`, so that arms are paired by seed. Accuracies
of a run that diverged are those of guessing from there on; its steps to any target are infinite.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bnrepro.errors import UnreadableError
from bnrepro.evidence import stats
from bnrepro.evidence.stats import lower_median
from bnrepro.store import CHANCE as CHANCE  # where measures look for it
from bnrepro.store import SUMMARY, StoredRun

TEST, VALIDATION, TRAIN = "test_accuracy", "validation_accuracy", "train_accuracy"
"""Verdicts read the test set once, at the final step; all that is chosen, or watched over training
for a verdict, is read off the validation images. Test curves are for drawing."""

TOLD_APART = 0.003
"""The smallest difference between accuracies that the paper takes for one: 73.0 and 72.7 %, with
and without the changes of §4.2.1 at five times the learning rate."""

FIRST_SEED, PILOT_SEED = 10, 100
"""The first seed of a claim, and that of all pilots. Seeds below 10 were looked at while the claims
were written; the pilots' is none of a claim's, so that nothing was chosen on what judges it."""


@dataclass(frozen=True)
class Evidence:
    """The stored runs of a claim at one scale: of every arm one for each seed."""

    scale: str
    seeds: tuple[int, ...]
    runs: Mapping[str, tuple[StoredRun, ...]]

    @property
    def pilot(self) -> bool:
        """Whether the runs have the pilots' seed, by which nothing is judged."""
        return PILOT_SEED in self.seeds

    @cached_property
    def present(self) -> int:
        """How many of the runs are a result; read once."""
        return sum(map(is_result, {run for runs in self.runs.values() for run in runs}))

    @property
    def asked(self) -> int:
        """How many runs there should be; what two arms share is one."""
        return len({run for runs in self.runs.values() for run in runs})

    def summaries(self, arm: str) -> list[dict[str, Any]]:
        """What stands in `summary.json`, of every seed."""
        every = [run.summary() for run in self.runs[arm]]
        return [summary for summary in every if summary is not None]

    def studies(self, arm: str, name: str) -> list[dict[str, Any] | None]:
        """A study of the network each seed ended with; None where the run diverged."""
        return [(summary.get("studies") or {}).get(name) for summary in self.summaries(arm)]

    def diverged(self, arm: str) -> np.ndarray:
        """Whether the loss was not finite at some step: (S,) bool."""
        return np.array([summary["status"] == "diverged" for summary in self.summaries(arm)])

    def final(self, arm: str, name: str = TEST, *, diverged: float = CHANCE) -> np.ndarray:
        """A number of the summary, at the last step: (S,); that of a diverged run as stated."""
        values = []
        for run, summary in zip(self.runs[arm], self.summaries(arm), strict=True):
            value = diverged if summary["status"] == "diverged" else summary.get(name)
            if value is None:
                raise UnreadableError(run.folder / SUMMARY, f"no {name}")
            values.append(float(value))
        return np.array(values)

    def redrawn(self, arm: str) -> np.ndarray | None:
        """Test accuracy on each draw of the test images: (S, D); that of guessing if diverged.

        None where a run does not tell which images its network gets right.
        """
        rows = []
        for run, diverged in zip(self.runs[arm], self.diverged(arm), strict=True):
            correct = None if diverged else run.correct()
            if correct is None and not diverged:
                return None
            rows.append(
                np.full(stats.DRAWS, CHANCE) if correct is None
                else correct.astype(np.float32) @ stats.image_counts(len(correct)) / len(correct)
            )  # fmt: skip
        return np.stack(rows).astype(np.float64)

    def probed(self, arm: str, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of every seed, the steps (P,) and values (P, …) of one measurement of the probes."""
        return self.probed_each(arm, [name])[0]

    def probed_each(
        self, arm: str, names: Sequence[str]
    ) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """`probed` of several measurements, for which every probe is opened once."""
        of_runs = [run.probed_each(names) for run in self.runs[arm]]
        return [list(of_name) for of_name in zip(*of_runs, strict=True)]


def is_result(run: StoredRun) -> bool:
    """Whether a run came to its end with all it recorded, and is of a single configuration.

    Divergence is an end, too.
    """
    try:
        return run.lacks() is None and not run.drift()
    except UnreadableError:
        return False


def aligned(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    diverged: float = CHANCE,
    steps: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Curves of runs that are recorded alike as steps (P,) and values (R, P).

    The steps are those of the longest curve unless given. A run that has no more values diverged;
    from there on it has the value `diverged`.
    """
    if steps is None:
        steps = max((steps for steps, _ in curves), key=len)
    values = np.full((len(curves), len(steps)), diverged)
    for row, (recorded, curve) in zip(values, curves, strict=True):
        assert np.array_equal(recorded, steps[: len(recorded)]), (
            "runs of one arm are recorded alike"
        )
        row[: len(recorded)] = curve
    return steps, values


def unlike(runs: Iterable[StoredRun]) -> list[str]:
    """What runs that are compared do not have in common of what made them, a line for each.

    The value of most runs comes first, then every other value with the runs that have it. Images of
    a user's own are left out: they are a setting of a run.
    """
    facts_by_name: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        manifest = run.manifest()
        dataset = manifest.get("dataset") or {}
        name, versions = str(dataset.get("name")), manifest.get("versions") or {}
        facts = {
            "torch": versions.get("torch"),
            "processor": manifest.get("gpu") or manifest.get("cpu"),
            "code": str(manifest.get("code") or "")[:12] or None,
            f"images of {name}": None if name == "folder" else dataset.get("fingerprint"),
        }
        for what, value in facts.items():
            if value is not None:
                facts_by_name.setdefault(what, {}).setdefault(str(value)[:40], []).append(
                    run.folder.name
                )
    lines = []
    for what, values in facts_by_name.items():
        (most, first), *others = sorted(values.items(), key=lambda item: -len(item[1]))
        if others:
            count = "1 run" if len(first) == 1 else f"{len(first)} runs"
            others_named = (f"{value} ({listed(names)})" for value, names in others)
            lines.append(f"different {what}: {'; '.join([f'{most} ({count})', *others_named])}")
    return lines


def listed(names: Sequence[str], most: int = 3) -> str:
    """Some names, and how many more there are."""
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])


def log_ratio(a: np.ndarray, b: np.ndarray, base: Literal[2, 10] = 2) -> np.ndarray:
    """The logarithm of a ÷ b, elementwise, positive where a is greater.

    One infinite side makes the result infinite; two say nothing, NaN; two zeros do not differ, 0.
    """
    logarithm = {2: np.log2, 10: np.log10}[base]  # exact for their own powers
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = logarithm(np.asarray(a, float) / np.asarray(b, float))
    return np.where((a == b) & np.isfinite(a), 0.0, ratio)


def seeds(count: int, first: int = FIRST_SEED) -> tuple[int, ...]:
    """The seeds of a claim, the same for every arm: `count` numbers from `first` on."""
    return tuple(range(first, first + count))


def median_range(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Median, least and greatest, of values that may be infinite."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return float(lower_median(ordered)), float(ordered[0]), float(ordered[-1])
