"""Where a sweep's members run: here, some at a time, or wherever one of Hydra's launchers is.

Nothing here schedules: threads or a launcher are given the members' numbers, and what is called for
each only starts the member's process and waits for it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnrepro.config import hydra
from bnrepro.config.compose import compose_config
from bnrepro.errors import BnreproError, ConfigError, Interrupted, LauncherError
from bnrepro.store import FINISHED, StoredRun, lock
from bnrepro.store.sweep import OWN, read_some
from bnrepro.sweeps import worker
from bnrepro.training.signals import StopSignals

if TYPE_CHECKING:
    from omegaconf import DictConfig

BASIC = "basic"
"""Hydra's name for its own launcher, in whose place stand the threads below."""

SUBMITIT = ("submitit_local", "submitit_slurm")
"""Launchers that make a job of each member; its process gets a signal before its end."""

BATCH = 1000  # members a launcher gets at once: what it returns for each is held until the last


ATTEMPTS = 3
"""How often what a launcher has not done is given to it again when a process of its own is lost."""


class WorkerLostError(LauncherError):
    """A process of a launcher's own was killed, and with it the launcher gave up all others."""


@dataclass(frozen=True)
class LauncherChoice:
    """One of Hydra's launchers by name, its settings as overrides, the threads of each member.

    `jobs` is how many members run at a time on this machine, below 0 counted from all cores, as
    joblib does: -1 is one each. A launcher of Hydra's has it from its own settings.

    Raises:
        ConfigError: `jobs` times `threads` is more than this machine has cores.
    """

    launcher: str = BASIC
    words: tuple[str, ...] = ()
    threads: int = 1
    jobs: int = 1

    def __post_init__(self) -> None:
        """Refuse it here, before anything is written."""
        at_once = cores() + 1 + self.jobs if self.jobs < 0 else self.jobs
        if min(at_once, self.threads) > 1 and at_once * self.threads > cores():
            raise ConfigError(
                f"{at_once} jobs of {self.threads} threads on {cores()} cores would slow each "
                "other down (threads): use threads=1 or fewer jobs"
            )


OF_LAUNCHER = ("hydra/launcher=", "hydra.launcher.")
"""How overrides of Hydra's launcher begin."""


def refuse_both(jobs: int | None, words: Sequence[str]) -> None:
    """Refuse `--jobs` together with overrides of a launcher, which say how many as well.

    Raises:
        ConfigError: both are given.
    """
    given = next((word for word in words if word.lstrip("+").startswith(OF_LAUNCHER)), None)
    if jobs is not None and given:
        raise ConfigError(f"two ways to run (--jobs {jobs}, {given}): give one of them")


def jobs_of(composed: DictConfig) -> int:
    """How many members run at a time by the settings of a launcher; 1 where it has none for it."""
    jobs = composed.hydra.launcher.get("n_jobs")
    return jobs if isinstance(jobs, int) else 1


def choose(words: Sequence[str]) -> LauncherChoice:
    """The launcher that overrides of Hydra's launcher choose.

    Raises:
        ConfigError: one is no such override, or what it says cannot be.
    """
    for word in words:
        if not word.lstrip("+").startswith(OF_LAUNCHER):
            raise ConfigError(
                f"a claim fixes what is run ({word}): choose only where it runs, by "
                "hydra/launcher=NAME and hydra.launcher.SETTING=VALUE"
            )
    with hydra.context("launcher"):
        composed = compose_config(words)
    name = str(composed.hydra.runtime.choices["hydra/launcher"])
    return LauncherChoice(name, tuple(words), jobs=jobs_of(composed))


def run(
    choice: LauncherChoice,
    sweep: Path,
    digest: str,
    pending: Sequence[Sequence[int]],
    stop: StopSignals,
) -> None:
    """Run these members of a request, by their numbers; several at once train together.

    Raises:
        Interrupted: a signal came; members that ran were asked to stop.
    """
    if choice.launcher == BASIC:
        _run_here(sweep, digest, pending, stop, choice.jobs)
        return
    at_once = BATCH
    if choice.launcher == "submitit_local":  # it starts at once all that it gets
        at_once = max(1, cores() // choice.threads)
    for first in range(0, len(pending), at_once):
        batch = list(pending[first : first + at_once])
        for attempt in range(ATTEMPTS):
            try:
                _launch(choice, sweep, digest, batch)
                break
            except WorkerLostError:  # the system's choice, if memory is short: the others continue
                batch = _not_done(sweep, digest, batch)
                if attempt == ATTEMPTS - 1:
                    raise


def _run_here(
    sweep: Path, digest: str, pending: Sequence[Sequence[int]], stop: StopSignals, jobs: int
) -> None:
    broken = threading.Event()

    def asked() -> bool:
        return stop.received is not None or broken.is_set()

    def supervise(indices: Sequence[int]) -> None:
        try:
            if not asked():
                worker.supervise(sweep, digest, indices, asked)
        except BaseException:  # a bug, or this process has to end: the others are not begun
            broken.set()
            raise

    with stop.deferred(), ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(supervise, indices) for indices in pending]:
            done.result()
        if stop.received is not None:
            raise Interrupted(stop.received)


class Task:
    """What a launcher calls for each member, in a process of its own choosing."""

    def __init__(self, sweep: Path, digest: str, launcher: str) -> None:
        self._sweep, self._digest, self._launcher = sweep, digest, launcher
        self._folder, self._sweeper = os.getcwd(), lock.me()

    def __call__(self, config: DictConfig) -> None:
        """Run the members whose numbers the configuration carries."""
        os.chdir(self._folder)  # what a configuration names may be relative
        # Between the sweep and its job on this machine, submitit has a process that lives on.
        _end_with_launcher(self._sweeper if self._launcher == "submitit_local" else None)
        if self._launcher in SUBMITIT:
            self._as_job(list(config.members))
        else:
            worker.supervise(self._sweep, self._digest, list(config.members), lambda: False)

    def _as_job(self, indices: Sequence[int]) -> None:
        """Run a member so that its job can be ended, and begun again, at any time.

        Slurm ends a job by SIGTERM, when it is cancelled and when it is preempted or requeued, and
        submitit would take no notice of it. The job must not return then: that would be its result,
        and nobody would wait for what it does when it is begun again.
        """
        with StopSignals() as stop, stop.deferred():
            worker.supervise(self._sweep, self._digest, indices, lambda: stop.received is not None)
            if stop.received is not None:
                sys.exit(128 + stop.received)


_watched = False


def _end_with_launcher(sweeper: Mapping[str, Any] | None) -> None:
    """End this process, a launcher's, when the one that started it is gone, or the sweep's own.

    A launcher's idle processes would outlive a sweep that was killed, each with its fork server. A
    member that is running notices that this process is gone, and keeps its state.
    """
    global _watched
    if _watched:
        return
    _watched, parent = True, os.getppid()

    def watch() -> None:
        while os.getppid() == parent and (sweeper is None or lock.alive(sweeper)):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _launch(
    choice: LauncherChoice, sweep: Path, digest: str, pending: Sequence[Sequence[int]]
) -> None:
    # Hydra composes a configuration for every job, where it runs: it carries only numbers of
    # members, whose own configurations were composed before.
    overrides = [
        *choice.words,
        f"threads={choice.threads}",
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir={hydra.quoted(str(sweep / OWN))}",
        "hydra.sweep.subdir=jobs",
        "hydra.output_subdir=null",
    ]
    with hydra.context("sweep"):
        _, launch = hydra.launcher(overrides, Task(sweep, digest, choice.launcher))
    with hydra.context("sweep"), _one_line_errors(choice, sweep):
        for job in launch([[f"+members={list(indices)}"] for indices in pending]):
            _ = job.return_value  # raises what supervising raised: a bug, not a member's failure


@contextmanager
def _one_line_errors(choice: LauncherChoice, sweep: Path) -> Iterator[None]:
    """Say in one line what a launcher could not do."""
    try:
        yield
    except BnreproError:
        raise
    except Exception as error:
        lost = any(kind.__name__ == "BrokenProcessPool" for kind in type(error).__mro__)
        if choice.launcher == "joblib" and not lost:
            raise  # it runs what we give it, here: then the error is ours
        message = " ".join(str(error).split())[:300]
        raise (WorkerLostError if lost else LauncherError)(
            f"{choice.launcher} ended without the result of every member: {message} ({sweep}): "
            "resolve that, then rerun the same command to resume"
        ) from error


def _not_done(sweep: Path, digest: str, pending: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """What of these is neither a result nor has failed by itself."""
    left = []
    for indices in pending:
        stored = [StoredRun(sweep / m.name) for m in read_some(sweep, digest, indices)]
        ended = (*FINISHED, "failed")
        if any(not run.exists() or run.status()["state"] not in ended for run in stored):
            left.append(indices)
    return left


def cores() -> int:
    """The cores that this process may use: a job of Slurm has fewer than its machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
