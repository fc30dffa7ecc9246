"""A run on disk: the one place where runs are written and read.

A run's folder is the interface between the wing that makes runs and the wing that reads them:

    config.yaml    the resolved configuration        metrics.jsonl  one JSON object a line
    manifest.json  what it ran on, and when          probes/        one .npz a probe
    status.json    state, last step, owner           checkpoints/   the last two
    summary.json   written last                      events.out.tfevents.*, .hydra/, train.log

`RunWriter` makes such a folder, or resumes one; `StoredRun` reads one. Nothing here imports
torch or Hydra. Order follows from steps, never from a file's time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bnrepro import reading
from bnrepro.errors import CheckpointError, StorageError, UnreadableError
from bnrepro.store import lock

CONFIG = "config.yaml"
MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
STATUS = "status.json"
SUMMARY = "summary.json"
PREDICTIONS = "predictions.npz"
PREDICTED, LABELS = "test/predicted", "test/labels"
PROBES = "probes"
CHECKPOINTS = "checkpoints"
LOCKS = lock.LOCKS
EVENTS = "events.out.tfevents."
HYDRA, LOG = ".hydra", "train.log"
FINISHED = ("done", "diverged")
"""States of a run that is a result; any other is worth starting again."""
STATES = ("running", *FINISHED, "failed", "interrupted")
"""All states that are written."""
UNREADABLE = "unreadable"
"""The state that lists tell of a run whose files are damaged, or finished and not all there."""

Types = Mapping[str, tuple[type, ...]]
NUMBER, ABSENT = (int, float), type(None)

STATUS_TYPES = {"state": (str,), "step": (int, ABSENT), "error": (str, ABSENT)}
SUMMARY_TYPES = {
    "status": (str,),
    "steps": (int, ABSENT),
    "diverged_at": (int, ABSENT),
    **dict.fromkeys(
        ("test_accuracy", "best_test_accuracy", "validation_accuracy", "train_loss",
         "population_test_accuracy", "train_accuracy", "train_loss_inference", "wall_seconds"),
        (*NUMBER, ABSENT),
    ),
    "studies": (dict, ABSENT),
}  # fmt: skip
MANIFEST_TYPES = {
    "resumes": (list,), "versions": (dict,), "dataset": (dict,), "code": (str,), "cpu": (str,),
    "registered": (dict,),
}  # fmt: skip
CONFIG_TYPES = {
    **dict.fromkeys(
        ("dataset", "model", "norm", "init", "optimizer", "schedule", "train", "probe", "run"),
        (dict,),
    ),
    **dict.fromkeys(
        ("dataset.name", "model.name", "norm.name", "init.name", "optimizer.name"), (str,)
    ),
    **dict.fromkeys(("seed", "train.steps", "train.batch_size", "probe.every"), (int,)),
    **dict.fromkeys(("optimizer.lr", "model.dropout", "norm.eps"), NUMBER),
    "tags": (list,),
}
"""The types of what is read by name; everything else in these files is only compared or shown."""

ADVICE = {STATUS: "rerun the run's command to mend it", CONFIG: "run.overwrite=true restarts it"}
"""What to do if one of these files cannot be used; any other can be moved away."""

CHECKPOINT_BYTES = 2**33
"""The largest checkpoint that is read."""

ARRAYS_BYTES = 2**30
"""The largest file of arrays that is read."""

CHANCE = 0.1
"""The accuracy of guessing: MNIST, CIFAR-10 and the digits have ten classes."""


def _middle(values: np.ndarray) -> np.ndarray:
    """The median of all finite numbers, (); NaN if none is."""
    finite = values[np.isfinite(values)]
    return np.median(finite) if len(finite) else np.array(np.nan)


PARTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "rms": lambda values: np.sqrt(np.square(values, dtype=np.float64).mean(-1)),
    "deciles": lambda values: values[..., [values.shape[-1] // 10, -1 - values.shape[-1] // 10]],
    "median": lambda values: np.median(values, axis=0),
    "middle": _middle,
    "size": lambda values: _middle(np.abs(values)),
}
"""What can be read of a probe's array in its place, as `NAME:PART`, where an archive would be large
with all of it: the root mean square of the last axis; the two of it, in order, that are a tenth of
its length from its ends; the median of the first axis; of all finite numbers the median, and that
of their sizes."""

LINE_BYTES = 2**20
"""The longest line of metrics that is read, in bytes: a hundred times more than ever written."""


DIGITS = 11
"""Binary digits of what is judged of arrays; a relative error of 1 in 2,048 at the most. The rest
would be half of an archive, and is noise that does not compress."""


def rounded(values: np.ndarray) -> np.ndarray:
    """Floats to `DIGITS` binary digits; other arrays as they are."""
    if values.dtype.kind != "f":
        return values
    mantissas, exponents = np.frexp(values)
    short: np.ndarray = np.ldexp(np.round(np.ldexp(mantissas, DIGITS)), exponents - DIGITS)
    return short


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a .npz by name, each read when it is asked for.

    Raises:
        UnreadableError: it is not what `np.savez` writes.
    """
    try:
        with reading.opened(path) as file:
            if os.fstat(file.fileno()).st_size > ARRAYS_BYTES:
                raise UnreadableError(path, f"larger than {ARRAYS_BYTES:,} bytes")
            entries = zipfile.ZipFile(file).infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise UnreadableError(path, "compressed")  # it could expand to any size
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except UnreadableError:
        raise
    except Exception as error:  # a damaged archive raises errors of many kinds
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(path, why) from error


def _typed(value: Any, types: Types, path: Path) -> dict[str, Any]:
    """Return the object that was read from `path`, its values at dotted names of these types."""
    if not isinstance(value, dict):
        raise UnreadableError(path, "not an object")
    for name, wanted in types.items():
        group, _, key = name.rpartition(".")
        values = value.get(group, {}) if group else value
        if key in values and type(values[key]) not in wanted:
            raise UnreadableError(path, f"{name} is of type {type(values[key]).__name__}")
    return value


Curve = tuple[np.ndarray, np.ndarray]
"""Steps (P,) and values (P, …)."""


@dataclass(frozen=True)
class Kept:
    """What was read of a run; of measurements and predictions that are floats as `rounded`.

    Args:
        files: the small files' content by their names; None if there is no such file.
        rows: of the metrics; empty until all of them are read.
        curves: metrics over training, by name.
        probed: measurements over all probes, by name.
        predictions: arrays of the predictions by name; None if the run has none of this name.
    """

    files: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    probed: dict[str, Curve] = field(default_factory=dict)
    predictions: dict[str, np.ndarray | None] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredRun:
    """A run as it lies on disk. Every method reads afresh, unless it is made by `read_once`.

    Raises:
        UnreadableError: a file is not what `RunWriter` could have written.
    """

    folder: Path
    kept: Kept | None = field(default=None, compare=False, repr=False)

    @classmethod
    def read_once(cls, folder: Path) -> StoredRun:
        """A run that changes no more: `kept` has what was read of it."""
        return cls(folder, Kept())

    def _load(self, name: str, types: Types) -> dict[str, Any] | None:
        if self.kept is None:
            return self._read(name, types)
        if name not in self.kept.files:
            self.kept.files[name] = self._read(name, types)
        return self.kept.files[name]

    def text(self, name: str) -> str | None:
        """One of the small files as it stands; None if there is no such file."""
        limit = reading.YAML_BYTES if name == CONFIG else reading.JSON_BYTES
        try:
            return reading.read_text(self.folder / name, limit)
        except FileNotFoundError:
            return None

    def _read(self, name: str, types: Types) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            if (text := self.text(name)) is None:
                return None
            parse = reading.parse_yaml if name == CONFIG else reading.parse_json
            return _typed(parse(text, path), types, path)
        except UnreadableError as error:
            if name in ADVICE:
                raise UnreadableError(path, error.why, ADVICE[name]) from error
            raise

    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.folder / STATUS).is_file() or (self.folder / SUMMARY).is_file()

    def status(self) -> dict[str, Any]:
        """The run's status; its `state` is `stale` where a running run's process is gone.

        A finished run whose status is damaged has the state that its summary tells.
        """
        try:
            status = self._load(STATUS, STATUS_TYPES) or {"state": "failed", "step": 0}
            if status.get("state") not in STATES:
                raise UnreadableError(self.folder / STATUS, "no state of a run", ADVICE[STATUS])
        except UnreadableError:
            if (summary := self.summary()) is None:
                raise
            return {"state": summary["status"], "step": summary.get("steps")}
        if status["state"] == "running" and not lock.alive(status):
            return {**status, "state": "stale"}
        return status

    def summary(self) -> dict[str, Any] | None:
        """The run's summary, or None where it did not come to its end."""
        summary = self._load(SUMMARY, SUMMARY_TYPES)
        if summary is not None and summary.get("status") not in FINISHED:
            raise UnreadableError(self.folder / SUMMARY, "no status of a finished run")
        return summary

    def manifest(self) -> dict[str, Any]:
        """What the run ran on."""
        manifest = self._load(MANIFEST, MANIFEST_TYPES) or {}
        if not all(isinstance(resumed, dict) for resumed in manifest.get("resumes", ())):
            raise UnreadableError(self.folder / MANIFEST, "resumes is not a list of objects")
        return manifest

    def drift(self) -> list[str]:
        """What differed from when the run began, of those it was resumed with; empty as a rule.

        A run that drifted is of no single configuration. To have been trained in a stack and alone
        is no drift: that differs in rounding only.
        """
        resumes = self.manifest().get("resumes", ())
        lines = [str(line) for resumed in resumes for line in resumed.get("drift") or ()]
        return [line for line in dict.fromkeys(lines) if not line.startswith("stacked: ")]

    def chance(self) -> float:
        """The accuracy of guessing: one over the number of classes, as the manifest names them."""
        dataset = self.manifest().get("dataset")
        classes = dataset.get("classes") if isinstance(dataset, dict) else None
        return 1 / len(classes) if isinstance(classes, list) and classes else CHANCE

    def config(self) -> dict[str, Any]:
        """The run's configuration as plain containers."""
        return self._load(CONFIG, CONFIG_TYPES) or {}

    def lacks(self, *, probes: bool = True, config: Mapping[str, Any] | None = None) -> str | None:
        """Name what a finished run should hold and does not; None if nothing is missing.

        Such a run must not be judged: without its metrics it looks like one that never learned.
        Reads the summary, the configuration, the last line of the metrics, and the names of the
        probes if `probes`; a `config` that has been read already is not read again.
        """
        summary, config = self.summary(), self.config() if config is None else config
        if summary is None:
            return SUMMARY
        if not config:
            return CONFIG
        done, steps = summary["status"] == "done", summary.get("steps") or 0
        recorded = steps if done else steps - 1  # nothing is recorded of the step that diverged
        evaluations = config.get("train", {}).get("eval_every") or 0
        due = recorded if done or not evaluations else recorded - recorded % evaluations
        last = self.last_line()
        if last.get("step", -1) < due:
            return f"{METRICS} up to step {due}"
        if done and last.get("test_accuracy") != summary.get("test_accuracy"):
            return f"{METRICS} of its own"
        if not probes:
            return None
        if every := config.get("probe", {}).get("every"):
            due_steps = {*range(0, recorded + 1, every), *([steps] if done else [])}
            if missing := due_steps.difference(self.probe_steps()):
                return f"{PROBES}/{reading.number_name(min(missing), 'npz')}"
        if done and config.get("predictions") and not (self.folder / PREDICTIONS).is_file():
            return PREDICTIONS
        return None

    def damaged(self, *, probes: bool = True) -> str | None:
        """Say why a run can be neither taken for a result nor resumed; None if it can.

        A file of it cannot be read, or it is finished and lacks something, as `lacks` tells.
        """
        if not self.exists():
            return None
        try:
            self.status()
            self.manifest()
            self.config()
            what = self.lacks(probes=probes) if self.summary() is not None else None
        except UnreadableError as error:
            return f"not readable: {error.why} ({error.path.name})"
        return None if what is None else f"no {what}"

    def last_line(self) -> dict[str, Any]:
        """The last whole line of the metrics; empty where there is none."""
        path = self.folder / METRICS
        try:
            lines = reading.read_tail(path, LINE_BYTES).split(b"\n")
        except FileNotFoundError:
            return {}
        return _line(lines[-2], path) if len(lines) > 1 else {}

    def lines(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`, in the order of steps, one after another.

        Args:
            name: leave out the lines that have no metric of this name.
        """
        path, wanted = self.folder / METRICS, json.dumps(name).encode() if name else b""
        try:
            with reading.opened(path) as file:
                while text := file.readline(LINE_BYTES):
                    if not text.endswith(b"\n"):
                        if len(text) == LINE_BYTES:
                            raise UnreadableError(path, f"a line of more than {LINE_BYTES:,} bytes")
                        return  # what follows the last newline was never finished
                    if wanted in text:
                        yield _line(text, path, name or "step")
        except FileNotFoundError:
            return

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of `metrics.jsonl`, in the order of steps."""
        if self.kept is None:
            return list(self.lines())
        if not self.kept.rows:
            self.kept.rows.extend(self.lines())
        return self.kept.rows

    def curve(self, name: str) -> Curve:
        """Steps (P,) and values (P,) of one metric, wherever it was recorded."""
        if self.kept is None:
            return _curve(self.lines(name), name)
        if name not in self.kept.curves:
            self.kept.curves[name] = _curve(self.metrics(), name)
        return self.kept.curves[name]

    def probe_steps(self) -> list[int]:
        """The steps that have a probe."""
        return sorted(reading.numbered(self.folder / PROBES, "npz"))

    def probe(self, step: int) -> dict[str, np.ndarray]:
        """One probe's arrays by name."""
        with _arrays(self.folder / PROBES / reading.number_name(step, "npz")) as arrays:
            return dict(arrays)

    def probed(self, name: str) -> Curve:
        """Steps (P,) and one measurement over all probes, (P, …), or one of its `PARTS`."""
        return self.probed_each([name])[0]

    def probed_each(self, names: Sequence[str]) -> list[Curve]:
        """`probed` of several measurements, for which every probe is opened once."""
        if self.kept is None:
            return self._probed(names)
        new = [name for name in names if name not in self.kept.probed]
        if new:
            curves = ((steps, rounded(values)) for steps, values in self._probed(new))
            self.kept.probed.update(zip(new, curves, strict=True))
        return [self.kept.probed[name] for name in names]

    def _probed(self, names: Sequence[str]) -> list[Curve]:
        values: list[dict[int, np.ndarray]] = [{} for _ in names]
        for step, path in sorted(reading.numbered(self.folder / PROBES, "npz").items()):
            with _arrays(path) as arrays:
                for name, of_name in zip(names, values, strict=True):
                    whole, _, part = name.partition(":")
                    if whole in arrays:
                        of_name[step] = PARTS[part](arrays[whole]) if part else arrays[whole]
        return [
            (np.array([*of_name], dtype=np.int64), np.array([*of_name.values()]))
            for of_name in values
        ]

    def predictions(self, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """What the network that the run ended with makes of the images.

        Of the split `test`, and with `predictions=true` of `validation` as well: SPLIT/predicted
        and SPLIT/labels, uint16 (N,), the numbers of classes; their names are `classes`, str
        (classes,). With `predictions=true` also SPLIT/probabilities, float32 (N, classes).

        Args:
            names: of the arrays that are wanted; none means every one. A claim names them: an
                archive has of a run what was asked for by name.
        """
        if not names:
            with _arrays(self.folder / PREDICTIONS) as arrays:
                return dict(arrays)
        predictions = self._predictions(names)
        for name, values in predictions.items():
            if values is None:
                raise UnreadableError(self.folder / PREDICTIONS, f"no {name}")
        return {name: values for name, values in predictions.items() if values is not None}

    def correct(self) -> np.ndarray | None:
        """Which test images the network ended with gets right, bool (N,); None if not kept."""
        predicted, labels = self._predictions((PREDICTED, LABELS)).values()
        return None if predicted is None or labels is None else predicted == labels

    def _predictions(self, names: Sequence[str]) -> dict[str, np.ndarray | None]:
        """Arrays of the predictions by name; None for what the run does not have."""
        known = {} if self.kept is None else self.kept.predictions
        if new := [name for name in names if name not in known]:
            found: Mapping[str, np.ndarray] = {}
            if (self.folder / PREDICTIONS).is_file():
                with _arrays(self.folder / PREDICTIONS) as arrays:
                    found = {name: arrays[name] for name in new if name in arrays}
            if self.kept is not None:
                found = {name: rounded(values) for name, values in found.items()}
            known.update({name: found.get(name) for name in new})
        return {name: known[name] for name in names}

    def checkpoint_steps(self) -> list[int]:
        """The steps that have a checkpoint, whole or not."""
        return sorted(reading.numbered(self.folder / CHECKPOINTS, "pt"))

    def whole_checkpoints(
        self, warn: Callable[[str], None], limit: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Steps and contents of the checkpoints that are whole, the newest first.

        If there are any at `limit` or before, only those. `warn` is called for each damaged one.
        """
        every = self.checkpoint_steps()
        steps = [step for step in every if limit is None or step <= limit] or every
        for step in reversed(steps):
            try:
                yield step, self.checkpoint(step)
            except CheckpointError as error:
                warn(f"warning: {error}")

    def checkpoint(self, step: int) -> bytes:
        """A checkpoint's bytes, checked against its SHA-256.

        Raises:
            CheckpointError: it is missing or was changed since it was written.
        """
        path = self.folder / CHECKPOINTS / reading.number_name(step, "pt")
        try:
            content = reading.read_bytes(path, CHECKPOINT_BYTES)
            expected = reading.read_text(path.with_suffix(".sha256")).split()[0]
        except (FileNotFoundError, UnreadableError, IndexError) as error:
            why = error.why if isinstance(error, UnreadableError) else str(error)
            raise CheckpointError(f"not readable: {why} ({path}): use another") from error
        actual = hashlib.sha256(content).hexdigest()
        if actual != expected:
            raise CheckpointError(
                f"damaged: SHA-256 is {actual}, should be {expected} ({path}): use another"
            )
        return content


def _curve(rows: Iterable[Mapping[str, Any]], name: str) -> Curve:
    steps, values = array("q"), array("d")
    for row in rows:
        if row.get(name) is not None:
            steps.append(row["step"])
            values.append(row[name])
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def _line(text: bytes, path: Path, name: str = "step") -> dict[str, Any]:
    """One line of metrics, an object with a step; the metric `name`, if there, is a number."""
    try:
        row = _typed(json.loads(text), {"step": (int,), name: (*NUMBER, ABSENT)}, path)
        if row["step"].bit_length() < 64:  # absent is a TypeError of None
            return row
        raise ValueError("a step of more than 63 bits")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        why = f"{error or type(error).__name__} in a line that begins {text[:40]!r}"
        raise UnreadableError(path, why) from error


NUMBERED = r"[0-9]{9,18}\."
OWN_FILES = {
    "": "|".join(map(re.escape, (CONFIG, MANIFEST, METRICS, STATUS, SUMMARY, PREDICTIONS, LOG))),
    PROBES: NUMBERED + "npz",
    CHECKPOINTS: NUMBERED + "(pt|sha256)",
    HYDRA: r"(config|hydra|overrides)\.yaml",
}
"""The names a run gives to files, by folder, as regular expressions."""


def find_runs(folder: Path) -> list[StoredRun]:
    """Every run in `folder` or below it, in the order of their paths.

    Links to folders are followed. A run that is there under several names is found once, under the
    one that needs no link.

    Raises:
        StorageError: there is no such folder.
    """
    if not folder.is_dir():
        raise StorageError(
            f"no such folder ({folder}): name a folder of runs; 'bnrepro train' makes one"
        )
    runs, seen, waiting = [], set(), deque([folder])
    while waiting:  # first without the links that are met
        for root, folders, names in os.walk(waiting.popleft()):
            status = os.stat(root)
            if (place := (status.st_dev, status.st_ino)) in seen:
                folders.clear()
                continue
            seen.add(place)
            if STATUS in names or SUMMARY in names:
                runs.append(StoredRun(Path(root)))
                folders[:] = set(folders) - OWN_FILES.keys()
            paths = (Path(root, name) for name in folders)
            waiting.extend(path for path in paths if path.is_symlink())
    return sorted(runs, key=lambda run: run.folder)
