"""Text on its way to a terminal: it commands no terminal, and no terminal ends the work."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line separators, direction of writing
    "\ud800-\udfff]"  # bytes of a file's name that are no UTF-8
)


def printable(text: str) -> str:
    """Replace each character that a terminal would obey, or that hides others, by U+FFFD."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text)


def as_text(value: object) -> str:
    """A value in a table's cell: nothing for None."""
    return "" if value is None else str(value)


def open_streams() -> None:
    """Make standard output and error take any text.

    A character that the encoding lacks is replaced. What is printed to a stream that was closed
    goes nowhere.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, number)
            if descriptor != number:
                os.close(descriptor)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class View:
    """A text stream that goes silent once it cannot be written, instead of raising.

    The reader of a pipe has gone, a terminal was closed, a disk is full: what is shown is lost.
    The stream's descriptor is pointed at the null device, so that the interpreter's last flush at
    exit does not fail either.

    Args:
        stream: the stream to write to.
        ignored: the errors that silence the stream; others are raised.
        warns: say once on standard error that the output is lost.
    """

    def __init__(
        self, stream: TextIO, ignored: type[OSError] = OSError, *, warns: bool = False
    ) -> None:
        self._stream, self._ignored, self._warns = stream, ignored, warns
        self._lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        if text == "":  # click tries what a stream takes, and would hide what it raises
            return 0
        if not self._lost:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, unless it is lost."""
        if not self._lost:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self._lost = True
        with suppress(OSError, ValueError):  # a stream in memory has no descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, self._stream.fileno())
            finally:
                os.close(null)
            self._stream.flush()
        if not isinstance(error, self._ignored):
            raise error
        if self._warns:
            with suppress(OSError):
                print(
                    f"bnrepro: warning: the output cannot be written ({error.strerror or error}): "
                    "work continues without it",
                    file=sys.stderr,
                    flush=True,
                )


def view(stream: TextIO) -> TextIO:
    """The same stream as a `View`; one that is a view already stays as it is."""
    return stream if isinstance(stream, View) else cast(TextIO, View(stream, warns=True))


@contextmanager
def views(*, working: bool) -> Iterator[None]:
    """Make standard output and standard error views while a command runs.

    Args:
        working: the command computes, and its output only shows how far it is. Otherwise the
            output is what was asked for: only a reader that has seen enough of it is ignored.
    """
    output = View(sys.stdout, OSError if working else BrokenPipeError, warns=working)
    with redirect_stderr(cast(TextIO, View(sys.stderr))), redirect_stdout(cast(TextIO, output)):
        yield


def duration(seconds: float) -> str:
    """Seconds as a person says them: `42 s`, `3 min`, `2 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
