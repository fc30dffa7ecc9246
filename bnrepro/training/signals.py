"""Signals that ask a run to stop: it finishes its step and keeps its state first."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from bnrepro.errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask to stop: Ctrl-C, an end from outside, a terminal that was closed."""


class StopSignals:
    """Within it, the signals that ask to stop become an `Interrupted`, now or at a good moment.

    While `deferred`, the first signal is only noted in `received`: whoever defers has to ask for
    it. A second signal ends the process on the spot; every file is whole at every moment, so that
    is safe too. Not where it is `patient`: then several may ask for the same stop, such as Slurm
    and the process that supervises, and that one ends what does not stop. Nor is a second SIGHUP
    one: for a closed terminal the shell and the kernel each send theirs. An ignored SIGINT (a job
    in the background of a script) or SIGHUP (`nohup`) stays ignored.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.received: int | None = None
        self._patient = patient
        self._deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if self._patient or number == signal.SIGHUP:
                return
            os._exit(128 + number)
        self.received = number
        if not self._deferring:
            raise Interrupted(number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within it, the first signal is noted and nothing is raised."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
