"""Two ways of doing the same work, timed in turns.

Machines differ and are shared, so a single time says little: what is reported is the ratio of the
times, round by round.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Job = Callable[[], float | None]
"""Does the work. Where it returns seconds, they count in place of all that it took."""


@dataclass(frozen=True)
class Comparison:
    """The times of both ways, round by round."""

    name: str
    ours: str
    theirs: str
    steps: int
    seconds: tuple[tuple[float, float], ...]  # of each round: ours, theirs
    times: int = 1  # how many times more of it ours did than it does by default

    @property
    def ratios(self) -> list[float]:
        """Our time over theirs, round by round, as it is by default."""
        return [1 + (ours / theirs - 1) / self.times for ours, theirs in self.seconds]

    def to_dict(self) -> dict[str, object]:
        """The figures, for a table or for JSON."""
        ours, theirs = (statistics.median(column) for column in zip(*self.seconds, strict=True))
        return {
            "name": self.name,
            "ours": self.ours,
            "theirs": self.theirs,
            "steps": self.steps,
            "rounds": len(self.seconds),
            "ratio": statistics.median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "ours_milliseconds": 1000 * ours / self.steps,
            "theirs_milliseconds": 1000 * theirs / self.steps,
        }


def compare(
    name: str, ours: tuple[str, Job], theirs: tuple[str, Job], steps: int, rounds: int
) -> Comparison:
    """Time two jobs in turns, `rounds` times each, after one uncounted round."""
    ours[1]()
    theirs[1]()
    seconds = []
    for number in range(rounds):
        order = (ours, theirs) if number % 2 else (theirs, ours)  # neither is always the first
        times = {label: _timed(job) for label, job in order}
        seconds.append((times[ours[0]], times[theirs[0]]))
    return Comparison(name, ours[0], theirs[0], steps, tuple(seconds))


def _timed(job: Job) -> float:
    began = time.perf_counter()
    seconds = job()
    return time.perf_counter() - began if seconds is None else seconds
