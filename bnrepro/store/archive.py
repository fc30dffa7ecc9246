"""The archive of a reproduction: what the judge and the report read of every run, in a few files.

    archive.json                     what was asked for, when, on what; size and SHA-256 of the rest
    DATASET-runs-SHA256.parquet      a row a run: its small files, what it lacks, its metrics' names
    DATASET-metrics-SHA256.parquet   run, step, and a column for each metric that was read
    DATASET-arrays-SHA256.parquet    measurements of probes, and predictions, that were read

Files are named by their content and `archive.json` is written last: whenever writing is stopped,
there is the old archive or the new one. Reading checks sizes and digests first, and runs no code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from bnrepro import reading
from bnrepro.errors import NotArchivedError, UnreadableError
from bnrepro.store import atomic, reproduction
from bnrepro.store.reproduction import RUNS, Reproduction
from bnrepro.store.run import (
    CONFIG,
    LABELS,
    MANIFEST,
    METRICS,
    PREDICTED,
    STATUS,
    SUMMARY,
    Curve,
    Kept,
    StoredRun,
)

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER, FILE = "archive", "archive.json"
FORMAT = 1
TEXTS = (CONFIG, MANIFEST, SUMMARY, STATUS)
OF_A_MACHINE = {
    MANIFEST: ("argv",), STATUS: ("pid", "pid_start", "pid_namespace", "host", "boot_id")
}  # fmt: skip
"""What tells of a machine and its user, and nobody asks of a run that is archived."""

PLACE = re.compile(r"^(  (?:root|dir): ).*/.*$", re.MULTILINE)
"""A folder in a configuration."""

PROBED, PREDICTION, DIFFERENCE = "probed", "prediction", "difference"
"""Kinds of arrays. A difference is predicted classes XOR labels: nearly all of it is 0."""

NAME = re.compile(r"[a-z0-9_]+-(?P<table>runs|metrics|arrays)-[0-9a-f]{16}\.parquet")
FILE_BYTES, TABLE_BYTES = 2**30, 2**32
"""The largest file that is read, and the largest table it may expand to."""

LEVEL = 15  # of zstd: of 1 to 22, the last before it takes several times as long
PAGE_BYTES = 2**26  # repetition is found within a page only
NOTHING = np.empty(0, np.int64)
ADVICE = "copy it again, or remove it and rerun 'bnrepro reproduce'"


@dataclass(frozen=True)
class ArchivedRun(StoredRun):
    """A run of an archive, which `kept` has all of.

    Raises:
        NotArchivedError: what is asked for was not read when the archive was written.
    """

    texts: Mapping[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    lacking: str | None = field(default=None, compare=False)

    def exists(self) -> bool:
        """Whether there was a run, finished or not."""
        return self.texts[STATUS] is not None or self.texts[SUMMARY] is not None

    def text(self, name: str) -> str | None:
        """One of the small files as it stood."""
        return self.texts[name]

    def lacks(self, *, probes: bool = True, config: Mapping[str, Any] | None = None) -> str | None:
        """What the run lacked when it was archived."""
        return self.lacking

    def curve(self, name: str) -> Curve:
        """Steps (P,) and values (P,) of one metric."""
        if self.kept is None or name not in self.kept.curves:
            self._refuse(f"the metric {name}")
        return super().curve(name)

    def predictions(self, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Arrays of the predictions, which have to be named."""
        return super().predictions(names) if names else self._refuse("all predictions")

    def lines(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        """Not archived."""
        self._refuse(METRICS)

    def last_line(self) -> dict[str, Any]:
        """Not archived."""
        self._refuse(f"the last line of {METRICS}")

    def probe_steps(self) -> list[int]:
        """Not archived."""
        self._refuse("the steps of all probes")

    def probe(self, step: int) -> dict[str, np.ndarray]:
        """Not archived."""
        self._refuse("a whole probe")

    def _probed(self, names: Sequence[str]) -> list[Curve]:
        self._refuse(f"the probes' {names[0]}")

    def _predictions(self, names: Sequence[str]) -> dict[str, np.ndarray | None]:
        if self.kept is None or not self.kept.predictions.keys() >= set(names):
            self._refuse(f"the predictions' {', '.join(names)}")
        return super()._predictions(names)

    def _refuse(self, what: str) -> NoReturn:
        raise NotArchivedError(self.folder, what)


@dataclass(frozen=True)
class Archive:
    """An archive on disk.

    Args:
        folder: its own.
        asked: what was asked for.
        made: when and on what: `date`, `machine`, `versions`, ….
        files: of each by its name, `bytes` and `sha256`.
    """

    folder: Path
    asked: Reproduction
    made: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @cached_property
    def runs(self) -> dict[str, ArchivedRun]:
        """Every run by its name.

        Raises:
            UnreadableError: a file is missing, or not as it was written.
        """
        rows: list[dict[str, Any]] = []
        kept: dict[str, Kept] = {}
        for kind in TABLES:
            for name in self.files:
                if f"-{kind}-" not in name:
                    continue
                with _readable(self.folder / name):
                    table = _table(self.content(name))
                    if kind == "runs":
                        rows += _runs(table, kept)
                    elif kind == "metrics":
                        _fill_curves(table, kept)
                    else:
                        _fill_arrays(table, kept)
        return {
            row["run"]: ArchivedRun(self.folder / row["run"], kept[row["run"]], row, row["lacks"])
            for row in rows
        }

    def content(self, name: str) -> bytes:
        """A file's bytes, checked against its SHA-256.

        Raises:
            UnreadableError: it is missing, or not as it was written.
        """
        path, expected = self.folder / name, self.files[name]
        with _readable(path):
            content = reading.read_bytes(path, FILE_BYTES)
            if len(content) != expected["bytes"]:
                raise ValueError(f"{len(content):,} bytes, should be {expected['bytes']:,}")
            actual = hashlib.sha256(content).hexdigest()
            if actual != expected["sha256"]:
                raise ValueError(f"damaged: SHA-256 is {actual}, should be {expected['sha256']}")
        return content


@dataclass(frozen=True)
class Reproduced:
    """A reproduction on disk: what was asked for, and its runs, once each.

    A run is read from its folder, or else from the archive.

    Args:
        folder: with `runs/`, an `archive/`, or both; or an archive itself.
        checked: of runs by their names, whether they may come from the archive; of all others it
            depends on whether their claim was asked for as it is in the archive.
    """

    folder: Path
    checked: Mapping[str, bool] = field(default_factory=dict)
    _runs: dict[str, StoredRun] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def asked(self) -> Reproduction:
        """What was asked for.

        Raises:
            StorageError: it cannot be read.
        """
        if reproduction.is_reproduction(self.folder) or self.archive is None:
            return reproduction.read(self.folder)
        return self.archive.asked

    @cached_property
    def archive(self) -> Archive | None:
        """The archive, if there is one."""
        folder = find(self.folder)
        return None if folder is None else read(folder)

    @cached_property
    def unchanged(self) -> frozenset[str]:
        """The runs of claims that were asked for as they are in the archive."""
        if self.archive is None:
            return frozenset()
        of, now = self.archive.asked, self.asked
        return frozenset(
            run
            for claim, arms in now.claims.items()
            if (arms, now.results[claim]) == (of.claims.get(claim), of.results.get(claim))
            for arm in arms.values()
            for run in arm.runs
        )

    def run(self, name: str) -> StoredRun:
        """A run by its name, whether it is there or not."""
        if name not in self._runs:
            run = StoredRun.read_once(self.folder / RUNS / name)
            self._runs[name] = run if run.exists() else self._archived(name) or run
        return self._runs[name]

    def _archived(self, name: str) -> ArchivedRun | None:
        if self.archive is None:
            return None
        taken = self.checked.get(name, name in self.unchanged)
        return self.archive.runs.get(name) if taken else None


def find(folder: Path) -> Path | None:
    """The archive in a folder, or the folder itself where it is one; None if there is none."""
    places = (folder / FOLDER, folder)
    return next((place for place in places if (place / FILE).is_file()), None)


def is_in(folder: Path) -> bool:
    """Whether a folder is that of a reproduction which has an archive, not the archive itself."""
    return (folder / FOLDER / FILE).is_file()


def read(folder: Path) -> Archive:
    """An archive by its own folder. Its runs are read when they are asked for.

    Raises:
        UnreadableError: `archive.json` is not what `write` writes.
    """
    path = folder / FILE
    with _readable(path):
        values = reading.read_json(path)
        if values["format"] != FORMAT:
            raise ValueError(f"format {values['format']!r}, and {FORMAT} is read here")
        files = {name: {**facts} for name, facts in values["files"].items()}
        for name, facts in files.items():
            if not NAME.fullmatch(name) or set(facts) != {"bytes", "sha256"}:
                raise ValueError(f"no file of an archive: {name!r}")
        return Archive(folder, reproduction.parse(values["asked"]), {**values["made"]}, files)


def write(folder: Path, reproduced: Reproduced, made: Mapping[str, Any]) -> None:
    """Write what has been read of a reproduction's runs, in the place of the archive before.

    Args:
        folder: the reproduction's.
        reproduced: its runs, after all that reads them has done so.
        made: when and on what.

    Raises:
        OSError: it cannot be written; the archive before is untouched.
        UnreadableError: a run changed meanwhile.
    """
    place = folder / FOLDER
    groups: dict[str, list[StoredRun]] = {}
    for name in reproduced.asked.runs():
        if (run := reproduced.run(name)).exists():
            groups.setdefault(_dataset(run), []).append(run)
    contents = {}
    for dataset, runs in sorted(groups.items()):
        for kind, tabled in TABLES.items():
            if (table := tabled(runs)).num_rows:
                content = _parquet(table)
                digest = hashlib.sha256(content).hexdigest()
                contents[f"{dataset}-{kind}-{digest[:16]}.parquet"] = content
    files = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    if not _is_whole(place, reproduced.asked, files):
        atomic.make_folder(place)
        for name, content in contents.items():
            _write(place / name, content)
        values = {"format": FORMAT, "made": made, "asked": asdict(reproduced.asked), "files": files}
        _write(place / FILE, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode())
    for path in place.iterdir():  # left of the archive before, or by a process that was killed
        part = atomic.PART.fullmatch(path.name)
        name = part["name"] if part else path.name
        if NAME.fullmatch(name) and path.name not in files:
            path.unlink(missing_ok=True)


def _is_whole(place: Path, asked: Reproduction, files: Mapping[str, Any]) -> bool:
    """Whether an archive of exactly this is there already."""
    try:
        there = read(place)
        return (there.asked, there.files) == (asked, files) and all(map(there.content, files))
    except UnreadableError:
        return False


def _write(path: Path, content: bytes) -> None:
    atomic.write(path, lambda file: file.write(content))


def _dataset(run: StoredRun) -> str:
    """What files are named by: the data set of a run."""
    try:
        name = str(run.config()["dataset"]["name"])
    except (UnreadableError, KeyError):
        return "unknown"
    return re.sub(r"[^a-z0-9_]", "_", name.lower())[:40] or "unknown"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file of an archive, in one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableError(path, "it is missing", ADVICE) from error
    except UnreadableError as error:
        raise UnreadableError(path, error.why, ADVICE) from error
    except Exception as error:  # a table that is none raises errors of many kinds
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UnreadableError(path, why, ADVICE) from error


# Tables


def _runs_table(runs: Sequence[StoredRun]) -> pa.Table:
    import pyarrow as pa

    rows = []
    for run in runs:
        texts = {name: _text(run, name) for name in TEXTS}
        metrics = sorted(run.kept.curves) if run.kept else []
        rows.append({"run": run.folder.name, **texts, "lacks": _lacks(run), "metrics": metrics})
    columns = [(name, pa.string()) for name in ("run", *TEXTS, "lacks")]
    schema = pa.schema([*columns, ("metrics", pa.list_(pa.string()))])
    return pa.Table.from_pylist(rows, schema)


def _text(run: StoredRun, name: str) -> str | None:
    """A file of a run, without the names of folders and of who made it where."""
    try:
        text = run.text(name)
        if text is None:
            return None
        if name == CONFIG:
            return PLACE.sub(r"\1null", text)
        left_out = OF_A_MACHINE.get(name, ())
        return json.dumps(_without(json.loads(text), left_out), indent=2) + "\n"
    except (UnreadableError, ValueError):
        return None


def _without(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(of, names) for name, of in value.items() if name not in names}
    return [_without(of, names) for of in value] if isinstance(value, list) else value


def _lacks(run: StoredRun) -> str | None:
    try:
        return run.lacks()
    except UnreadableError as error:
        return f"what can be read: {error.why} ({error.path.name})"


def _runs(table: pa.Table, kept: dict[str, Kept]) -> list[dict[str, Any]]:
    """A row for each run; a place in `kept` is made for each."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        reproduction.run_name(row["run"])
        if not row.keys() >= {*TEXTS, "lacks"}:
            raise ValueError(f"no columns {', '.join(TEXTS)}")
        kept[row["run"]] = Kept(curves=dict.fromkeys(row["metrics"], (NOTHING, np.empty(0))))
    return rows


def _metrics_table(runs: Sequence[StoredRun]) -> pa.Table:
    import pyarrow as pa

    curves_of = {run.folder.name: run.kept.curves for run in runs if run.kept}
    names = sorted({name for curves in curves_of.values() for name in curves} - {"run", "step"})
    tables = []
    for run, curves in curves_of.items():
        steps = np.unique(np.concatenate([np.empty(0, np.int64), *(s for s, _ in curves.values())]))
        columns: dict[str, Any] = {"run": pa.array([run] * len(steps), pa.string()), "step": steps}
        for name in names:
            values, absent = np.zeros(len(steps)), np.ones(len(steps), bool)
            if name in curves:
                at = np.searchsorted(steps, curves[name][0])
                values[at], absent[at] = curves[name][1], False
            columns[name] = pa.array(values, mask=absent)
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).combine_chunks()


def _fill_curves(table: pa.Table, kept: Mapping[str, Kept]) -> None:
    of_rows = table["run"].to_numpy()
    steps = table["step"].to_numpy()
    columns = {
        name: (table[name].to_numpy(), table[name].is_valid().to_numpy())
        for name in table.column_names
        if name not in ("run", "step")
    }
    begins = np.flatnonzero(np.append(True, of_rows[1:] != of_rows[:-1]))
    for begin, end in zip(begins, [*begins[1:], len(of_rows)], strict=True):
        curves = kept[of_rows[begin]].curves
        for name in curves:
            values, there = (column[begin:end] for column in columns[name])
            curves[name] = (steps[begin:end][there], values[there])


def _arrays_table(runs: Sequence[StoredRun]) -> pa.Table:
    import pyarrow as pa

    heads: list[tuple[str, str, str]] = []
    steps: list[np.ndarray] = []
    arrays: list[np.ndarray | None] = []  # None: asked for and not there
    for run in runs:
        kept, name_of = run.kept or Kept(), run.folder.name
        for name, (at, values) in sorted(kept.probed.items()):
            heads.append((name_of, PROBED, name))
            steps.append(at)
            arrays.append(values)
        labels = kept.predictions.get(LABELS)
        for name, array in sorted(kept.predictions.items()):
            kind = PREDICTION
            if name == PREDICTED and array is not None and labels is not None:
                kind, array = DIFFERENCE, array ^ labels
            heads.append((name_of, kind, name))
            steps.append(NOTHING)
            arrays.append(array)
    dtypes = [None if array is None else _dtype(array) for array in arrays]
    shapes = [NOTHING if array is None else np.array(array.shape) for array in arrays]
    columns = {
        name: pa.array([head[place] for head in heads], pa.string())
        for place, name in enumerate(("run", "kind", "name"))
    }
    columns |= {"dtype": pa.array(dtypes, pa.string())}
    columns |= {"steps": _lists(steps, np.int64), "shape": _lists(shapes, np.int64)}
    for dtype in sorted({dtype for dtype in dtypes if dtype}):
        flat = [
            array.ravel() if array is not None and of == dtype else NOTHING
            for array, of in zip(arrays, dtypes, strict=True)
        ]
        columns[dtype] = _lists(flat, np.dtype(dtype))
    return pa.table(columns)


def _fill_arrays(table: pa.Table, kept: Mapping[str, Kept]) -> None:
    heads = table.select(["run", "kind", "name", "dtype"]).to_pylist()
    dtypes = {head["dtype"] for head in heads if head["dtype"]}
    columns = {name: _unlisted(table[name]) for name in ("steps", "shape", *dtypes)}
    for row, head in enumerate(heads):
        of, name, dtype = kept[head["run"]], head["name"], head["dtype"]
        if dtype is None:
            of.predictions[name] = None
            continue
        array = columns[dtype][row].astype(dtype).reshape(columns["shape"][row])
        if head["kind"] == PROBED:
            of.probed[name] = (columns["steps"][row], array)
        else:
            of.predictions[name] = array
    for head in heads:
        if head["kind"] == DIFFERENCE:
            predictions: dict[str, Any] = kept[head["run"]].predictions
            predictions[PREDICTED] = predictions[PREDICTED] ^ predictions[LABELS]


def _dtype(array: np.ndarray) -> str:
    """The name of an array's type; it is that of the column which has the values."""
    return "str" if array.dtype.kind == "U" else str(array.dtype)


def _lists(arrays: Sequence[np.ndarray], dtype: Any) -> pa.ListArray:
    """A column that has an array (n,) in each row."""
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, arrays)])
    flat = np.concatenate([NOTHING.astype(dtype), *(array.astype(dtype) for array in arrays)])
    return pa.LargeListArray.from_arrays(ends, pa.array(flat))


def _unlisted(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The arrays of such a column."""
    lists = column.combine_chunks()
    ends, flat = lists.offsets.to_numpy(), lists.values.to_numpy(zero_copy_only=False)
    return [flat[begin:end] for begin, end in pairwise(ends)]


def _parquet(table: pa.Table) -> bytes:
    """A table as a file: floats that hardly repeat byte by byte, all else by dictionaries."""
    import pyarrow as pa
    from pyarrow import parquet

    split: list[str] = []
    other: list[str] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        listed = pa.types.is_large_list(column.type) or pa.types.is_list(column.type)
        path = f"{name}.list.element" if listed else name
        is_float = pa.types.is_floating(column.type.value_type if listed else column.type)
        rare = is_float and (listed or 4 * len(column.unique()) > len(column))
        (split if rare else other).append(path)
    sink = pa.BufferOutputStream()
    parquet.write_table(
        table, sink, compression="zstd", compression_level=LEVEL, use_dictionary=other,
        column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"), write_statistics=False,
        data_page_size=PAGE_BYTES, dictionary_pagesize_limit=PAGE_BYTES,
    )  # fmt: skip
    return bytes(sink.getvalue())


def _table(content: bytes) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(pa.BufferReader(content)) as file:
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        if (size := sum(group.total_byte_size for group in groups)) > TABLE_BYTES:
            raise ValueError(f"a table of {size:,} bytes")
        return file.read(use_threads=False)


TABLES = {"runs": _runs_table, "metrics": _metrics_table, "arrays": _arrays_table}
"""What there is of every data set, in the order in which it is read."""
