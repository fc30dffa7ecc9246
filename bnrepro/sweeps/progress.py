"""How far many runs are, for the person who waits: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bnrepro.config import flat
from bnrepro.errors import StorageError
from bnrepro.store import FINISHED, StoredRun
from bnrepro.store.sweep import Member
from bnrepro.terminal import duration
from bnrepro.training.progress import Bar

SECONDS_BETWEEN_LINES = 15.0  # where there is no terminal to draw a bar on
POLL_SECONDS = 0.5

SHAPE = (
    "dataset.name", "model", "norm.name", "norm.placement", "optimizer.name", "train.batch_size",
    "augment", "probe.jacobian", "probe.moments",
)  # fmt: skip
"""Settings that the time of a step depends on, or groups of them."""


@contextmanager
def compose_progress(total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Show a bar for `count` configurations on a terminal; called with how many are done."""
    columns = (TextColumn("composing"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def kind(config: Mapping[str, Any]) -> str:
    """What runs have in common whose steps take the same time."""
    settings = flat(config)
    shape = {
        name: value for name, value in settings.items()
        if any(name == of or name.startswith(f"{of}.") for of in SHAPE)
    }  # fmt: skip
    return json.dumps(shape, sort_keys=True)


class SweepProgress:
    """Shows how far they are, by looking at their folders: it works for every engine."""

    def __init__(
        self,
        title: str,
        folder: Path,
        members: Sequence[Member],
        pending: Sequence[int],
        console: Console,
    ) -> None:
        self._folder, self._console = folder, console
        self._left = {members[i].name: int(members[i].config["train"]["steps"]) for i in pending}
        self._total, self._members = sum(self._left.values()), len(members)
        self._counts: Counter[str] = Counter({"done before": len(members) - len(pending)})
        self._kinds = {members[i].name: kind(members[i].config) for i in pending}
        self._pace: dict[str, float] = {}  # seconds of a step, by the kind of network
        self._ended = 0  # steps of members that came to an end
        self._began, self._spoke = time.monotonic(), time.monotonic()
        rerun = {members[i].name for i in pending if members[i].config["run"]["overwrite"]}
        self._at_start = {name: self._step(name) for name in self._left if name not in rerun}
        self._before = {name: self._status(name) for name in self._left}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        name, elapsed = TextColumn(title), TimeElapsedColumn()
        counts, rate, left = (
            TextColumn(f"{{task.fields[{field}]}}") for field in ("counts", "rate", "left")
        )
        self._bar = Bar(
            name, BarColumn(), counts, rate, elapsed, left,
            optional=(name, rate, elapsed), console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(
            title, total=max(1, self._total), counts="", rate="", left=""
        )

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._bar.stop()
        if not self._console.is_terminal and self._total:
            self._console.print(self._said(0), soft_wrap=True, highlight=False)

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        steps = 0
        going: dict[str, int] = {}  # the last step of each member that runs
        for name, length in list(self._left.items()):
            status = self._status(name)
            if status == self._before[name]:  # not begun yet, whatever became of it another time
                continue
            state = status["state"]
            if state in FINISHED or (state == "failed" and self._stop.is_set()):
                self._counts[state] += 1
                self._ended += length - self._at_start.get(name, 0)
                self._step(name)
                del self._left[name]
            elif state == "running":
                going[name] = self._step(name)
                steps += max(0, going[name] - self._at_start.get(name, 0))
        done = self._ended + steps
        counts, rate, left = self._counted(len(going)), self._rate(done), self._time_left(going)
        self._bar.update(self._task, completed=done, counts=counts, rate=rate, left=left)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._spoke > SECONDS_BETWEEN_LINES:
            self._spoke = now
            self._console.print(self._said(len(going), done, left), soft_wrap=True, highlight=False)

    def _status(self, name: str) -> dict[str, Any]:
        run = StoredRun(self._folder / name)
        try:
            return run.status() if run.exists() else {"state": "missing"}
        except StorageError:
            return {"state": "failed"}

    def _step(self, name: str) -> int:
        """The last step of a member, from the end of its metrics; its pace is taken note of."""
        try:
            line = StoredRun(self._folder / name).last_line()
        except (OSError, StorageError):
            return 0
        step = int(line.get("step", 0))
        if step and "seconds" in line:
            self._pace[self._kinds[name]] = float(line["seconds"]) / step
        return step

    def _time_left(self, going: Mapping[str, int]) -> str:
        """By what a step of each kind of network takes, and how many members run at a time."""
        if not self._pace or not going:
            return ""
        usual = sum(self._pace.values()) / len(self._pace)
        seconds = sum(
            (length - going.get(name, self._at_start.get(name, 0)))
            * self._pace.get(self._kinds[name], usual)
            for name, length in self._left.items()
        )
        return f"{duration(seconds / len(going))} left" if seconds else "last measurements"

    def _counted(self, running: int) -> str:
        counts = self._counts
        ended = counts["done before"] + counts["done"] + counts["diverged"]
        parts = [f"{ended}/{self._members} done"]
        parts += [f"{counts['done before']} done before"] if counts["done before"] else []
        parts += [f"{running} running"] if running else []
        parts += [f"{counts[s]} {s}" for s in ("diverged", "failed") if counts[s]]
        return "  ".join(parts)

    def _rate(self, done: int) -> str:
        seconds = time.monotonic() - self._began
        return f"{done / seconds:,.0f} steps/s" if done and seconds > 1 else ""

    def _said(self, running: int, done: int = 0, left: str = "") -> str:
        """All of it as one line."""
        rate = self._rate(done)
        return "  ".join(filter(None, [self._counted(running), rate, left]))
