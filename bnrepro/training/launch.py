"""Take a run's folder and do something there as a job of Hydra's."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bnrepro import config as c
from bnrepro.config import hydra
from bnrepro.config.compose import ComposedRun
from bnrepro.errors import ConfigError, Interrupted, StorageError
from bnrepro.store import RunWriter, StoredRun, new_folder
from bnrepro.training.signals import StopSignals

T = TypeVar("T")


def run(
    composed: ComposedRun,
    task: Callable[[c.Config, RunWriter, StopSignals], T],
    outputs: Path,
    stop: StopSignals | None = None,
) -> tuple[Path, T | None]:
    """Take a run's folder and call `task` there as a Hydra job.

    Args:
        composed: what to run; without `run.dir`, a new folder below `outputs` is made.
        task: called with the configuration, the writer of the folder, and what tells it of a
            signal to stop. Hydra's record and the log with a failure's traceback lie there too.
        outputs: where new folders go.
        stop: what heeds signals already, where something does.

    Returns:
        The folder, and what the task returned: None where this run is finished there already.

    Raises:
        Exception: whatever the task raised, as it was raised; the run's state tells of it.
        Interrupted: a signal asked to stop; what was done is kept.
    """
    with nullcontext(stop) if stop is not None else StopSignals() as heeded:
        opened = open_run(composed, outputs)
        if opened is None:
            return Path(str(composed.config.run.dir)), None
        try:
            result = opened.execute(lambda: task(opened.run.config, opened.writer, heeded))
        except BaseException as error:
            opened.record_end(error)
            raise
        return opened.folder, result


@dataclass(frozen=True)
class OpenRun:
    """A run whose folder is ours to write; its configuration names the folder."""

    run: ComposedRun
    folder: Path
    writer: RunWriter

    def execute(self, task: Callable[[], T]) -> T:
        """Call `task` as a Hydra job of this run, with Hydra's record and log in its folder."""
        return hydra.run_as_job(self.run.composed, self.folder, task)

    def record_end(self, error: BaseException) -> None:
        """Write down what ended the run before its result."""
        if isinstance(error, Interrupted):
            error.folder = self.folder
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        with suppress(StorageError):  # the first error is the one to tell
            exits = isinstance(error, SystemExit)
            reason = f"ended with exit code {error}" if exits else c.first_line(error)
            self.writer.close_unfinished("interrupted" if interrupted else "failed", reason)


def open_run(composed: ComposedRun, outputs: Path) -> OpenRun | None:
    """Take a run's folder, a new one below `outputs` if it names none; None if it is finished.

    Raises:
        RunInUseError: another process is writing this run.
        ConfigError: the folder holds another run, or something that is no run.
        StorageError: the folder cannot be written.
    """
    config = composed.config
    names = config.dataset.name, config.model.name, config.norm.name, f"seed{config.seed}"
    folder = Path(config.run.dir) if config.run.dir else new_folder(outputs, "-".join(names))
    if "${" in str(folder.absolute()):  # Hydra would take it for a reference, again and again
        raise ConfigError(f"a folder's name cannot hold '${{' ({folder}): choose another run.dir")
    config = replace(config, run=replace(config.run, dir=str(folder)))
    values = c.to_dict(config)
    stored = StoredRun(folder)
    earlier = stored.config() if stored.exists() and not config.run.overwrite else {}
    different = c.differences(values, earlier) if earlier else []
    if earlier and stored.summary() is not None and not config.run.overwrite:
        drift = stored.drift()
        # The configuration that a drifted run ended with had a part in it, as all that drifted.
        part = config.run.allow_drift and set(different) <= set(drift)
        different = [] if part else [*different, *(f"drifted, {line}" for line in drift)]
        different += [*other_data(config, stored), *c.other_results(stored.manifest())]
    writer = RunWriter.acquire(
        folder,
        values,
        different,
        overwrite=config.run.overwrite,
        allow_drift=config.run.allow_drift,
    )
    if writer is None:
        return None
    return OpenRun(replace(composed, config=config), folder, writer)


def other_data(config: c.Config, stored: StoredRun) -> list[str]:
    """What differs between the data a run has read and those it would read now.

    Of the data sets known by name there is only one each.
    """
    if not isinstance(config.dataset, c.OwnImages):
        return []
    from bnrepro import data  # which loads torch

    ours = config.dataset.fingerprint or data.fingerprint(config.dataset)
    theirs = (stored.manifest().get("dataset") or {}).get("fingerprint")
    return [] if ours == theirs else [f"{c.FINGERPRINT}: {theirs or 'not known'} -> {ours}"]
