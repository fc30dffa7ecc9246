"""How far many runs are: what was there before counts for nothing, what comes to its end does."""

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bnrepro.store.sweep import Member
from bnrepro.sweeps.progress import SweepProgress


def member(name: str, overwrite: bool = False) -> Member:
    return Member(name, (), {}, {"train": {"steps": 100}, "run": {"overwrite": overwrite}})


def put(folder: Path, name: str, step: int, **status: Any) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "status.json").write_text(json.dumps({"step": step, **status}))
    (folder / name / "metrics.jsonl").write_text(f'{{"step": 0}}\n{{"step": {step}}}\n')


def watched(folder: Path, found: list[Member]) -> tuple[SweepProgress, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, width=200)
    return SweepProgress("reproduce", folder, found, range(len(found)), console), text


def test_a_rerun_counts_when_it_finishes_again(tmp_path: Path) -> None:
    put(tmp_path, "a", 100, state="done", pid=1)
    put(tmp_path, "b", 40, state="interrupted", pid=1)
    monitor, text = watched(tmp_path, [member("a", overwrite=True), member("b"), member("c")])
    with monitor:
        monitor._look()
        assert monitor._said(0).startswith("0/3 done")
        put(tmp_path, "a", 100, state="done", pid=2)
        put(tmp_path, "b", 100, state="diverged", pid=2)
        monitor._look()
        assert monitor._ended == 100 + 60  # all of the first, what was left of the second
    assert "2/3 done  1 diverged" in text.getvalue()


def test_a_run_that_failed_earlier_is_not_reported_as_failed(tmp_path: Path) -> None:
    put(tmp_path, "a", 10, state="failed", pid=1)
    monitor, text = watched(tmp_path, [member("a"), member("b")])
    with monitor:
        put(tmp_path, "b", 0, state="failed", pid=2)
    assert "0/2 done  1 failed" in text.getvalue()


def test_time_left_is_by_what_a_step_of_each_kind_takes(tmp_path: Path) -> None:
    def of(name: str, model: str) -> Member:
        config = member(name).config
        return Member(name, (), {}, {**config, "model": {"name": model}})

    found = [of("quick", "mlp"), of("slow", "inception")]
    found += [of("quick too", "mlp"), of("slow too", "inception")]
    monitor, _ = watched(tmp_path, found)
    for name, seconds in {"quick": 5.0, "slow": 500.0}.items():
        put(tmp_path, name, 50, state="running", pid=1)
        line = json.dumps({"step": 50, "seconds": seconds})
        (tmp_path / name / "metrics.jsonl").write_text(line + "\n")
    going = {name: monitor._step(name) for name in ("quick", "slow")}
    # 50 + 100 steps of .1 s, and as many of 10 s, two at a time.
    assert monitor._time_left(going) == f"{round((15 + 1500) / 2 / 60)} min left"


def test_where_no_steps_are_left_it_says_what_is(tmp_path: Path) -> None:
    monitor, _ = watched(tmp_path, [member("a")])
    put(tmp_path, "a", 100, state="running", pid=1)
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 100, "seconds": 5.0}\n')
    assert monitor._time_left({"a": monitor._step("a")}) == "last measurements"
