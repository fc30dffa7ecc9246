"""TensorBoard: a run's metrics and activations as a person looks at them.

A view and never the source of a verdict. Every start opens a new event file with `purge_step`, so
that points which an interrupted run left behind are not shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro.plots import activation_bands

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TAGS = {
    "train_loss": "train/loss",
    "lr": "train/learning_rate",
    "test_accuracy": "test/accuracy",
    "test_loss": "test/loss",
    "validation_accuracy": "validation/accuracy",
    "validation_loss": "validation/loss",
}
"""Metrics as `metrics.jsonl` names them, and their tags."""

HYPERPARAMETERS = (
    "dataset.name", "norm.name", "norm.placement", "model.name", "model.hidden",
    "model.activation", "model.dropout", "init.name", "init.scale", "optimizer.name",
    "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "schedule.name",
    "train.steps", "train.batch_size", "seed",
)  # fmt: skip
"""What the HParams tab compares: the same names in every run, or TensorBoard drops columns."""

PARTS = ("p50", "p15", "p85")
"""Of a margin chart: value, lower and upper."""


class _EventFile:
    """TensorBoard's file, written to only while the run's folder is this process's own.

    TensorBoard's own opens it by its path for each event: in whatever folder is there by then. What
    cannot be written is dropped and kept in `error`: a thread of TensorBoard's writes, and what is
    raised there would be printed, and kill it.
    """

    def __init__(self, path: str, owned: Callable[[], bool]) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._owned, self._waiting = owned, bytearray()
        self._lock = Lock()  # the thread flushes, and so does whoever asks it to
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        with self._lock:
            self._waiting += data
        if len(self._waiting) > 2**20:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            try:
                while self._waiting and self._owned() and self.error is None:
                    del self._waiting[: self._file.write(self._waiting)]
            except OSError as error:
                self.error = error
            self._waiting.clear()

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.error = error


class TensorBoardLogger:
    """Writes one run's event file, from `step` on: what other files say from there is purged.

    Args:
        folder: the run's.
        step: the first that is new.
        first: the run's first probe, if there is one already: it chooses the units to show.
        owned: whether the folder is still this process's own, asked before each write.
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        first: Mapping[str, np.ndarray] | None = None,
        owned: Callable[[], bool] = lambda: True,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: SummaryWriter = SummaryWriter(
            str(folder), purge_step=step, flush_secs=10, max_queue=1000
        )
        file_writer = self._writer.file_writer
        assert file_writer is not None
        event_writer = file_writer.event_writer
        records = event_writer._async_writer._writer
        self._file: _EventFile = _EventFile(event_writer._file_name, owned)
        records._writer = self._file
        self._shown: dict[str, int] = {}
        for key, std in (first or {}).items():
            if key.endswith("/std"):
                self._choose(key.removesuffix("/std"), std)

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """The configuration, by dotted names, in the same event file, for the HParams tab."""
        from torch.utils.tensorboard.summary import hparams

        chosen = {name: values.get(name, "") for name in HYPERPARAMETERS}
        plain = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in chosen.items()
        }
        file_writer = self._writer.file_writer
        assert file_writer is not None
        # Metrics that only a run that came to its end has; and `finish` says how it ended.
        metrics = {"summary/test_accuracy": None, "summary/validation_accuracy": None}
        experiment, start, _ = hparams(plain, metrics)
        file_writer.add_summary(experiment)
        file_writer.add_summary(start)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics."""
        for name, tag in TAGS.items():
            if name in values:
                self._writer.add_scalar(tag, values[name], step)

    @np.errstate(over="ignore", invalid="ignore")  # what diverges is shown anyway
    def probe(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """One probe: histograms, percentile bands of a unit, means over each layer, norms."""
        for key, values in arrays.items():
            layer, _, what = key.rpartition("/")
            if what == "counts":
                self._histogram(step, layer, values, arrays[f"{layer}/edges"])
            elif what == "percentiles":
                self._band(step, layer, values, arrays[f"{layer}/std"])
            elif what in ("mean", "std", "saturated", "shift", "shift_total"):
                self._writer.add_scalar(f"{what}/{layer}", float(values.mean()), step)
                if what == "saturated":
                    self._writer.add_scalar(f"dead/{layer}", float((values == 1).mean()), step)
            elif what in ("weight_norm", "gradient_norm", "bias_norm"):
                self._writer.add_scalar(f"{what}/{layer}", float(values), step)

    def _histogram(self, step: int, layer: str, counts: np.ndarray, edges: np.ndarray) -> None:
        centers = (edges[1:] + edges[:-1]) / 2
        total = int(counts.sum())
        self._writer.add_histogram_raw(
            f"input/{layer}",
            min=float(edges[0]),
            max=float(edges[-1]),
            num=total,
            sum=float((centers * counts).sum()),
            sum_squares=float((centers**2 * counts).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )

    def _band(self, step: int, layer: str, percentiles: np.ndarray, std: np.ndarray) -> None:
        """The percentiles of one unit."""
        unit = self._choose(layer, std)
        low, middle, high = (float(value) for value in percentiles[unit])
        for part, value in zip(PARTS, (middle, low, high), strict=True):
            self._writer.add_scalar(f"unit/{layer}/{part}", value, step)

    def _choose(self, layer: str, std: np.ndarray) -> int:
        """The unit shown of a layer: at the first probe, the one of median spread."""
        middle = int(np.argsort(std, kind="stable")[len(std) // 2])
        return self._shown.setdefault(layer, middle)

    def charts(self, layers: list[str]) -> None:
        """The Custom Scalars tab: a margin chart for every layer, as Fig. 1b and c."""
        charts = {
            f"input of {layer}": ["Margin", [f"unit/{layer}/{part}" for part in PARTS]]
            for layer in layers
        }
        accuracy = ["Multiline", ["test/accuracy", "validation/accuracy"]]
        self._writer.add_custom_scalars(
            {
                "Fig. 1b, c: 15th, 50th and 85th percentile of one unit": charts,
                "Fig. 1a": {"accuracy": accuracy},
            }
        )

    def bands(self, steps: np.ndarray, layers: dict[str, np.ndarray], title: str) -> None:
        """Fig. 1b and c of the whole run as a picture; percentiles (P, U, 3) by layer."""
        picture = activation_bands(steps, layers, title)
        # A canvas of its own: pyplot would keep every figure, and ask for a display.
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(picture)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        self._writer.add_image("Fig. 1bc", pixels, int(steps[-1]), dataformats="HWC")

    def finish(self, values: Mapping[str, float | int | None], step: int, good: bool) -> None:
        """The run's last numbers, and the end of the file; for the HParams tab, whether `good`."""
        from tensorboard.plugins.hparams import api_pb2
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from torch.utils.tensorboard.summary import hparams

        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(f"summary/{name}", value, step)
        file_writer = self._writer.file_writer
        assert file_writer is not None
        *_, end = hparams({}, {})  # of torch's own, which always tells success
        data = end.value[0].metadata.plugin_data
        told = HParamsPluginData.FromString(data.content)
        told.session_end_info.status = api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE
        data.content = told.SerializeToString()
        file_writer.add_summary(end)
        self.close()

    def flush(self) -> None:
        """Bring what was added to the file.

        Raises:
            OSError: it could not be written, now or before.
        """
        self._writer.flush()
        if self._file.error is not None:
            raise self._file.error

    def close(self) -> None:
        """Flush and close the event file.

        Raises:
            OSError: it could not be written, now or before.
        """
        self._writer.close()
        if self._file.error is not None:
            raise self._file.error
