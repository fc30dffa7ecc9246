"""TensorBoard: a run's metrics and activations as a person looks at them.

A view and never the source of a verdict. Every start opens a new event file with `purge_step`, so
that points which an interrupted run left behind are not shown. TensorBoard sorts what it shows by
its tags: these are such that what says most comes first, and layers in their order.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from os import getpid
from pathlib import Path
from socket import gethostname
from time import monotonic, time
from typing import Any

import numpy as np

from bnrepro import config as c
from bnrepro.errors import UnreadableError
from bnrepro.plots import GREY, activation_bands, quartiles
from bnrepro.store import EVENTS, StoredRun

TAGS = {
    "test_accuracy": "accuracy/test",
    "validation_accuracy": "accuracy/validation",
    "test_loss": "loss/test",
    "train_loss": "loss/train",
    "validation_loss": "loss/validation",
    "lr": "schedule/learning rate",
}
"""Metrics as `metrics.jsonl` names them, and their tags; a constant learning rate has none."""

OF_LAYERS = {
    "shift_total": "covariate shift/from the start",
    "shift": "covariate shift/since the last probe",
    "mean": "inputs/mean",
    "std": "inputs/std",
    "saturated": "inputs/saturated",
    "gradient_norm": "norms/gradient",
    "weight_norm": "norms/weight",
    "bias_norm": "norms/bias",
    "gradient_shift": "gradient shift/relative to the gradient",
    "gradient_cosine": "gradient shift/cosine",
}
"""Measurements as `Probe` names them, the mean over the units of a layer, and what their tags begin
with."""

UNITS = ("narrow", "typical", "wide")
"""The units that `Probe` keeps a histogram of: what a quarter, a half and three quarters of their
layer's units have less spread than, at the first probe."""

MARGIN = (50, 15, 85)
"""The percentiles of a margin chart: value, lower and upper."""

HYPERPARAMETERS = {
    "dropout": "model.dropout", "lr": "optimizer.lr", "norm": "norm.name", "seed": "seed",
    "std": "init.scale", **{f"with {name}": name for name in (
        "dataset.name", "norm.placement", "model.name", "model.hidden", "model.activation",
        "init.name", "optimizer.name", "optimizer.momentum", "optimizer.weight_decay",
        "schedule.name", "train.steps", "train.batch_size",
    )},
}  # fmt: skip
"""What the HParams tab compares, and the setting of each: the same names in every run, or
TensorBoard drops columns. It shows the first five, by the alphabet."""


class _EventFile:
    """TensorBoard's file, written to only while the run's folder is this process's own.

    TensorBoard's own writer has a thread, which opens the file by its path for each event, in
    whatever folder is there by then; it prints what is raised there, and ends. This one has none:
    it holds records back for a second at most, drops what cannot be written, and keeps the error.
    """

    def __init__(self, folder: Path, owned: Callable[[], bool]) -> None:
        name = f"{int(time()):010d}.{gethostname()}.{getpid()}.{next(_opened)}"
        self.path = folder / f"{EVENTS}{name}"
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
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
        config: its configuration, by dotted names.
        step: the first that is new.
        first: the run's first probe, if there is one already: it chooses the units to show.
        owned: whether the folder is still this process's own, asked before each write.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        step: int = 0,
        first: Mapping[str, np.ndarray] | None = None,
        owned: Callable[[], bool] = lambda: True,
    ) -> None:
        # Loaded here: a run that shows nothing in TensorBoard is spared the seconds.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        self._config = config
        self._file = _EventFile(folder, owned)
        self._records = RecordWriter(self._file)
        self._summary, self._event = summary, event_pb2.Event
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step, file_version="brain.Event:2")
        self._add(step, session_log=start)  # what older files say from this step on is purged
        self._labels: dict[str, str] = {}
        self._typical: dict[str, int] = {}
        self._hyperparameters()
        if first:
            self._begin(first)

    def _add(self, step: int, **what: Any) -> None:
        event = self._event(wall_time=time(), step=step, **what)
        self._records.write(event.SerializeToString())

    def _scalar(self, tag: str, value: float, step: int) -> None:
        self._add(step, summary=self._summary.scalar(tag, value))

    def _hyperparameters(self) -> None:
        """The configuration, in the same event file, for the HParams tab."""
        values = {tag: self._config.get(name, "") for tag, name in HYPERPARAMETERS.items()}
        plain = {
            tag: value if isinstance(value, int | float | str) else str(value)
            for tag, value in values.items()
        }
        metrics = {TAGS[name]: None for name in ("test_accuracy", "validation_accuracy")}
        experiment, start, _ = self._summary.hparams(plain, metrics)  # `finish` says how it ended
        self._add(0, summary=experiment)
        self._add(0, summary=start)

    def _begin(self, first: Mapping[str, np.ndarray]) -> None:
        """Take layers and units from the first probe, and lay out the Custom Scalars tab."""
        keys = [key.rpartition("/") for key in first]
        layers = [layer for layer, _, what in keys if what == "percentiles"]
        others = [layer for layer, _, what in keys if what == "weight_norm"]
        self._labels = in_order(layers) | in_order(others)
        self._typical = {layer: typical(first, layer) for layer in layers}
        shift, labels = OF_LAYERS["shift_total"], [self._labels[layer] for layer in layers]
        layout = {
            "Accuracy": {"accuracy": ["Multiline", [TAGS["test_accuracy"]]]},
            "Covariate shift: how far distributions are from those at the start": {
                label: ["Multiline", [f"{shift}/{label}"]] for label in labels
            },
            "Fig. 1b, c: 15th, 50th and 85th percentile of a typical unit's input": {
                label: ["Margin", [f"typical unit/{label}/{p}" for p in MARGIN]] for label in labels
            },
        }
        self._add(0, summary=self._summary.custom_scalars(layout))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics."""
        for name, tag in TAGS.items():
            constant = name == "lr" and self._config.get("schedule.name") == "constant"
            if name in values and not constant:
                self._scalar(tag, values[name], step)

    @np.errstate(over="ignore", invalid="ignore")  # what diverges is shown anyway
    def probe(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """One probe: histograms, percentiles of a typical unit, means over each layer, norms."""
        if not self._labels:
            self._begin(arrays)
        for key, values in arrays.items():
            layer, _, what = key.rpartition("/")
            label = self._labels.get(layer, layer)
            if what in OF_LAYERS:
                self._scalar(f"{OF_LAYERS[what]}/{label}", float(values.mean()), step)
            elif what == "counts":
                self._histogram(
                    step, f"whole layer, pooled/{label}", values, arrays[f"{layer}/edges"]
                )
            elif what == "unit_counts":
                every = zip(UNITS, values, arrays[f"{layer}/unit_edges"], strict=True)
                for unit, counts, edges in every:
                    self._histogram(step, f"one unit/{label}, {unit}", counts, edges)
            elif what == "percentiles":
                low, middle, high = (float(value) for value in values[self._typical[layer]])
                for p, value in zip(MARGIN, (middle, low, high), strict=True):
                    self._scalar(f"typical unit/{label}/{p}", value, step)

    def _histogram(self, step: int, tag: str, counts: np.ndarray, edges: np.ndarray) -> None:
        centers = (edges[1:] + edges[:-1]) / 2
        histogram = self._summary.histogram_raw(
            tag,
            min=float(edges[0]),
            max=float(edges[-1]),
            num=int(counts.sum()),
            sum=float((centers * counts).sum()),
            sum_squares=float((centers**2 * counts).sum()),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
        )
        self._add(step, summary=histogram)

    def finish(self, run: StoredRun) -> None:
        """What the whole of a finished run shows: Fig. 1b and c as a picture, and how it ended."""
        from tensorboard.plugins.hparams import api_pb2
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        if self._typical and run.probe_steps():
            self._picture(run)
        *_, end = self._summary.hparams({}, {})  # of torch's own, which always tells success
        data = end.value[0].metadata.plugin_data
        told = HParamsPluginData.FromString(data.content)
        done = (run.summary() or {}).get("status") == "done"
        told.session_end_info.status = api_pb2.STATUS_SUCCESS if done else api_pb2.STATUS_FAILURE
        data.content = told.SerializeToString()
        self._add(0, summary=end)
        self.close()

    def _picture(self, run: StoredRun) -> None:
        # A canvas of its own: pyplot would keep every figure, and ask for a display.
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        bands = run.probed_each([f"{layer}/percentiles" for layer in self._typical])
        steps = bands[0][0]
        typical = {
            self._labels[layer]: values[:, unit]
            for (layer, unit), (_, values) in zip(self._typical.items(), bands, strict=True)
        }
        title = f"norm={self._config.get('norm.name')}"
        # No hue: TensorBoard gives each run one of its own, often the other arm's in our figures.
        canvas = FigureCanvasAgg(activation_bands(steps, typical, title, GREY))
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        picture = self._summary.image("typical unit/Fig. 1b, c", pixels, dataformats="HWC")
        self._add(int(steps[-1]), summary=picture)

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

    def discard(self) -> None:
        """Close the event file and remove it."""
        self._file.close()
        self._file.path.unlink(missing_ok=True)


def in_order(layers: Sequence[str]) -> dict[str, str]:
    """Layers by names that sort in their order: numbered where their own do not."""

    def place(name: str) -> list[tuple[bool, int, str]]:
        parts = re.findall(r"\d+|\D+", name)
        return [
            (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts
        ]

    if sorted(layers, key=place) == list(layers):
        return {layer: layer for layer in layers}
    return {layer: f"{number} {layer}" for number, layer in enumerate(layers, start=1)}


def typical(first: Mapping[str, np.ndarray], layer: str) -> int:
    """The unit that stands for its layer: at the first probe half of them have less spread."""
    return int(quartiles(first[f"{layer}/std"])[UNITS.index("typical")])


def replay(run: StoredRun) -> None:
    """Write the event file of a finished run from what is stored of it.

    Raises:
        OSError: it cannot be written.
        UnreadableError: what is stored is damaged.
    """
    logger = TensorBoardLogger(run.folder, c.flat(run.config()))
    try:
        for row in run.metrics():
            logger.record(row["step"], row)
        for step in run.probe_steps():
            logger.probe(step, run.probe(step))
        logger.finish(run)
    except BaseException:  # half a file would be taken for the whole
        logger.discard()
        raise


def complete(runs: Sequence[StoredRun], say: Callable[[str], object]) -> None:
    """Write the event files of those of some runs that are finished and have none."""
    from rich.console import Console
    from rich.progress import track

    missing = [run for run in runs if _lacks_events(run)]
    if not missing:
        return
    console, failed = Console(stderr=True), []
    for run in track(missing, "writing event files", console=console, transient=True):
        try:
            replay(run)
        except (OSError, UnreadableError) as error:
            failed.append(f"{run.folder}: {c.first_line(error)}")
    if failed:
        more = f", and so for {len(failed) - 1} more" if failed[1:] else ""
        say(f"warning: no event file ({failed[0]}){more}")


def _lacks_events(run: StoredRun) -> bool:
    try:
        ended = run.summary() is not None
    except UnreadableError:
        return False
    return ended and not any(run.folder.glob(f"{EVENTS}*"))
