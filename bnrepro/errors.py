"""The errors a person can meet, each with the exit code of the command that met it.

A message is one line, `WHAT (WHERE): WHAT TO DO`; the command line prints it as
`bnrepro: error: …` and shows a traceback only with `--debug`.
"""

import signal
from pathlib import Path


class BnreproError(Exception):
    """An error whose message is meant for the person who typed the command."""

    exit_code = 1


class MembersFailedError(BnreproError):
    """Members of a sweep failed."""


class ConfigError(BnreproError):
    """A configuration or a command that cannot be carried out as it stands."""

    exit_code = 2


class DataError(BnreproError):
    """A data set that is missing, damaged, or not to be had."""

    exit_code = 3


class StorageError(BnreproError):
    """A run's folder that cannot be read or written."""

    exit_code = 3


class UnreadableError(StorageError):
    """A file whose content cannot be used: `path` names it, `why` says what is wrong."""

    def __init__(self, path: Path, why: str, advice: str = "move it away") -> None:
        super().__init__(f"not readable: {why} ({path}): {advice}")
        self.path, self.why = path, why


class NotArchivedError(StorageError):
    """Something of a run that its archive does not have: `what`; `run` is the run's name."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(
            f"not in the archive: {what} ({folder}): rerun 'bnrepro reproduce' of the claim"
        )
        self.run, self.what = folder.name, what


class LauncherError(BnreproError):
    """A launcher of Hydra's that could not do what it was asked to."""

    exit_code = 3


class RunInUseError(BnreproError):
    """A run's folder that another process is writing."""

    exit_code = 4


class CheckpointError(BnreproError):
    """No checkpoint of a run can be used."""

    exit_code = 5


class Interrupted(BaseException):
    """A signal asked to stop; what has been done is kept."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        self.folder: Path | None = None  # of the run that was interrupted
