"""What a person sees of a run while it trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Display:
    """Shows how far a run is, its rate, its loss, its accuracy and the time left."""

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self._console = console or Console()
        self._title, self._total = title, total
        self._accuracy = ""
        self._began: tuple[float, int] | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, rate="", numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line of plain text, above the bar where there is one."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def resume(self, step: int) -> None:
        """The run goes on from `step`."""
        self.say(f"{self._title}  goes on from step {step}")
        self._bar.update(self._task, completed=step)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """The run is at `step`, and these are its newest numbers."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, step)
        seconds, steps = now - self._began[0], step - self._began[1]
        rate = steps / seconds if seconds > 0 else 0.0
        if "test_accuracy" in values:
            self._accuracy = f"test accuracy {values['test_accuracy']:.4f}"
        loss = f"loss {values['train_loss']:.4f}" if "train_loss" in values else ""
        numbers = "  ".join(part for part in (loss, self._accuracy) if part)
        if self._console.is_terminal:
            shown = f"{rate:,.0f} steps/s" if rate else ""
            self._bar.update(self._task, completed=step, rate=shown, numbers=numbers)
        elif "test_accuracy" in values:
            left = f"{(self._total - step) / rate:.0f} s left" if rate else ""
            speed = f"{rate:.0f} steps/s" if rate else ""
            parts = (f"{self._title}  step {step}/{self._total}", numbers, speed, left)
            self.say("  ".join(part for part in parts if part))


@contextmanager
def transfer() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for each file or folder being read: called with what, bytes or images done, total."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )
    tasks: dict[str, TaskID] = {}

    def progress(what: str, done: int, total: int | None) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield progress
