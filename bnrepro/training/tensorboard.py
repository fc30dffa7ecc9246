"""TensorBoard: a run's metrics and activations as a person looks at them.

A view and never the source of a verdict. Every start opens a new event file with `purge_step`, so
that points which an interrupted run left behind are not shown.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from os import getpid
from pathlib import Path
from socket import gethostname
from time import monotonic, time
from typing import Any

import numpy as np

from bnrepro.plots import activation_bands

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

    TensorBoard's own writer has a thread, which opens the file by its path for each event, in
    whatever folder is there by then; it prints what is raised there, and ends. This one has none:
    it holds records back for a second at most, drops what cannot be written, and keeps the error.
    """

    def __init__(self, folder: Path, owned: Callable[[], bool]) -> None:
        name = f"{int(time()):010d}.{gethostname()}.{getpid()}.{next(_opened)}"
        path = folder / f"events.out.tfevents.{name}"
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._owned, self._waiting, self._flushed = owned, bytearray(), monotonic()
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) > 2**20 or monotonic() - self._flushed > 1:
            self.flush()

    def flush(self) -> None:
        try:
            while self._waiting and self._owned() and self.error is None:
                del self._waiting[: self._file.write(self._waiting)]
        except OSError as error:
            self.error = error
        self._waiting.clear()
        self._flushed = monotonic()

    def close(self) -> None:
        self.flush()
        try:
            self._file.close()
        except OSError as error:
            self.error = error


_opened = itertools.count()


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
        # Loaded here: a run that shows nothing in TensorBoard is spared the seconds.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        self._file = _EventFile(folder, owned)
        self._records = RecordWriter(self._file)
        self._summary, self._event = summary, event_pb2.Event
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step, file_version="brain.Event:2")
        self._add(step, session_log=start)  # what older files say from this step on is purged
        self._shown: dict[str, int] = {}
        for key, std in (first or {}).items():
            if key.endswith("/std"):
                self._choose(key.removesuffix("/std"), std)

    def _add(self, step: int, **what: Any) -> None:
        event = self._event(wall_time=time(), step=step, **what)
        self._records.write(event.SerializeToString())

    def _scalar(self, tag: str, value: float, step: int) -> None:
        self._add(step, summary=self._summary.scalar(tag, value))

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """The configuration, by dotted names, in the same event file, for the HParams tab."""
        chosen = {name: values.get(name, "") for name in HYPERPARAMETERS}
        plain = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in chosen.items()
        }
        # Metrics that only a run that came to its end has; and `finish` says how it ended.
        metrics = {"summary/test_accuracy": None, "summary/validation_accuracy": None}
        experiment, start, _ = self._summary.hparams(plain, metrics)
        self._add(0, summary=experiment)
        self._add(0, summary=start)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics."""
        for name, tag in TAGS.items():
            if name in values:
                self._scalar(tag, values[name], step)

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
                self._scalar(f"{what}/{layer}", float(values.mean()), step)
                if what == "saturated":
                    self._scalar(f"dead/{layer}", float((values == 1).mean()), step)
            elif what in ("weight_norm", "gradient_norm", "bias_norm"):
                self._scalar(f"{what}/{layer}", float(values), step)

    def _histogram(self, step: int, layer: str, counts: np.ndarray, edges: np.ndarray) -> None:
        centers = (edges[1:] + edges[:-1]) / 2
        total = int(counts.sum())
        histogram = self._summary.histogram_raw(
            f"input/{layer}",
            min=float(edges[0]),
            max=float(edges[-1]),
            num=total,
            sum=float((centers * counts).sum()),
            sum_squares=float((centers**2 * counts).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
        )
        self._add(step, summary=histogram)

    def _band(self, step: int, layer: str, percentiles: np.ndarray, std: np.ndarray) -> None:
        """The percentiles of one unit."""
        unit = self._choose(layer, std)
        low, middle, high = (float(value) for value in percentiles[unit])
        for part, value in zip(PARTS, (middle, low, high), strict=True):
            self._scalar(f"unit/{layer}/{part}", value, step)

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
        layout = {
            "Fig. 1b, c: 15th, 50th and 85th percentile of one unit": charts,
            "Fig. 1a": {"accuracy": accuracy},
        }
        self._add(0, summary=self._summary.custom_scalars(layout))

    def bands(self, steps: np.ndarray, layers: dict[str, np.ndarray], title: str) -> None:
        """Fig. 1b and c of the whole run as a picture; percentiles (P, U, 3) by layer."""
        figure = activation_bands(steps, layers, title)
        # A canvas of its own: pyplot would keep every figure, and ask for a display.
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        picture = self._summary.image("Fig. 1bc", pixels, dataformats="HWC")
        self._add(int(steps[-1]), summary=picture)

    def finish(self, values: Mapping[str, float | int | None], step: int, good: bool) -> None:
        """The run's last numbers, and the end of the file; for the HParams tab, whether `good`."""
        from tensorboard.plugins.hparams import api_pb2
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                self._scalar(f"summary/{name}", value, step)
        *_, end = self._summary.hparams({}, {})  # of torch's own, which always tells success
        data = end.value[0].metadata.plugin_data
        told = HParamsPluginData.FromString(data.content)
        told.session_end_info.status = api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE
        data.content = told.SerializeToString()
        self._add(step, summary=end)
        self.close()

    def flush(self) -> None:
        """Bring what was added to the file.

        Raises:
            OSError: it could not be written, now or before.
        """
        self._file.flush()
        if self._file.error is not None:
            raise self._file.error

    def close(self) -> None:
        """Flush and close the event file.

        Raises:
            OSError: it could not be written, now or before.
        """
        self._file.close()
        if self._file.error is not None:
            raise self._file.error
