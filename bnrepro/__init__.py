"""bnrepro puts the claims of the Batch Normalization paper to the test.

As a library it has the layer, what goes with it at inference, and the runs that are stored:

    from bnrepro import BatchNorm1d, load_run

Each name is imported when it is first used: `load_run` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnrepro.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
    from bnrepro.nn.inference import batch_statistics, fold, population_statistics
    from bnrepro.store.library import Run, load_run, load_runs

__version__ = "0.2.0"

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "Run", "batch_statistics", "fold", "load_run",
    "load_runs", "population_statistics",
]  # fmt: skip

_HOME = {
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), "bnrepro.nn.batchnorm"),
    **dict.fromkeys(("batch_statistics", "fold", "population_statistics"), "bnrepro.nn.inference"),
    **dict.fromkeys(("Run", "load_run", "load_runs"), "bnrepro.store.library"),
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bnrepro' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
