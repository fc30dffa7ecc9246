"""TensorBoard over a folder of runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from bnrepro.errors import ConfigError, StorageError


def serve(folder: Path, host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve TensorBoard until interrupted.

    Raises:
        StorageError: there is no such folder.
        ConfigError: the address cannot be listened on.
    """
    if not folder.is_dir():
        raise StorageError(f"no such folder ({folder}): name a run's folder or a folder of runs")
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(
        logdir=str(folder),
        host=host,
        port=port,
        samples_per_plugin={"scalars": 100_000, "histograms": 1000, "images": 20},
        reload_interval=5,
    )
    if host not in ("127.0.0.1", "localhost", "::1"):
        say(f"warning: anybody who reaches {host} can see these runs")
    try:
        address = board.launch()
    except (program.TensorBoardServerException, OSError) as error:
        raise ConfigError(f"{error} ({host}:{port}): choose another --port") from error
    say(f"TensorBoard over {folder}: {address} (Ctrl-C to stop)")
    threading.Event().wait()
