"""The runs in a folder as a table, and two of them side by side."""

import csv
import io
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnrepro.config import flat, unknown
from bnrepro.errors import ConfigError, UnreadableError
from bnrepro.store import UNREADABLE, StoredRun, find_runs
from bnrepro.terminal import as_text, duration

Row = dict[str, Any]

COLUMNS = ("run", "state", "step", "accuracy", "left", "dataset", "norm", "lr", "scale", "seed")

KEPT = ("run", "state", "step", "accuracy")
"""The columns that a terminal of any width shows."""

RESULTS = (
    "status", "steps", "test_accuracy", "best_test_accuracy", "population_test_accuracy",
    "validation_accuracy", "train_accuracy", "train_loss", "wall_seconds",
)  # fmt: skip
"""What is compared of two runs' summaries."""

BARS = "▁▂▃▄▅▆▇█"


def rows(folder: Path, only: Sequence[str] = (), sort: str | None = None) -> list[Row]:
    """What there is to say about every run below a folder.

    Args:
        folder: of the runs, which are named relative to it.
        only: KEY=VALUE of what is listed; a key is one of a row's or of the configuration's.
        sort: a row's key; with a `-` before it the greatest comes first. What has none comes last.

    Raises:
        ConfigError: no run has such a key.
        StorageError: there is no such folder.
    """
    wanted = [word.partition("=") for word in only]
    found = [_row(run, folder) for run in find_runs(folder)]
    keys = dict.fromkeys(key for row, settings in found for key in (*row, *settings))
    for key, equals, _ in wanted:
        if not equals:
            raise ConfigError(f"no condition ({key}): type KEY=VALUE, such as norm=batch")
        if keys and key not in keys:
            raise ConfigError(unknown("column or setting", key, keys))
    listed = [
        row for row, settings in found
        if all(str((settings | row).get(key)) == value for key, _, value in wanted)
    ]  # fmt: skip
    if sort and listed:
        key = sort.lstrip("-")
        if key not in listed[0]:
            raise ConfigError(unknown("column to sort by", key, listed[0]))
        known = [row for row in listed if row[key] is not None]
        known.sort(key=lambda row: row[key], reverse=sort.startswith("-"))
        listed = [*known, *(row for row in listed if row[key] is None)]
    return listed


def _row(run: StoredRun, folder: Path) -> tuple[Row, dict[str, Any]]:
    """A run in one line; and its configuration by dotted names."""
    status: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    drift: list[str] = []
    live: dict[str, Any] = {}
    try:
        status, summary, config = run.status(), run.summary() or {}, run.config()
        drift = run.drift()
        missing = run.lacks(probes=False, config=config) if summary else None
        if missing:
            status, summary = {"state": UNREADABLE, "error": f"no {missing}"}, {}
        elif not summary:
            live = _so_far(run, config.get("train", {}).get("steps"))
    except UnreadableError as error:
        status, summary = {"state": UNREADABLE, "error": str(error)}, {}
    settings = flat(config)
    return {
        "run": str(run.folder.relative_to(folder)),
        "state": "drifted" if summary and drift else status["state"],
        "step": live.get("step", status.get("step")),
        "steps": settings.get("train.steps"),
        "test_accuracy": summary.get("test_accuracy", live.get("test_accuracy")),
        "seconds_left": live.get("left") if status["state"] == "running" else None,
        "diverged_at": summary.get("diverged_at"),
        "dataset": settings.get("dataset.name"),
        "norm": settings.get("norm.name"),
        "lr": settings.get("optimizer.lr"),
        "init_scale": settings.get("init.scale"),
        "seed": settings.get("seed"),
        "tags": config.get("tags", []),
        "drift": drift,
        "error": status.get("error"),
    }, settings


def _so_far(run: StoredRun, steps: int | None) -> dict[str, Any]:
    """How far an unfinished run is, by its metrics: the status is written more seldom."""
    last = run.last_line()
    if not last:
        return {}
    tested = deque(run.lines("test_accuracy"), maxlen=1)
    done, seconds = last.get("step", 0), last.get("seconds", 0.0)
    return {
        "step": done,
        "test_accuracy": tested[0]["test_accuracy"] if tested else None,
        "left": round((steps - done) * seconds / done) if steps and done else None,
    }


def cells(row: Row) -> list[str]:
    """A row as the terminal shows it, under `COLUMNS`."""
    accuracy, left = row["test_accuracy"], row["seconds_left"]
    return [
        row["run"],
        row["state"],
        "" if row["step"] is None else f"{row['step']}/{row['steps']}",
        f"{accuracy:.4f}" if accuracy is not None else "",
        "" if left is None else duration(left),
        *(as_text(row[key]) for key in ("dataset", "norm", "lr", "init_scale", "seed")),
    ]


def fitting(listed: Sequence[Row], width: int | None) -> tuple[tuple[str, ...], list[list[str]]]:
    """The columns and cells of a table that is as wide as a terminal; None: as wide as it likes.

    If there is no room for all columns, those go that are empty, then those that are the same for
    every run; then names lose their hash; then others go, from the end.
    """
    columns = [list(column) for column in zip(COLUMNS, *map(cells, listed), strict=True)]
    removable = [column for column in reversed(columns) if column[0] not in KEPT]
    empty = [column for column in removable if not any(column[1:])]
    same = [column for column in removable if len(set(column[1:])) == 1 and column[0] != "left"]
    for column in (*empty, *same):
        if not _fits(columns, width):
            columns = [each for each in columns if each is not column]
    if not _fits(columns, width):
        columns[0] = without_hashes(columns[0])
    for column in removable:
        if not _fits(columns, width):
            columns = [each for each in columns if each is not column]
    names, *rows = zip(*columns, strict=True)
    return names, [list(row) for row in rows]


def _fits(columns: Sequence[Sequence[str]], width: int | None) -> bool:
    return width is None or sum(max(map(len, each)) + 2 for each in columns) <= width


def without_hashes(names: Sequence[str]) -> list[str]:
    """Names of runs without the digits at their end, unless two would be the same."""
    short = [re.sub(r"(?<=_)[0-9a-f]{10}$|(?<=-)[0-9a-f]{6}$", "…", name) for name in names]
    return short if len(set(short)) == len(names) else list(names)


def as_csv(listed: Sequence[Row]) -> str:
    """Rows as a CSV file; lists in it are separated by semicolons."""
    text = io.StringIO()
    if listed:
        writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
        writer.writeheader()
        for row in listed:
            shown = {
                k: "; ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()
            }
            writer.writerow(shown)
    return text.getvalue()


def compare(runs: Sequence[StoredRun]) -> list[tuple[str, ...]]:
    """The settings that differ between runs, then what came out: name, and the value of each.

    Raises:
        UnreadableError: one of them cannot be read.
    """
    settings = [flat(run.config()) for run in runs]
    places = ("run.", "sweep.")  # where a run lies is no setting of it
    names = dict.fromkeys(name for of in settings for name in of if not name.startswith(places))
    values = [(name, *(as_text(of.get(name)) for of in settings)) for name in names]
    summaries = [run.summary() or {"status": run.status()["state"]} for run in runs]
    results = [(name, *(_number(of.get(name)) for of in summaries)) for name in RESULTS]
    different = [row for row in values if len(set(row[1:])) > 1]
    return [*different, *(row for row in results if any(row[1:]))]


def curve(run: StoredRun, width: int) -> str:
    """Test accuracy over training as a line of bars, from 0 to 1, `width` characters at most."""
    _, values = run.curve("test_accuracy")
    if not len(values):
        return ""
    places = np.linspace(0, len(values) - 1, min(width, len(values))).round().astype(int)
    heights = np.clip(values[places] * len(BARS), 0, len(BARS) - 1).astype(int)
    return "".join(BARS[height] for height in heights)


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else as_text(value)
