"""A grid of runs: members in folders of their own, each run once, however often it is typed.

A sweep's folder holds its members' run folders, `sweep.yaml` (what was asked), `results.csv` (what
became of it) and `.sweep/` (the members' configurations, composed once, and what they printed).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bnrepro import atomic, engines, members, sweepfolder
from bnrepro.engines import Engine
from bnrepro.errors import ConfigError
from bnrepro.grid import Grid, grid, same_data
from bnrepro.monitor import Monitor, composing
from bnrepro.signals import StopSignals
from bnrepro.store import FINISHED
from bnrepro.sweepfolder import SWEEP, Member, Results


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep: its results, and what ended each member that failed."""

    results: Results
    failures: dict[str, str]


def run(
    words: Sequence[str],
    config_dir: Path | None,
    outputs: Path,
    console: Console,
    stack: int = 1,
) -> Outcome:
    """Run what a sweep lacks; what is a result already is left as it is.

    Of members that differ in numbers only, up to `stack` train together as one computation.

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
    with sweepfolder.written(folder, "sweep.dir"):
        found = _prepare(asked, folder, console)
        if len(found) < asked.asked:
            console.print(
                f"{asked.asked} members asked for, {len(found)} different: the others would "
                "compute the same",
                soft_wrap=True,
                highlight=False,
            )
        pending = [
            index for index, member in enumerate(found)
            if asked.overwrites or not sweepfolder.finished(folder, member)
        ]  # fmt: skip
        engine = Engine(asked.launcher, asked.launcher_words, asked.threads)
        stacks = members.stacks(found, pending, stack)
        if stack > 1:
            console.print(members.said(stacks), highlight=False)
        with StopSignals() as stop, Monitor("sweep", folder, found, pending, console):
            try:
                engines.run(engine, folder, asked.digest, stacks, stop)
            finally:
                table = sweepfolder.read(folder)
                sweepfolder.write(table)
    return Outcome(table, _failures(folder, table))


def _name(asked: Grid) -> str:
    """A folder that the same sweep, typed again, finds again."""
    axes = "-".join(axis.rpartition(".")[2] for axis in asked.axes)
    return f"sweep-{re.sub(r'[^A-Za-z0-9_-]', '_', axes)[:60]}-{asked.digest[:10]}"


def _prepare(asked: Grid, folder: Path, console: Console) -> list[Member]:
    """Write down what was asked, or find it written down already."""
    path = sweepfolder.members_path(folder, asked.digest)
    before = sweepfolder.request(folder)
    command = ["sweep", *asked.words]  # the digest is silent on `run.overwrite` and its like
    same = before.get("digest") == asked.digest and before.get("command") == command
    if same and path.is_file() and before.get("members_digest") == _digest(path):
        found = sweepfolder.read_members(path)
        if same_data(found):
            return found
    if folder.is_dir() and any(folder.iterdir()) and not path.parent.is_dir():
        raise ConfigError(f"not empty and not a sweep ({folder}): choose another sweep.dir")
    with composing(len(asked), console) as told:
        found = asked.members(told)
    atomic.make_folder(path.parent)
    sweepfolder.write_members(path, found)
    record = {
        "command": command,
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


def _failures(folder: Path, table: Results) -> dict[str, str]:
    """Of each member that is no result: what ended it."""
    found = {}
    for row in table.rows:
        if row["state"] in FINISHED:
            continue
        found[row["member"]] = sweepfolder.what_ended(folder, row["member"])
    return found


def cells(table: Results, limit: int) -> tuple[tuple[str, ...], list[list[str]]]:
    """The best members for the terminal: columns and rows."""
    columns = (*table.axes, "state", "test accuracy", "best", "steps to .97", "seconds")
    rows = []
    for row in table.best_first()[:limit]:
        chance = " (chance)" if sweepfolder.at_chance(row) else ""
        rows.append(
            [
                *(str(row[axis]) for axis in table.axes),
                str(row["state"]),
                _number(row["test_accuracy"], "{:.4f}") + chance,
                _number(row["best_test_accuracy"], "{:.4f}"),
                _number(row["steps_to_0.97"], "{}"),
                _number(row["wall_seconds"], "{:.1f}"),
            ]
        )
    return columns, rows


def _number(value: Any, form: str) -> str:
    return "" if value is None else form.format(value)
