"""Where a sweep's members run: here, one after another, or wherever one of Hydra's launchers is.

Nothing here schedules: a launcher is given the members' numbers, and what it calls for each only
starts the member's process and waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnrepro import members
from bnrepro.errors import ConfigError, Interrupted
from bnrepro.launch import explaining, hydra_context, quoted
from bnrepro.signals import StopSignals
from bnrepro.sweepfolder import OWN

if TYPE_CHECKING:
    from omegaconf import DictConfig

HERE = "basic"
"""Hydra's name for its own launcher, in whose place stands the loop below."""

BATCH = 1000  # members a launcher gets at once: what it returns for each is held until the last


@dataclass(frozen=True)
class Engine:
    """One of Hydra's launchers by name, its settings as overrides, the threads of each member."""

    launcher: str = HERE
    words: tuple[str, ...] = ()
    threads: int = 1


def run(
    engine: Engine, sweep: Path, digest: str, pending: Sequence[int], stop: StopSignals
) -> None:
    """Run these members of a request, by their numbers.

    Raises:
        Interrupted: a signal came; members that ran were asked to stop.
    """
    if engine.launcher == HERE:
        _here(sweep, digest, pending, stop)
        return
    for first in range(0, len(pending), BATCH):
        _launch(engine, sweep, digest, pending[first : first + BATCH])


def _here(sweep: Path, digest: str, pending: Sequence[int], stop: StopSignals) -> None:
    with stop.deferred():
        for index in pending:
            members.supervise(sweep, digest, index, lambda: stop.received is not None)
            if stop.received is not None:
                raise Interrupted(stop.received)


class Task:
    """What a launcher calls for each member, in a process of its own choosing."""

    def __init__(self, sweep: Path, digest: str) -> None:
        self._sweep, self._digest = sweep, digest

    def __call__(self, config: DictConfig) -> None:
        """Run the member whose number the configuration carries."""
        _end_with_launcher()
        members.supervise(self._sweep, self._digest, int(config.member), lambda: False)


@cache
def _end_with_launcher() -> None:
    """End this process, a launcher's, when the one that started it is gone.

    A launcher's idle processes would outlive a sweep that was killed, each with its fork server. A
    member that is running notices that this process is gone, and keeps its state.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _launch(engine: Engine, sweep: Path, digest: str, indices: Sequence[int]) -> None:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext, RunMode

    # Hydra composes a configuration for every job, where it runs: it carries only the number of a
    # member, whose own configuration was composed before.
    own = sweep / OWN
    overrides = [
        *engine.words,
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir={quoted(str(own))}",
        "hydra.sweep.subdir=jobs",
        "hydra.output_subdir=null",
    ]
    with hydra_context("sweep") as hydra, explaining():
        config = hydra.compose_config("config", overrides, RunMode.MULTIRUN)
        context = HydraContext(hydra.config_loader, Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, Task(sweep, digest), config)
    _limit_threads(engine, config)
    with hydra_context("sweep"):
        for job in launcher.launch([[f"+member={index}"] for index in indices], 0):
            _ = job.return_value  # raises what supervising raised: a bug, not a member's failure


def _limit_threads(engine: Engine, config: Any) -> None:
    """Refuse more threads at once on this machine than it has cores."""
    jobs = config.hydra.launcher.get("n_jobs")
    cores = os.cpu_count() or 1
    if not isinstance(jobs, int):
        return
    at_once = cores + 1 + jobs if jobs < 0 else jobs
    if engine.threads > 1 and at_once * engine.threads > cores:
        raise ConfigError(
            f"{at_once} jobs of {engine.threads} threads on {cores} cores would slow each other "
            "down (threads): use threads=1 or fewer hydra.launcher.n_jobs"
        )
