"""A command run in a process of its own, and what of its end is never right."""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import fork

from bnrepro.cli import WORKING, main

PATIENCE = 120.0  # seconds; longer is a hang, on whatever machine
MEMORY = 1500  # MB more than the process that was forked had
UNSHOWABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
CODES = (0, 1, 2, 3, 4, 5)
INTERRUPTED = 130  # right for a command that trains and was told to stop


@dataclass
class Ended:
    """How a command ended: its exit code (None where it hung), and what it printed."""

    words: Sequence[str]
    code: int | None
    out: str
    errors: str
    megabytes: int

    @property
    def trains(self) -> bool:
        """Whether the command may take hours; it is interrupted then."""
        return any(word in WORKING for word in self.words[:1])

    def faults(self) -> list[str]:
        """What must not be, whatever was typed and whatever lies on the disk."""
        told = [line for line in self.errors.splitlines() if "bnrepro: error:" in line]
        found = []
        if self.code is None:
            found.append(f"hangs for {PATIENCE:.0f} s")
        elif self.code not in CODES and not (self.code == INTERRUPTED and self.trains):
            found.append(f"exit code {self.code}")
        if "Traceback" in self.errors and "--debug" not in self.words:
            found.append("a traceback")
        if self.code in (2, 3, 4, 5, INTERRUPTED) and len(told) != 1:
            found.append(f"{len(told)} lines of error with exit code {self.code}")
        if "--debug" not in self.words and UNSHOWABLE.search(self.out + self.errors):
            found.append("control characters")
        if self.megabytes > MEMORY:
            found.append(f"{self.megabytes} MB")
        return found

    def __str__(self) -> str:
        return f"{list(self.words)!r} -> {self.code}: {self.errors[-600:]}"


def judged(
    words: Sequence[str],
    place: Path,
    log: Path,
    *,
    encoding: str = "utf-8",
    environment: dict[str, str] | None = None,
    patience: float = PATIENCE,
) -> Ended:
    """`bnrepro WORDS` in the folder `place`; what it prints goes through `log`."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def work() -> int:
        os.setsid()  # so that whatever it started can be ended with it
        room = MEMORY << 21  # twice what is right, and less than would harm the machine
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + room,) * 2)
        os.chdir(place)
        os.environ.update(environment or {})
        for number, kind in ((1, "out"), (2, "err")):
            opened = os.open(f"{log}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0), encoding, write_through=True)
        sys.stderr = io.TextIOWrapper(
            os.fdopen(2, "wb", 0), encoding, errors="backslashreplace", write_through=True
        )
        return main(list(words))

    pid = fork(work)
    until = time.monotonic() + patience
    found, told = (0, 0, None), False
    while time.monotonic() < until and not found[0]:
        found = os.wait4(pid, os.WNOHANG)
        if not found[0]:
            time.sleep(0.01)
        if not told and time.monotonic() > until - patience / 2:
            os.kill(pid, signal.SIGINT)
            told = True
    code: int | None = None
    if found[0]:
        code = os.waitstatus_to_exitcode(found[1])
    else:
        found = (pid, 0, None)
    with contextlib.suppress(ProcessLookupError):  # what it left behind, or itself
        os.killpg(pid, signal.SIGKILL)
    if code is None:
        os.waitpid(pid, 0)
    used = found[2].ru_maxrss if found[2] is not None else own
    out, errors = (
        Path(f"{log}.{kind}").read_bytes().decode(encoding, "replace") for kind in ("out", "err")
    )
    return Ended(words, code, out, errors, (used - own) // 1024)


def _address_space() -> int:
    """Bytes that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
