"""Work in processes of their own, forked from one that has loaded what they need."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bnrepro.errors import BnreproError, Interrupted

CORES = len(os.sched_getaffinity(0))


def preload(*more: str) -> None:
    """Import once what every forked run needs, and `more`. Nothing may train here: torch's
    autograd, once used, does not work in a forked process."""
    for name in (
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "sklearn.datasets",
        "torch.utils.tensorboard",
        "hydra._internal.config_loader_impl",
        "hydra.core.override_parser.overrides_parser",
        "bnrepro.cli",
        "bnrepro.training.run",
        "bnrepro.training.launch",
        "bnrepro.sweeps.preloaded",
        "bnrepro.sweeps.sweep",
        *more,
    ):
        importlib.import_module(name)


def fork(work: Callable[[], int | None]) -> int:
    """Start `work` in a process of its own; its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have made us deaf to them
            signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        code = work() or 0
    except BnreproError as error:
        code = error.exit_code
    except Interrupted as error:
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """The exit code of a forked process; that of a killed one is minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def share(jobs: Iterable[Callable[[], int | None]]) -> list[int]:
    """Exit codes of jobs, each in a process of its own, as many at once as there are cores."""
    with ThreadPoolExecutor(CORES) as pool:
        return list(pool.map(lambda job: wait(fork(job)), list(jobs)))


def count(jobs: Sequence[Callable[[], int]], folder: Path) -> list[int]:
    """What jobs, each in a process of its own, have counted."""
    folder.mkdir()

    def told(number: int, job: Callable[[], int]) -> None:
        (folder / str(number)).write_text(str(job()))

    codes = share(lambda n=n, job=job: told(n, job) for n, job in enumerate(jobs))
    must(not any(codes), f"exit codes {codes}")
    return [int((folder / str(number)).read_text()) for number in range(len(jobs))]


def must(good: bool, what: object) -> None:
    """Like assert, but never optimized away, and with a text."""
    if not good:
        raise AssertionError(what)
