"""A grid of runs: members in folders of their own, each run once, however often it is typed.

A sweep's folder holds its members' run folders, `sweep.yaml` (what was asked), `results.csv` (what
became of it) and `.sweep/` (the members' configurations, composed once, and what they printed).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bnrepro.errors import ConfigError
from bnrepro.store import FINISHED, atomic, sweep
from bnrepro.store.sweep import OWN, SWEEP, Member, Results
from bnrepro.sweeps import launchers, stacks
from bnrepro.sweeps.grid import Grid, grid, same_data
from bnrepro.sweeps.launchers import LauncherChoice
from bnrepro.sweeps.progress import SweepProgress, compose_progress
from bnrepro.training.signals import StopSignals


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
    *,
    jobs: int | None = None,
    stack: int = 1,
) -> Outcome:
    """Run what a sweep lacks, `jobs` members at a time; what is a result already is left as it is.

    Of members that differ in numbers only, up to `stack` train together as one computation.

    Raises:
        ConfigError: the overrides, or what they make of a member, cannot work; nothing has run.
        StorageError: the sweep's folder cannot be written.
        Interrupted: a signal asked to stop; every member's state is kept.
    """
    say = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    asked = grid(words, config_dir)
    if not asked.axes:
        raise ConfigError("nothing to sweep: give a setting several values (seed=0,1,2)")
    folder = (Path(asked.sweep_dir) if asked.sweep_dir else outputs / _name(asked)).absolute()
    if "${" in str(folder):
        raise ConfigError(f"a folder's name cannot hold '${{' ({folder}): choose another sweep.dir")
    choice = LauncherChoice(asked.launcher, asked.launcher_words, asked.threads, jobs or asked.jobs)
    with sweep.written(folder, "sweep.dir"):
        digest, members = _prepare(asked, folder, console)
        if len(members) < asked.asked:
            say(
                f"{asked.asked} members asked for, {len(members)} different: the rest would "
                "compute the same"
            )
        pending = [
            index for index, member in enumerate(members)
            if asked.overwrites or not sweep.finished(folder, member)
        ]  # fmt: skip
        groups = stacks.group(members, pending, stack)
        if stack > 1:
            say(stacks.describe(groups))
        with StopSignals() as stop, SweepProgress("sweep", folder, members, pending, console):
            try:
                launchers.run(choice, folder, digest, groups, stop)
            finally:
                table = sweep.read(folder, digest)
                sweep.write(table)
        if count := sweep.others(table):
            tables = ", ".join(sorted(path.name for path in folder.glob("results-*.csv")))
            say(
                f"{count} finished {'run' if count == 1 else 'runs'} in this folder not in this "
                f"grid, nor in {sweep.RESULTS}"
                + (f": former tables are {tables}" if tables else "")
            )
    return Outcome(table, _failures(folder, table))


def _name(asked: Grid) -> str:
    """A folder that the same sweep finds again when rerun."""
    axes = "-".join(axis.rpartition(".")[2] for axis in asked.axes)
    return f"sweep-{re.sub(r'[^A-Za-z0-9_-]', '_', axes)[:60]}-{asked.digest[:10]}"


def _prepare(asked: Grid, folder: Path, console: Console) -> tuple[str, list[Member]]:
    """Write down the members, or find them written down: the digest of their file, and they."""
    before = sweep.request(folder)
    digest, members = str(before.get("digest")), None
    same = asked.source is not None and before.get("source") == asked.source
    if same and sweep.is_whole(folder, digest):
        members = sweep.read_members(folder, digest)
    if members is None or not same_data(members):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / OWN).is_dir():
            raise ConfigError(f"not empty and not a sweep ({folder}): choose another sweep.dir")
        with compose_progress(len(asked), console) as on_progress:
            members = asked.members(on_progress)
        digest = sweep.write_members(folder, members)
        sweep.keep_table(folder, digest)
    record = {
        "command": ["sweep", *asked.words],
        "axes": asked.axes,
        "members": len(members),
        "launcher": asked.launcher,
        "digest": digest,
        "source": asked.source,
    }
    if {**before, **record} != before:
        record = {**record, "began": datetime.now(UTC).isoformat(timespec="seconds")}
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        atomic.write(folder / SWEEP, lambda file: file.write(text.encode()))
    return digest, members


def _failures(folder: Path, table: Results) -> dict[str, str]:
    """What ended each member that failed, by its name."""
    failures = {}
    for row in table.rows:
        if row["state"] in FINISHED:
            continue
        failures[row["member"]] = sweep.what_ended(folder, row["member"])
    return failures


def cells(table: Results, limit: int) -> tuple[tuple[str, ...], list[list[str]]]:
    """The best members for the terminal: columns and rows."""
    columns = (*table.axes, "state", "test accuracy", "best", "steps to .97", "seconds")
    rows = []
    for row in table.best_first()[:limit]:
        chance = " (chance)" if sweep.at_chance(row) else ""
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


def spare(table: Results) -> list[str]:
    """Columns of `cells` that a narrow terminal does without, first those that tell least.

    The axis of the most values stays.
    """
    axes = sorted(table.axes, key=lambda axis: len(table.axes[axis]))
    return ["seconds", "best", "steps to .97", *axes[:-1]]


def _number(value: Any, form: str) -> str:
    return "" if value is None else form.format(value)
