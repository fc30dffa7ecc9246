"""One member of a sweep as a process of its own, so that whatever befalls it befalls it alone.

Processes are forked from a server that has torch loaded (`multiprocessing`'s fork server), which
makes starting one cheap. The server does no computing of its own: torch's autograd, once used, does
not work in a forked process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnrepro import config as c
from bnrepro import store
from bnrepro.errors import BnreproError, Interrupted, RunInUseError, UnreadableError
from bnrepro.signals import STOPPING, StopSignals
from bnrepro.sweepfolder import Member, finished, output, read_some

if TYPE_CHECKING:
    from rich.console import Console

    from bnrepro.launch import Job, Taken

NUMBERS = (
    "seed", "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "init.scale",
    "model.dropout",
)  # fmt: skip
"""Settings in which members that train together may differ."""

PRELOADED = (
    "matplotlib.backends.backend_agg", "matplotlib.figure", "sklearn.datasets", "torch._dynamo",
    "torch.utils.tensorboard", "hydra._internal.callbacks", "hydra.core.utils",
    "bnrepro.experiment", "bnrepro.launch", "bnrepro.preloaded",
)  # fmt: skip
SECONDS_TO_STOP = 15.0  # a run that is asked to stop keeps its state within 10
WAIT = 0.2
NOT_FOR_THE_SERVER = (*STOPPING, signal.SIGUSR2)
WITHOUT_SERVER = 255
"""What multiprocessing takes for the exit code of a process whose fork server was killed."""


_context: ForkServerContext | None = None


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


def stacks(found: Sequence[Member], pending: Sequence[int], size: int) -> list[list[int]]:
    """Those pending, in stacks of at most `size` that train together as one computation.

    The grouping depends on all members, not on which are pending, so a killed stack resumes as it
    was. A member that fits no other has a stack of its own.
    """
    place: dict[int, tuple[str, int]] = {}
    met: dict[str, int] = {}
    for index, member in enumerate(found):
        common = _common(member.config) if size > 1 else None
        name = f"{index}" if common is None else json.dumps(common, sort_keys=True)
        place[index] = name, met.get(name, 0) // size
        met[name] = met.get(name, 0) + 1
    found_stacks: dict[tuple[str, int], list[int]] = {}
    for index in pending:
        found_stacks.setdefault(place[index], []).append(index)
    return [sorted(stack) for stack in found_stacks.values()]


def said(found: Sequence[Sequence[int]]) -> str:
    """How many members train together, in a line."""
    together = [len(indices) for indices in found if len(indices) > 1]
    alone = sum(len(indices) == 1 for indices in found)
    return f"{sum(together)} members in {len(together)} stacks, {alone} one by one"


def _common(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a member shares with all it can train together with; None where it trains alone."""
    settings = c.flat(config)
    stackable = (
        settings["model.name"] == "mlp"
        and settings["norm.name"] in ("none", "batch")
        and settings["optimizer.name"] == "sgd"
        and not settings.get("train.compile")
        # Batches of examples have one size, step by step.
        and settings.get("train.shuffling", "examples") == "examples"
    )
    if not stackable:
        return None
    own = (*NUMBERS, "tags")
    common = {k: v for k, v in settings.items() if k not in own and not k.startswith("run.")}
    return {**common, "dropout": settings["model.dropout"] > 0}


def supervise(sweep: Path, digest: str, indices: Sequence[int], stop: Callable[[], bool]) -> None:
    """Run a member, or several together, to their end in a process of its own.

    What became of each stands in its folder. Where `stop` says so, they are asked to stop.
    """
    members = read_some(sweep, digest, indices)
    process = _start(partial(_run, sweep, members), members[0].name)
    try:
        while process.exitcode is None:
            process.join(WAIT)
            if stop():
                _end(process)
        if process.exitcode == WITHOUT_SERVER:
            _outlast(process.pid, stop)
    except BaseException:  # this process has to end: it takes the member with it
        _end(process)
        raise
    code, asked = process.exitcode, stop()
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
    process.terminate()
    process.join(SECONDS_TO_STOP)
    if process.exitcode is None:
        process.kill()
        process.join()


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
                train_together(sweep, members, stop)
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
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def train(sweep: Path, member: Member, stop: StopSignals) -> None:
    """Train one member in this process; waits while another process is at it."""
    [job] = _jobs(sweep, [member])
    _train(sweep, job, stop)


def train_together(sweep: Path, members: Sequence[Member], stop: StopSignals) -> None:
    """Train members that differ in numbers only, together; after them, alone, who could not."""
    from rich.console import Console

    from bnrepro import launch, together

    jobs = _jobs(sweep, members)
    consoles = [
        Console(file=open(output(sweep, member.name), "a", buffering=1))  # noqa: SIM115
        for member in members
    ]
    alone: list[int] = []
    runs = []
    can_stack = together.can_stack(jobs[0].config)
    for index, (job, console) in enumerate(zip(jobs, consoles, strict=True)):
        if not can_stack:
            alone.append(index)
            continue
        try:
            taken = launch.take(job, sweep)
        except RunInUseError:
            alone.append(index)
        except BnreproError as error:
            _tell(console, error)
        else:
            if taken is not None:
                taken.call(lambda: None)  # leaves Hydra's record
                ended = partial(_ended, taken, console)
                runs.append(together.Run(job.config, taken.writer, console, ended))
    if runs:
        together.run(runs, stop)
    for index in alone:
        try:
            _train(sweep, jobs[index], stop)
        except BnreproError as error:
            _tell(consoles[index], error)


def _ended(taken: Taken, console: Console, error: BaseException) -> None:
    """Leave behind what a member that fails alone leaves."""

    def fail() -> None:
        raise error

    taken.ended(error)
    if isinstance(error, Exception):
        with suppress(Exception):
            taken.call(fail)  # into the log, with its traceback
        _tell(console, error)


def _tell(console: Console, error: Exception) -> None:
    console.print(f"bnrepro: error: {error}", markup=False, highlight=False, soft_wrap=True)


def _jobs(sweep: Path, members: Sequence[Member]) -> list[Job]:
    """What each member runs, its configuration as it was composed before."""
    from omegaconf import open_dict, read_write

    from bnrepro import launch

    with launch.hydra_context("train"):
        plain = launch.compose_here([])  # for Hydra's own part
    jobs = []
    for member in members:
        config: dict[str, Any] = json.loads(json.dumps(member.config))
        config["run"]["dir"] = str(sweep / member.name)
        stored = store.StoredRun(sweep / member.name)
        if stored.damaged(probes=False) or c.other_results(stored.manifest()):
            config["run"]["overwrite"] = True
        composed = plain.copy()
        with read_write(composed), open_dict(composed):
            for key, value in c.escaped(config).items():
                composed[key] = value
            composed.hydra.overrides.task = list(member.overrides)
        jobs.append(launch.Job(composed, c.parse(composed)))
    return jobs


def _train(sweep: Path, job: Job, stop: StopSignals) -> None:
    from bnrepro import experiment, launch

    while True:
        try:
            launch.run(job, partial(experiment.run, restart=True), sweep, stop)
        except RunInUseError:
            time.sleep(WAIT)
        else:
            return
