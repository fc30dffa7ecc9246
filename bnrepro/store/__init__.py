"""Runs, sweeps and reproductions on disk: the one place where they are written and read.

A run's folder is the interface between the wing that makes runs and the wing that reads them.
Nothing here imports torch or Hydra. Order follows from steps, never from a file's time.
"""

from bnrepro.store.run import (
    CHANCE,
    CHECKPOINTS,
    CONFIG,
    EVENTS,
    FINISHED,
    MANIFEST,
    METRICS,
    PREDICTIONS,
    PROBES,
    STATUS,
    SUMMARY,
    UNREADABLE,
    StoredRun,
    find_runs,
)
from bnrepro.store.writer import RunWriter, new_folder, note_failure

__all__ = [
    "CHANCE", "CHECKPOINTS", "CONFIG", "EVENTS", "FINISHED", "MANIFEST", "METRICS", "PREDICTIONS",
    "PROBES", "STATUS", "SUMMARY", "UNREADABLE", "RunWriter", "StoredRun", "find_runs",
    "new_folder", "note_failure",
]  # fmt: skip
