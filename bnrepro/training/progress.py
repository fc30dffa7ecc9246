"""What a person sees of a run while it trains: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich import progress as bars
from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

from bnrepro.terminal import duration, view

NARROWEST_BAR, WIDEST_BAR = 10, 40  # cells
ECHO = 2  # cells in which a terminal shows ^C; on a line of their own they would double the bar


class Bar(bars.Progress):
    """A bar that leaves out columns where the terminal is narrow, rather than cutting them.

    Args:
        columns: from left to right; a `BarColumn` among them gets the room that is left.
        optional: those that may be left out, the first of them first.
        options: of rich's `Progress`.
    """

    def __init__(
        self,
        *columns: bars.ProgressColumn,
        optional: Sequence[bars.ProgressColumn] = (),
        **options: Any,
    ) -> None:
        self._every, self._optional = columns, optional
        super().__init__(*columns, **options)

    def make_tasks_table(self, tasks: Iterable[bars.Task]) -> Table:
        """The table of the columns for which there is room."""
        visible = [task for task in tasks if task.visible]
        if not visible:  # as in `__init__`, before there is a console
            return super().make_tasks_table(visible)
        shown = list(self._every)
        for column in self._optional:
            if self._room(shown, visible) >= NARROWEST_BAR:
                break
            shown.remove(column)
        room = self._room(shown, visible)
        for column in shown:
            if isinstance(column, bars.BarColumn):
                column.bar_width = max(NARROWEST_BAR, min(WIDEST_BAR, room))
        self.columns = tuple(shown)
        return super().make_tasks_table(visible)

    def _room(self, columns: Sequence[bars.ProgressColumn], tasks: Sequence[bars.Task]) -> int:
        """The cells that these columns leave for the bar."""
        options = self.console.options
        taken = len(columns) - 1  # a space between two
        for column in columns:
            if not isinstance(column, bars.BarColumn):
                cells = [column(task) for task in tasks]
                taken += measure_renderables(self.console, options, cells).maximum
        return self.console.width - ECHO - taken


SHOWN = "test_accuracy", "validation_accuracy"
"""The accuracies that are shown while a run trains, the first that an evaluation has."""


class RunProgress:
    """Shows how far a run is, its rate, its loss, its accuracy and the time left.

    A `console` that cannot be written goes silent; the run continues.
    """

    def __init__(self, title: str, total: int, console: Console | None = None) -> None:
        self._console = console or Console()
        self._console.file = view(cast(TextIO, self._console.file))
        self._title, self._total = title, total
        self._accuracy = ""
        self._began: tuple[float, int] | None = None
        name, elapsed = bars.TextColumn("{task.description}"), bars.TimeElapsedColumn()
        rate, loss, accuracy = (
            bars.TextColumn(f"{{task.fields[{field}]}}") for field in ("rate", "loss", "accuracy")
        )
        self._bar = Bar(
            name,
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            rate,
            loss,
            accuracy,
            elapsed,
            bars.TimeRemainingColumn(),
            optional=(name, loss, elapsed, rate, accuracy),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, rate="", loss="", accuracy="")

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
        """Say that the run resumes from `step`."""
        self.say(f"{self._title}  resumed from step {step}")
        self._bar.update(self._task, completed=step)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """The run is at `step`, and these are its newest numbers."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, step)
        seconds, steps = now - self._began[0], step - self._began[1]
        rate = steps / seconds if seconds > 0 else 0.0
        evaluated = [name for name in SHOWN if name in values]
        for name in evaluated[:1]:
            self._accuracy = f"{name.replace('_', ' ')} {values[name]:.4f}"
        loss = f"loss {values['train_loss']:.4f}" if "train_loss" in values else ""
        if self._console.is_terminal:
            shown = f"{rate:,.0f} steps/s" if rate else ""
            self._bar.update(
                self._task, completed=step, rate=shown, loss=loss, accuracy=self._accuracy
            )
        elif evaluated:
            left = f"{duration((self._total - step) / rate)} left" if rate else ""
            speed = f"{rate:.0f} steps/s" if rate else ""
            parts = (f"{self._title}  step {step}/{self._total}", loss, self._accuracy, speed, left)
            self.say("  ".join(part for part in parts if part))


@contextmanager
def transfer_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for each file or folder being read: called with what, bytes or images done, total."""
    console = Console()
    bar = Bar(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks: dict[str, bars.TaskID] = {}

    def progress(what: str, done: int, total: int | None) -> None:
        if not tasks:
            bar.start()  # not before there is something to show: a bar without any is a blank line
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    try:
        yield progress
    finally:
        bar.stop()
