"""A sweep on disk: its members, and what became of each, read from the run folders alone."""

import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnrepro import reading
from bnrepro.config import differences, other_results
from bnrepro.errors import Interrupted, StorageError, UnreadableError
from bnrepro.store import CHANCE, FINISHED, SUMMARY, UNREADABLE, StoredRun, atomic

SWEEP, RESULTS = "sweep.yaml", "results.csv"
OWN, OUTPUT = ".sweep", "output"
"""A folder for what is no member's: the members as they were composed, and what each printed."""

TARGETS = (0.9, 0.95, 0.97, 0.98)
"""Test accuracies; the table has the first step at which a run reached each."""

MEMBERS_BYTES, SWEEP_BYTES = 2**30, 2**25
"""The largest files of members and `sweep.yaml` that are read: a sweep of 100,000 needs a tenth."""

OUTPUT_BYTES = 100_000  # of the end of what a member printed, where its last line is looked for

AT_CHANCE = 1.25
"""A run at up to this many times the accuracy of guessing has not learned: the most frequent class
alone gives 1.14 times on MNIST."""

COLUMNS = (
    "state", "test_accuracy", "best_test_accuracy", *(f"steps_to_{t}" for t in TARGETS),
    "steps", "diverged_at", "wall_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    `name` is its folder's; `overrides` say how one would type it; `values` are those of the axes;
    `config` is the whole configuration but for the folder; `registered` are the digests of claims
    by their ids, which its manifest is to list.
    """

    name: str
    overrides: tuple[str, ...]
    values: dict[str, Any]
    config: dict[str, Any]
    registered: dict[str, str] = field(default_factory=dict)


def members_path(sweep: Path, digest: str) -> Path:
    """The file of the members of one request, named by the SHA-256 of its content."""
    return sweep / OWN / f"members-{digest[:10]}.jsonl"


def write_members(sweep: Path, members: Iterable[Member]) -> str:
    """Write down the members of a request, in their order, and return the digest of the file.

    Every line has the same length, so that a member is read without the others. What is written
    never changes: two requests may be at work in one folder.

    Raises:
        OSError: the file could not be written.
    """
    lines = [json.dumps(vars(member)).encode() for member in members]
    width = max(map(len, lines), default=0)
    text = b"".join(line.ljust(width) + b"\n" for line in lines)
    digest = hashlib.sha256(text).hexdigest()
    path = members_path(sweep, digest)
    atomic.make_folder(path.parent)
    if not is_whole(sweep, digest):
        atomic.write(path, lambda file: file.write(text))
    return digest


def is_whole(sweep: Path, digest: str) -> bool:
    """Whether the members of a request stand there as they were written down."""
    try:
        content = reading.read_bytes(members_path(sweep, digest), MEMBERS_BYTES)
    except (FileNotFoundError, StorageError):
        return False
    return hashlib.sha256(content).hexdigest() == digest


def read_members(sweep: Path, digest: str) -> list[Member]:
    """The members of a request, in the order they were asked for.

    Raises:
        StorageError: what was written down cannot be read.
    """
    path = members_path(sweep, digest)
    with _whole(path):
        return [_member(line) for line in reading.read_json_lines(path, MEMBERS_BYTES)]


def read_some(sweep: Path, digest: str, indices: Sequence[int]) -> list[Member]:
    """Some members of a request, by their numbers; what is read does not grow with the others.

    Raises:
        StorageError: what was written down cannot be read.
    """
    path = members_path(sweep, digest)
    members = []
    with _whole(path), open(path, "rb") as file:
        width = len(file.readline())
        for index in indices:
            file.seek(index * width)
            members.append(_member(reading.parse_json(file.readline().decode(), path)))
    return members


def _member(values: dict[str, Any]) -> Member:
    return Member(**{**values, "overrides": tuple(values["overrides"])})


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, StorageError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"not a whole sweep: {error} ({path}): rerun the sweep") from error


def request(sweep: Path) -> dict[str, Any]:
    """What was asked for last, from `sweep.yaml`; empty where that cannot be read."""
    try:
        values = reading.read_yaml(sweep / SWEEP, SWEEP_BYTES)
    except (FileNotFoundError, StorageError):
        return {}
    return values if isinstance(values, dict) else {}


def output(sweep: Path, name: str) -> Path:
    """What a member printed."""
    return sweep / OWN / OUTPUT / f"{name}.txt"


def finished(sweep: Path, member: Member, *, any_results: bool = False) -> bool:
    """Whether a member's run is a result already; a damaged one is not, and has to run again.

    Nor is one of another results number, unless `any_results`. Probes are not asked for: a sweep's
    table does without.
    """
    run = StoredRun(sweep / member.name)
    try:
        return (
            (run.folder / SUMMARY).is_file()
            and run.lacks(probes=False) is None
            and not another(run, member)
            and not run.drift()
            and (any_results or not other_results(run.manifest()))
        )
    except UnreadableError:
        return False


def another(run: StoredRun, member: Member) -> list[str]:
    """What makes the run in a member's folder another one: folders are copied and renamed."""
    config = run.config()
    return differences(member.config, config) if config else []


def what_ended(sweep: Path, name: str) -> str:
    """Why a member failed or is unfinished: its state, and the last line it printed."""
    run = StoredRun(sweep / name)
    if why := run.damaged():
        return f"{UNREADABLE}: {why}"
    status = run.status() if run.exists() else {"state": "missing"}
    if drift := run.drift():
        return f"drifted: {'; '.join(drift)}: run.overwrite=true restarts it"
    try:
        printed = reading.read_tail(output(sweep, name), OUTPUT_BYTES)
    except (FileNotFoundError, UnreadableError):
        printed = b""
    lines = printed.decode(errors="replace").splitlines()
    last = lines[-1] if lines else "it never began"
    return f"{status['state']}: {status.get('error') or last}"


@dataclass(frozen=True)
class Results:
    """The members of a sweep: `axes` by name with their values in order, and a row for each."""

    folder: Path
    axes: dict[str, list[Any]]
    rows: list[dict[str, Any]]

    @property
    def finished(self) -> int:
        """How many members are a result."""
        return sum(row["state"] in FINISHED for row in self.rows)

    @property
    def complete(self) -> str:
        """`INCOMPLETE (n of m)`, or nothing where every member is a result."""
        done, all_ = self.finished, len(self.rows)
        return f"INCOMPLETE ({done} of {all_})" if done < all_ else ""

    def best_first(self) -> list[dict[str, Any]]:
        """Rows by falling final accuracy; those that diverged and then the unfinished come last."""

        def place(row: dict[str, Any]) -> tuple[bool, float]:
            final = row["test_accuracy"]
            return row["state"] not in FINISHED, math.inf if final is None else -final

        return sorted(self.rows, key=place)


@contextmanager
def written(folder: Path, where: str) -> Iterator[None]:
    """While runs are made in a folder: an interruption names it, an error of the disk the file.

    Args:
        folder: what is written into.
        where: how another folder is chosen, such as `sweep.dir`.

    Raises:
        StorageError: the folder cannot be written or read.
    """
    try:
        yield
    except Interrupted as error:
        error.folder = folder
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write or read: {error.strerror or error} ({error.filename or folder}): "
            f"free space or choose another folder with {where}"
        ) from error


def is_sweep(folder: Path) -> bool:
    """Whether a sweep was written into this folder."""
    return (folder / SWEEP).is_file()


def read(folder: Path, digest: str | None = None) -> Results:
    """The results of a sweep as they stand: of the request of this digest, or of the last one.

    Raises:
        StorageError: what the sweep wrote down cannot be read.
    """
    members = read_members(folder, digest or str(request(folder).get("digest")))
    axes: dict[str, list[Any]] = {}
    for member in members:
        for axis, value in member.values.items():
            values = axes.setdefault(axis, [])
            if value not in values:
                values.append(value)
    rows = [{"member": m.name, **m.values, **row(folder, m)} for m in members]
    return Results(folder, axes, rows)


def accuracy(row: Mapping[str, Any]) -> float | None:
    """The final test accuracy that means count: a diverged run guesses, an unfinished has none."""
    value = row["chance"] if row["state"] == "diverged" else row["test_accuracy"]
    return None if value is None else float(value)


def at_chance(row: Mapping[str, Any]) -> bool:
    """Whether a run came to its end and is no better than guessing."""
    final = row["test_accuracy"]
    return row["state"] == "done" and final is not None and final <= AT_CHANCE * row["chance"]


def row(sweep: Path, member: Member) -> dict[str, Any]:
    """What became of one member: `COLUMNS`, and `chance`, the accuracy of guessing."""
    run = StoredRun(sweep / member.name)
    try:
        return _row(run, member) | {"chance": run.chance()}
    except UnreadableError:
        return dict.fromkeys(COLUMNS) | {"state": UNREADABLE, "chance": CHANCE}


def _row(run: StoredRun, member: Member) -> dict[str, Any]:
    if not run.exists():
        return dict.fromkeys(COLUMNS) | {"state": "missing"}
    if another(run, member):
        return dict.fromkeys(COLUMNS) | {"state": "another run"}
    if run.drift():
        return dict.fromkeys(COLUMNS) | {"state": "drifted"}
    summary = run.summary()
    columns: dict[str, Any] = dict.fromkeys(COLUMNS)
    if summary is None:
        return columns | {"state": run.status()["state"]}
    if run.lacks(probes=False):
        return columns | {"state": UNREADABLE}
    columns |= {name: summary.get(name) for name in COLUMNS if name in summary}
    columns["state"] = summary["status"]
    steps, accuracies = run.curve("test_accuracy")
    for target in TARGETS:
        reached = steps[accuracies >= target]
        columns[f"steps_to_{target}"] = int(reached[0]) if len(reached) else None
    return columns


def others(results: Results) -> int:
    """How many finished runs in a sweep's folder are no member of it."""
    members = {row["member"] for row in results.rows}
    return sum(
        path.name not in members and (path / SUMMARY).is_file() for path in results.folder.iterdir()
    )


def keep_table(sweep: Path, digest: str) -> None:
    """Before another request's table takes its place, keep one that has other members.

    It is then called `results-DIGEST.csv`, by the digest of its own request.
    """
    before = str(request(sweep).get("digest"))
    (sweep / _kept(digest)).unlink(missing_ok=True)  # it is the table now
    if before == digest or not (sweep / RESULTS).is_file():
        return
    names = {member.name for member in read_members(sweep, digest)}
    try:
        former = {member.name for member in read_members(sweep, before)}
    except StorageError:
        former = set()
    if not former <= names or not former:
        os.replace(sweep / RESULTS, sweep / _kept(before))


def _kept(digest: str) -> str:
    return f"results-{digest[:10]}.csv"


def write(results: Results, out: Path | None = None) -> Path:
    """Write `results.csv` into `out`, or the sweep's folder; a time is the last column."""
    path = (out or results.folder) / RESULTS
    text = io.StringIO()
    columns = ["member", *results.axes, *COLUMNS]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in results.rows:
        writer.writerow({key: _cell(row[key]) for key in columns})
    atomic.write(path, lambda file: file.write(text.getvalue().encode()))
    return path


def _cell(value: Any) -> Any:
    """A spreadsheet would run a text that begins like a formula."""
    if isinstance(value, str) and re.match(r"[=+@\t\r-]", value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
