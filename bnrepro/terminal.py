"""Text on its way to a terminal: no file or name of somebody else's commands the terminal."""

from __future__ import annotations

import io
import os
import re
import sys

_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line separators, direction of writing
    "\ud800-\udfff]"  # bytes of a file's name that are no UTF-8
)


def printable(text: str) -> str:
    """Replace each character that a terminal would obey, or that hides others, by U+FFFD."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", text)


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
