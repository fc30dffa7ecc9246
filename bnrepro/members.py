"""One member of a sweep as a process of its own, so that whatever befalls it befalls it alone.

Processes are forked from a server that has torch loaded (`multiprocessing`'s fork server), which
makes starting one cheap. The server does no computing of its own: torch's autograd, once used, does
not work in a forked process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bnrepro import store
from bnrepro.errors import BnreproError, Interrupted, RunInUseError
from bnrepro.signals import StopSignals
from bnrepro.sweepfolder import Member, finished, members_path, output, read_members

PRELOADED = (
    "matplotlib.backends.backend_agg", "matplotlib.figure", "sklearn.datasets", "torch._dynamo",
    "torch.utils.tensorboard", "hydra._internal.callbacks", "hydra.core.utils",
    "bnrepro.experiment", "bnrepro.launch",
)  # fmt: skip
SECONDS_TO_STOP = 15.0  # a run that is asked to stop keeps its state within 10
WAIT = 0.2
NOT_FOR_THE_SERVER = (signal.SIGTERM, signal.SIGUSR2)


_context: ForkServerContext | None = None


def _server() -> ForkServerContext:
    """The fork server of this process, started with the first member."""
    global _context
    if _context is None:
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(list(PRELOADED))
        resource_tracker.ensure_running()  # started by the server, it would unblock them again
        # Slurm signals every process of a job. The fork server has to live on until its members
        # have kept their state, and SIGUSR2, which says that the job's time runs out, is for the
        # job's own process alone.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_THE_SERVER)
        try:
            ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _context


def supervise(sweep: Path, digest: str, index: int, stop: Callable[[], bool]) -> None:
    """Run one member to its end in a process of its own; what became of it stands in its folder.

    Where `stop` says so, the member is asked to stop.
    """
    member = read_members(members_path(sweep, digest))[index]
    process = _server().Process(target=_run, args=(str(sweep), digest, index), name=member.name)
    process.start()
    try:
        while process.exitcode is None:
            process.join(WAIT)
            if stop():
                _end(process)
    except BaseException:  # this process is told to end: it takes the member with it
        _end(process)
        raise
    code, asked = process.exitcode, stop()
    process.close()
    if not asked and not finished(sweep, member.name):
        _note(sweep, member, code)


def _end(process: BaseProcess) -> None:
    process.terminate()
    process.join(SECONDS_TO_STOP)
    if process.exitcode is None:
        process.kill()
        process.join()


def _note(sweep: Path, member: Member, code: int) -> None:
    """Write down what ended a member that could not say so itself."""
    stored = store.StoredRun(sweep / member.name)
    if stored.exists() and stored.status()["state"] not in ("stale", "running"):
        return
    if code in (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT):
        return
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if code == -signal.SIGKILL:
        how += " (out of memory?)"
    store.note_failure(sweep / member.name, member.config, how)


def _run(folder: str, digest: str, index: int) -> None:
    """The member's process."""
    # Apart from the terminal's group: who supervises passes a signal on, once. A second one would
    # end the run on the spot.
    os.setsid()
    sweep = Path(folder)
    member = read_members(members_path(sweep, digest))[index]
    path = output(sweep, member.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with StopSignals(patient=True) as stop:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the server blocks it
            train(sweep, member, stop)
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
    from omegaconf import open_dict, read_write

    from bnrepro import config as c
    from bnrepro import experiment, launch

    config: dict[str, Any] = json.loads(json.dumps(member.config))
    config["run"]["dir"] = str(sweep / member.name)
    with launch.hydra_context("train"):
        composed = launch.compose_here([])  # for Hydra's own part; the rest was composed before
    with read_write(composed), open_dict(composed):
        for key, value in c.escaped(config).items():
            composed[key] = value
        composed.hydra.overrides.task = list(member.overrides)
    job = launch.Job(composed, c.parse(composed))

    while True:
        try:
            launch.run(job, experiment.run, sweep, stop)
        except RunInUseError:
            time.sleep(WAIT)
        else:
            return
