"""A grid of runs: members in folders of their own, each run once, however often it is typed.

A sweep's folder holds its members' run folders, `sweep.yaml` (what was asked), `results.csv` (what
became of it) and `.sweep/` (the members' configurations, composed once, and what they printed).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bnrepro import atomic, engines, sweepfolder
from bnrepro.errors import ConfigError, Interrupted, StorageError
from bnrepro.grid import Grid, grid
from bnrepro.signals import StopSignals
from bnrepro.store import FINISHED, StoredRun
from bnrepro.sweepfolder import SWEEP, Member, Results

SECONDS_BETWEEN_LINES = 15.0  # where there is no terminal to draw a bar on
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep: its results, and what ended each member that failed."""

    results: Results
    failures: dict[str, str]


def run(words: Sequence[str], config_dir: Path | None, outputs: Path, console: Console) -> Outcome:
    """Run what a sweep lacks; what is a result already is left as it is.

    Raises:
        ConfigError: the overrides, or what they make of a member, cannot work; nothing has run.
        StorageError: the sweep's folder cannot be written.
        Interrupted: SIGINT or SIGTERM came; every member's state is kept.
    """
    asked = grid(words, config_dir)
    if not asked.axes:
        raise ConfigError("nothing to go over: give a setting several values (seed=0,1,2)")
    folder = (Path(asked.sweep_dir) if asked.sweep_dir else outputs / _name(asked)).absolute()
    if "${" in str(folder):
        raise ConfigError(f"a folder's name cannot hold '${{' ({folder}): choose another sweep.dir")
    try:
        found = _prepare(asked, folder, console)
        pending = [
            index for index, member in enumerate(found)
            if asked.overwrites or not sweepfolder.finished(folder, member.name)
        ]  # fmt: skip
        with StopSignals() as stop, Monitor(folder, found, pending, console):
            try:
                engines.run(asked, folder, pending, stop)
            finally:
                table = sweepfolder.read(folder)
                sweepfolder.write(table)
    except Interrupted as error:
        error.folder = folder
        raise
    except OSError as error:
        raise StorageError(
            f"cannot write or read: {error.strerror or error} ({error.filename or folder}): "
            "free space or choose another folder with sweep.dir"
        ) from error
    return Outcome(table, _failures(folder, table))


def _name(asked: Grid) -> str:
    """A folder that the same sweep, typed again, finds again."""
    axes = "-".join(axis.rpartition(".")[2] for axis in asked.axes)
    return f"sweep-{re.sub(r'[^A-Za-z0-9_-]', '_', axes)[:60]}-{asked.digest[:10]}"


def _prepare(asked: Grid, folder: Path, console: Console) -> list[Member]:
    """Write down what was asked, or find it written down already."""
    path = sweepfolder.members_path(folder, asked.digest)
    before = sweepfolder.request(folder)
    whole = path.is_file() and before.get("members_digest") == _digest(path)
    if before.get("digest") == asked.digest and whole:
        return sweepfolder.read_members(path)
    if folder.is_dir() and any(folder.iterdir()) and not path.parent.is_dir():
        raise ConfigError(f"not empty and not a sweep ({folder}): choose another sweep.dir")
    found = _composed(asked, console)
    atomic.make_folder(path.parent)
    sweepfolder.write_members(path, found)
    record = {
        "command": ["sweep", *asked.words],
        "axes": asked.axes,
        "members": len(found),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "launcher": asked.launcher,
        "digest": asked.digest,
        "members_digest": _digest(path),
    }
    record_text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    atomic.write(folder / SWEEP, lambda file: file.write(record_text.encode()))
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _composed(asked: Grid, console: Console) -> list[Member]:
    columns = (TextColumn("composing"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task("", total=len(asked))
        return asked.members(lambda done: bar.update(task, completed=done))


def _failures(folder: Path, table: Results) -> dict[str, str]:
    """Of each member that is no result: what ended it."""
    found = {}
    for row in table.rows:
        if row["state"] in FINISHED:
            continue
        run, name = StoredRun(folder / row["member"]), row["member"]
        error = run.status().get("error") if run.exists() else None
        found[name] = f"{row['state']}: {error or _last_line(folder, name)}"
    return found


def _last_line(folder: Path, name: str) -> str:
    path = sweepfolder.output(folder, name)
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    return lines[-1] if lines else "it never began"


class Monitor:
    """Shows how far a sweep is, by looking at its members' folders: it works for every engine."""

    def __init__(
        self, folder: Path, found: Sequence[Member], pending: Sequence[int], console: Console
    ) -> None:
        self._folder, self._console = folder, console
        self._left = {found[i].name: int(found[i].config["train"]["steps"]) for i in pending}
        self._total, self._members = sum(self._left.values()), len(found)
        self._counts: Counter[str] = Counter({"done before": len(found) - len(pending)})
        self._ended = 0  # steps of members that came to an end
        self._began, self._spoke = time.monotonic(), time.monotonic()
        self._at_start = {name: self._step(name) for name in self._left}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bar = Progress(
            TextColumn("sweep"), BarColumn(), TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("sweep", total=max(1, self._total), said="")

    def __enter__(self) -> Monitor:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._bar.stop()
        if not self._console.is_terminal and self._total:
            self._console.print(self._said(0), soft_wrap=True, highlight=False)

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        running, steps = 0, 0
        for name, length in list(self._left.items()):
            if not (self._folder / name).is_dir():
                continue
            run = StoredRun(self._folder / name)
            try:
                state = run.status()["state"] if run.exists() else "missing"
            except StorageError:
                state = "failed"
            if state in FINISHED or (state == "failed" and self._stop.is_set()):
                self._counts[state] += 1
                self._ended += length - self._at_start.get(name, 0)
                del self._left[name]
            elif state == "running":
                running += 1
                steps += max(0, self._step(name) - self._at_start.get(name, 0))
        done = self._ended + steps
        said = self._said(running, done)
        self._bar.update(self._task, completed=done, said=said)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._spoke > SECONDS_BETWEEN_LINES:
            self._spoke = now
            self._console.print(said, soft_wrap=True, highlight=False)

    def _step(self, name: str) -> int:
        """The last step of a member, from the end of its metrics."""
        try:
            with open(self._folder / name / "metrics.jsonl", "rb") as file:
                file.seek(max(0, file.seek(0, 2) - 1000))
                lines = file.read().split(b"\n")
            return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0
        except (OSError, ValueError, KeyError):
            return 0

    def _said(self, running: int, done: int = 0) -> str:
        counts = self._counts
        ended = counts["done before"] + counts["done"] + counts["diverged"]
        parts = [f"{ended}/{self._members} done"]
        parts += [f"{counts['done before']} of them before"] if counts["done before"] else []
        parts += [f"{running} running"] if running else []
        parts += [f"{counts[s]} {s}" for s in ("diverged", "failed") if counts[s]]
        seconds = time.monotonic() - self._began
        if done and seconds > 1:
            parts.append(f"{done / seconds:,.0f} steps/s")
            parts.append(f"{(self._total - done) * seconds / done:,.0f} s left")
        return "  ".join(parts)


def cells(table: Results, limit: int) -> tuple[tuple[str, ...], list[list[str]]]:
    """The best members for the terminal: columns and rows."""
    columns = (*table.axes, "state", "test accuracy", "best", "steps to .97", "seconds")
    rows = []
    for row in table.best_first()[:limit]:
        rows.append(
            [
                *(str(row[axis]) for axis in table.axes),
                str(row["state"]),
                *(_number(row[name], "{:.4f}") for name in ("test_accuracy", "best_test_accuracy")),
                _number(row["steps_to_0.97"], "{}"),
                _number(row["wall_seconds"], "{:.1f}"),
            ]
        )
    return columns, rows


def _number(value: Any, form: str) -> str:
    return "" if value is None else form.format(value)
