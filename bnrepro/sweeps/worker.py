"""One member of a sweep as a process of its own, so that whatever befalls it befalls it alone.

Processes are forked from a server that has torch loaded (`multiprocessing`'s fork server), which
makes starting one cheap. The server does no computing of its own: torch's autograd, once used, does
not work in a forked process.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from bnrepro import config as c
from bnrepro import store
from bnrepro.errors import BnreproError, Interrupted, RunInUseError, UnreadableError
from bnrepro.store.sweep import Member, finished, output, read_some
from bnrepro.training.signals import STOPPING, StopSignals

if TYPE_CHECKING:
    from rich.console import Console

    from bnrepro.config.compose import ComposedRun
    from bnrepro.training.launch import OpenRun

PRELOADED = (
    "matplotlib.backends.backend_agg", "matplotlib.figure", "sklearn.datasets", "torch._dynamo",
    "torch.utils.tensorboard", "hydra._internal.callbacks", "hydra.core.utils",
    "bnrepro.training.run", "bnrepro.training.launch", "bnrepro.sweeps.preloaded",
)  # fmt: skip
SECONDS_TO_STOP = 15.0  # a run that is asked to stop keeps its state within 10
WAIT = 0.2
NOT_FOR_THE_SERVER = (*STOPPING, signal.SIGUSR2)
WITHOUT_SERVER = 255
"""What multiprocessing takes for the exit code of a process whose fork server was killed."""


_context: ForkServerContext | None = None
_processes = threading.Lock()
"""Held while processes are started or asked how they ended: starting one asks all of them, and an
answer that two threads read at once would be lost."""


SOCKET_FOLDER_BYTES = 70
"""Of the 107 bytes of a socket's name, what multiprocessing's own folder and file leave."""


def _server() -> ForkServerContext:
    """The fork server of this process, started with the first member, or again if it was killed."""
    global _context
    if _context is None:
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(list(PRELOADED))
        resource_tracker.ensure_running()  # started by the server, it would unblock them again
    # A terminal signals every process of a command, and Slurm every process of a job. The fork
    # server has to live on until its members have kept their state, and SIGUSR2, which says that
    # the job's time runs out, is for the job's own process alone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_THE_SERVER)
    try:
        with _short_temporary_folder():
            ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _context


@contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """Have multiprocessing make its socket in /tmp if TMPDIR is too long for a socket's name."""
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > SOCKET_FOLDER_BYTES:
        tempfile.tempdir = "/tmp"
    try:
        yield
    finally:
        tempfile.tempdir = before


def supervise(sweep: Path, digest: str, indices: Sequence[int], stop: Callable[[], bool]) -> None:
    """Run a member, or several together, to their end in a process of its own.

    What became of each stands in its folder. Where `stop` says so, they are asked to stop.
    """
    members = read_some(sweep, digest, indices)
    with _processes:
        process = _start(partial(_run, sweep, members), members[0].name)
    try:
        while (code := _exit_code(process, WAIT)) is None:
            if stop():
                _end(process)
        if code == WITHOUT_SERVER:
            _outlast(process.pid, stop)
    except BaseException:  # this process has to end: it takes the member with it
        _end(process)
        raise
    asked = stop()
    with _processes:
        process.close()
    for member in members:
        if not asked and not finished(sweep, member):
            _note(sweep, member, code)


def _start(work: Callable[[], None], name: str) -> BaseProcess:
    """A process forked from the server; from a new one where the server was killed meanwhile."""
    for last in (False, True):
        process = _server().Process(target=work, name=name)
        try:
            process.start()
        except (OSError, EOFError):
            if last:
                raise
            time.sleep(WAIT)  # until the system has put the old one away
        else:
            break
    return process


def _exit_code(process: BaseProcess, seconds: float) -> int | None:
    """How a process ended; None if it runs on after some seconds."""
    wait([process.sentinel], seconds)
    with _processes:
        return process.exitcode


def _outlast(pid: int | None, stop: Callable[[], bool]) -> None:
    """Wait for a member that lives on although its server was killed, which would tell its end."""
    try:
        ended = os.pidfd_open(pid or 0)
    except (OSError, AttributeError):  # it has ended, or this is no Linux
        return
    try:
        while not select.select([ended], [], [], WAIT)[0]:
            if stop():
                signal.pidfd_send_signal(ended, signal.SIGTERM)
    finally:
        os.close(ended)


def _end(process: BaseProcess) -> None:
    with _processes:
        process.terminate()
    if _exit_code(process, SECONDS_TO_STOP) is None:
        with _processes:
            process.kill()
        wait([process.sentinel])


def _note(sweep: Path, member: Member, code: int) -> None:
    """Write down what ended a member that could not say so itself."""
    stored = store.StoredRun(sweep / member.name)
    with suppress(UnreadableError):
        if stored.exists() and stored.status()["state"] not in ("stale", "running"):
            return
    if code in {*(-number for number in STOPPING), *(128 + number for number in STOPPING)}:
        return
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if code == WITHOUT_SERVER:
        how = "ended when its fork server was killed (out of memory?)"
    if code == -signal.SIGKILL:
        how += " (out of memory?)"
    store.note_failure(sweep / member.name, member.config, how)


def _run(sweep: Path, members: list[Member]) -> None:
    """The process of a member, or of several together."""
    # Apart from the terminal's group: who supervises passes a signal on, once. A second one would
    # end the run on the spot.
    os.setsid()
    path = output(sweep, members[0].name)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with StopSignals(patient=True) as stop:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # the server blocks them
            if len(members) == 1:
                train(sweep, members[0], stop)
            else:
                train_stack(sweep, members, stop)
    except Interrupted as error:
        code = error.exit_code
    except BnreproError as error:
        print(f"bnrepro: error: {error}", file=sys.stderr)
        code = error.exit_code
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _end_with_parent() -> None:
    """Ask this process to stop when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def train(sweep: Path, member: Member, stop: StopSignals) -> None:
    """Train one member in this process; waits while another process is at it."""
    [composed] = _composed(sweep, [member])
    _train(sweep, member, composed, stop)


def train_stack(sweep: Path, members: Sequence[Member], stop: StopSignals) -> None:
    """Train members that differ only in numbers as one stack, then one by one those left out."""
    from rich.console import Console

    from bnrepro.training import launch, stacked

    every = _composed(sweep, members)
    consoles = [
        Console(file=open(output(sweep, member.name), "a", buffering=1))  # noqa: SIM115
        for member in members
    ]
    alone: list[int] = []
    runs = []
    can_stack = stacked.can_stack(every[0].config)
    for index, (composed, console) in enumerate(zip(every, consoles, strict=True)):
        if not can_stack:
            alone.append(index)
            continue
        try:
            opened = launch.open_run(composed, sweep)
        except RunInUseError:
            alone.append(index)
        except BnreproError as error:
            _print_error(console, error)
        else:
            if opened is not None:
                opened.execute(lambda: None)  # leaves Hydra's record
                on_end = partial(_record_end, opened, console)
                config, registered = opened.run.config, members[index].registered
                runs.append(stacked.StackedRun(config, opened.writer, console, on_end, registered))
    if runs:
        stacked.run(runs, stop)
    for index in alone:
        try:
            _train(sweep, members[index], every[index], stop)
        except BnreproError as error:
            _print_error(consoles[index], error)


def _record_end(opened: OpenRun, console: Console, error: BaseException) -> None:
    """Leave behind what a member that fails alone leaves."""

    def fail() -> None:
        raise error

    opened.record_end(error)
    if isinstance(error, Exception):
        with suppress(Exception):
            opened.execute(fail)  # into the log, with its traceback
        _print_error(console, error)


def _print_error(console: Console, error: Exception) -> None:
    console.print(f"bnrepro: error: {error}", markup=False, highlight=False, soft_wrap=True)


def _composed(sweep: Path, members: Sequence[Member]) -> list[ComposedRun]:
    """What each member runs: its configuration as it was composed before, in its own folder."""
    from bnrepro.config.compose import with_hydra_node

    configs = []
    for member in members:
        config = c.from_dict(member.config)
        stored = store.StoredRun(sweep / member.name)
        restart = stored.damaged(probes=False) or c.other_results(stored.manifest())
        folder = replace(
            config.run,
            dir=str(sweep / member.name),
            overwrite=config.run.overwrite or bool(restart),
        )
        configs.append(replace(config, run=folder))
    return with_hydra_node(configs, [member.overrides for member in members])


def _train(sweep: Path, member: Member, composed: ComposedRun, stop: StopSignals) -> None:
    from bnrepro.training import launch, run

    train = partial(run.run, restart=True, registered=member.registered)
    while True:
        try:
            launch.run(composed, train, sweep, stop)
        except RunInUseError:
            time.sleep(WAIT)
        else:
            return
