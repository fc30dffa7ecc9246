"""`bnrepro reproduce` through the command line: what runs, what does not, what a kill leaves."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import forked
import pytest
from alike import assert_same_run
from conftest import TINY, Command
from rich.console import Console

from bnrepro import claims, cli, data
from bnrepro import reproduce as reproducing
from bnrepro.cli import main
from bnrepro.config import RESULTS_NUMBER
from bnrepro.evidence.arms import FIRST_OF_CHOICE
from bnrepro.evidence.claim import Claim, Criterion, Finding, Margin, Plan
from bnrepro.evidence.runs import FIRST_SEED, PILOT_SEED, Evidence, seeds
from bnrepro.report import claims as told
from bnrepro.store import StoredRun, reproduction
from bnrepro.store.sweep import Member
from bnrepro.sweeps.grid import configurations, steps
from bnrepro.training import environment


def tiny(**arms: tuple[str, ...]) -> Claim:
    """A claim whose first arm's accuracy is positive, over runs that take no time."""

    def measure(evidence: Evidence) -> Finding:
        return Finding({"a": evidence.final(next(iter(arms)))})

    return Claim(
        statement="It holds.", section="§0", paper_says="This.", unspecified="That.",
        criteria={"a": Criterion("accuracy", Margin(0.0, "accuracy"), "why")},
        scales={"smoke": Plan(1, arms, TINY), "short": Plan(2, arms, TINY)},
        measure=measure,
    )  # fmt: skip


ONE = tiny(none=("norm=none",), batch=("norm=batch",))
TWO = tiny(bn=("norm=batch", "tags=[other]"), quick=("norm=batch", "optimizer.lr=1"))


def test_a_runs_folder_is_named_by_what_arms_differ_in() -> None:
    claim = tiny(deep=("norm=none", "model.hidden=[7,7,7]", "model.dropout=0.5", "optimizer.lr=3"),
                 wide=("norm=batch", "model.hidden=[9,8]", "train.eval_every=7"))  # fmt: skip
    _, members = reproducing._members(
        {"claim": claim}, "smoke", lambda _: (FIRST_SEED,), {}, Console()
    )
    deep, wide = (member.name.rpartition("_")[0] for member in members)
    assert deep.startswith(f"norm=none_lr=3_scale=0.07_seed={FIRST_SEED}_dropout=0.5_hidden=3x7")
    assert wide.startswith(f"norm=batch_lr=0.07_scale=0.07_seed={FIRST_SEED}_hidden=9-8_")
    assert "eval" not in wide


def results(out: Path) -> dict[str, Any]:
    """The numbers of a report, without when the runs began."""
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    for claim in found["claims"].values():
        datetime.fromisoformat(claim.pop("began"))
    return found


def made(out: Path) -> dict[str, int]:
    """When each run was finished, by its folder."""
    found = (out / "runs").glob("*/summary.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def test_runs_are_shared_skipped_and_kept(
    tmp_path: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    have(one=ONE, two=TWO)
    out = tmp_path / "out"
    line = ["reproduce", "--scale", "short", "--out", str(out), "--jobs", "1"]
    assert main([*line, "one"]) == 0
    assert set(results(out)["claims"]) == {"one"}
    first = made(out)
    assert len(first) == 4
    assert main([*line, "two"]) == 0  # of its four runs two are the first claim's
    both = made(out)
    assert len(both) == 6
    assert {name: both[name] for name in first} == first
    assert set(results(out)["claims"]) == {"one", "two"}  # the folder's report keeps the first
    capsys.readouterr()
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "two" in said
    assert "REPRODUCED" in said
    assert made(out) == both
    with pytest.MonkeyPatch.context() as patch:  # where all is there nothing is started
        patch.setattr("bnrepro.sweeps.worker.supervise", None)
        assert main(line) == 0
    assert main([*line, "--seeds", "3", "one"]) == 0
    assert len(made(out)) == 8
    seeds = {name: claim["primary"]["seeds"] for name, claim in results(out)["claims"].items()}
    assert seeds == {"one": 3, "two": 2}


def test_a_dry_run_tells_what_is_left_and_writes_nothing(
    tmp_path: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    have(one=ONE)
    line = ["reproduce", "--scale", "short", "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert main([*line, "--dry-run"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"4 runs, 4 of them to be made: 80 steps, about \d+ s on this machine "
        r"\(one run at a time\) and \d+ MB",
        told,
    )
    assert not (tmp_path / "out").exists()
    assert main(line) == 0
    capsys.readouterr()
    assert main([*line, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 runs, all of them done"


def test_arms_are_composed_once_whether_it_asks_or_not(
    tmp_path: Path, have: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    have(one=ONE)
    composed: list[object] = []
    monkeypatch.setattr(reproducing, "cost", Measured)

    def compose(*of: Any) -> Any:
        composed.append(of)
        return configurations(*of)

    monkeypatch.setattr(reproducing, "configurations", compose)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    line = ["reproduce", "--scale", "short", "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert main(line) == 0
    assert len(composed) == 1
    assert len(made(tmp_path / "out")) == 4


class Measured:
    """Every run takes a second."""

    @staticmethod
    def measure(members: list[Member], console: Console) -> dict[str, Any]:
        return {}

    @staticmethod
    def total(members: list[Member], costs: dict[str, Any]) -> tuple[float, int]:
        return float(len(members)), 0


def test_uncommitted_changes_are_warned_of_before_the_papers_runs(
    tmp_path: Path,
    have: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(one=replace(ONE, scales=dict.fromkeys(("short", "paper"), ONE.scales["short"])))

    def told(scale: str, *, dirty: bool, out: str) -> int:
        revision = {"sha": "a" * 40, "dirty": dirty}
        monkeypatch.setattr(environment, "revision", lambda: revision)
        line = ["reproduce", "--scale", scale, "--out", str(tmp_path / out), "--jobs", "1"]
        assert main(line) == 0
        return capsys.readouterr().out.count("warning: changes are not committed: nothing will")

    assert told("paper", dirty=True, out="a") == 1
    assert told("paper", dirty=True, out="a") == 0  # all of its runs are there
    assert told("paper", dirty=False, out="b") == 0
    assert told("short", dirty=True, out="c") == 0


def test_a_run_is_what_train_makes(tmp_path: Path, have: Callable[..., None]) -> None:
    have(one=ONE)
    out = tmp_path / "out"
    assert main(["reproduce", "--scale", "short", "--out", str(out), "--jobs", "1"]) == 0
    asked = reproduction.read(out).claims["one"]["none"]
    assert main(["train", *asked.words, "seed=11", f"run.dir={tmp_path / 'typed'}"]) == 0
    ours = StoredRun(out / "runs" / asked.runs[1])
    assert_same_run(ours, StoredRun(tmp_path / "typed"))
    assert ours.config()["seed"] == 11
    assert "norm=none" in ours.folder.name
    assert "seed=11" in ours.folder.name


def test_runs_of_other_results_or_data_are_rerun(tmp_path: Path, have: Callable[..., None]) -> None:
    have(one=ONE)
    line = ["reproduce", "--scale", "short", "--out", str(tmp_path), "--jobs", "1"]
    assert main(line) == 0
    before, expected = made(tmp_path), results(tmp_path)
    a, b, c, d = sorted(before)
    for name, change in {
        a: {"results": 0},
        b: {"dataset": {"name": "digits", "fingerprint": "0" * 64}},
        c: {"resumes": [{"results": 0}]},
        d: {"code": "0" * 64},
    }.items():
        path = tmp_path / "runs" / name / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        metrics = tmp_path / "runs" / name / "metrics.jsonl"
        *lines, last = metrics.read_text().splitlines(keepends=True)  # the summary has the last
        metrics.write_text("".join(lines).replace("0.", "0.9") + last)
    assert main([*line, "--any-results"]) == 0
    assert made(tmp_path) == before
    report = (tmp_path / "report.md").read_text().replace("\\", "")
    other = f"2 of these runs have another results number than {RESULTS_NUMBER} "
    assert re.search(rf"{other}.*: {c}, {a}\.", report)
    assert re.search(rf"1 of these runs read other images .*: {b}\.", report)
    assert (
        f"Different code: {environment.code_digest()[:12]} (3 runs); 000000000000 ({d})." in report
    )
    assert main(line) == 0
    after = made(tmp_path)
    assert after[d] == before[d]  # other code with the same results is told, and no other run
    assert all(after[name] != before[name] for name in (a, b, c))
    assert results(tmp_path) == expected
    assert "another results number" not in (tmp_path / "report.md").read_text()


def test_each_claim_keeps_the_results_number_of_its_runs(
    tmp_path: Path, have: Callable[..., None]
) -> None:
    have(one=ONE, other=tiny(quick=("norm=batch", "optimizer.lr=1")))
    line = ["reproduce", "--scale", "short", "--out", str(tmp_path), "--jobs", "1"]
    assert main([*line, "one"]) == 0
    for path in (tmp_path / "runs").glob("*/manifest.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "results": 0}))
    path = tmp_path / "reproduce.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "results": {"one": 0}}))
    before = made(tmp_path)
    assert main([*line, "other"]) == 0
    assert {name: made(tmp_path)[name] for name in before} == before
    assert reproduction.read(tmp_path).results == {"one": 0, "other": RESULTS_NUMBER}
    assert "another results number" not in (tmp_path / "report.md").read_text()
    assert main([*line, "one"]) == 0
    assert all(made(tmp_path)[name] != before[name] for name in before)
    assert set(reproduction.read(tmp_path).results.values()) == {RESULTS_NUMBER}


def test_the_manifest_decides_whether_a_run_is_reused(tmp_path: Path) -> None:
    run, now = StoredRun(tmp_path), RESULTS_NUMBER

    def alike(**manifest: object) -> bool:
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        return reproducing.made_alike(run)

    mnist = {"name": "mnist", "fingerprint": data.known("mnist").fingerprint}
    assert alike(results=now, dataset=mnist)
    assert alike(results=now)  # no training: no data
    assert alike(results=now, dataset=mnist, resumes=[{"results": now}])
    assert alike(results=now, dataset={"name": "folder", "fingerprint": "x"})
    assert not alike(dataset=mnist)
    assert not alike(results=0, dataset=mnist)
    assert not alike(results=now, dataset=mnist, resumes=[{"results": 0}])
    assert not alike(results=now, dataset={**mnist, "fingerprint": "0" * 64})
    assert alike(results=now, resumes=[{"results": now, "drift": ["seed: 0 -> 1"]}])
    assert reproducing._to_be_made(run, lambda run: True)  # a drifted run is no claim's
    (tmp_path / "manifest.json").unlink()
    assert reproducing.made_alike(run)  # nothing is there
    (tmp_path / "summary.json").write_text('{"status": "done"}')
    assert not reproducing.made_alike(run)  # a result, by nobody knows what


def test_runs_that_fail_leave_the_others_and_the_report(
    tmp_path: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    # More images in a batch than there are can only be told when the data is there.
    have(one=ONE, bad=tiny(a=("norm=none", "train.batch_size=1400"), b=("norm=none",)))
    line = ["reproduce", "--scale", "short", "--out", str(tmp_path), "--jobs", "1"]
    assert main(line) == 1
    said = capsys.readouterr()
    *listed, last = said.err.strip().splitlines()
    assert last.startswith("bnrepro: error: 2 of 6 runs failed")
    assert len(listed) == 2
    assert all("train.batch_size" in text for text in listed)
    found = results(tmp_path)["claims"]
    assert (found["one"]["verdict"], found["bad"]["verdict"]) == ("REPRODUCED", "INCOMPLETE")
    assert (found["bad"]["runs"], found["bad"]["asked"]) == (2, 4)
    assert "2 of 4 runs" in (tmp_path / "report.md").read_text()
    for run in (tmp_path / "runs").glob("*batch_size=1400*"):
        assert StoredRun(run).status()["state"] == "failed"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing-such"], "unknown claim 'nothing-such'"),
        (["faster-training", "--scale", "huge"], "--scale"),
        (["faster-training", "--seeds", "0"], "--seeds"),
        (["faster-training", "--jobs", "0"], "--jobs"),
        (["faster-training", "--pilot", "--seeds", "2"], "a pilot has one seed"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(
    tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(
    tmp_path: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    have(one=ONE)
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["reproduce", "--out", str(tmp_path)]) == 2
    assert os.listdir(tmp_path) == ["thesis.txt"]
    out = tmp_path / "out"
    assert main(["reproduce", "--scale", "smoke", "--out", str(out), "--jobs", "1"]) == 0
    assert main(["reproduce", "--scale", "short", "--out", str(out)]) == 2
    assert "reproduced at scale 'smoke'" in capsys.readouterr().err


def test_a_pilot_has_a_seed_of_its_own_and_judges_nothing(
    tmp_path: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    have(one=ONE)
    line = ["reproduce", "--scale", "short", "--jobs", "1", "--out", str(tmp_path)]
    assert main([*line, "--pilot"]) == 0
    assert {StoredRun(tmp_path / "runs" / run).config()["seed"] for run in made(tmp_path)} == {100}
    found = results(tmp_path)["claims"]["one"]
    assert (found["verdict"], found["runs"], found["asked"]) == ("NOT JUDGED", 2, 2)
    assert main(["report", str(tmp_path)]) == 0
    assert results(tmp_path)["claims"]["one"]["verdict"] == "NOT JUDGED"
    capsys.readouterr()
    assert main(line) == 2
    assert "a pilot was run" in capsys.readouterr().err


def test_a_changed_claim_runs_its_new_arms(tmp_path: Path, have: Callable[..., None]) -> None:
    have(one=ONE)
    line = ["reproduce", "--scale", "short", "--out", str(tmp_path), "--jobs", "1"]
    assert main(line) == 0
    other = tiny(none=("norm=none", "optimizer.lr=2"), batch=("norm=batch",))
    have(one=other)
    assert main(["report", str(tmp_path)]) == 0
    found = results(tmp_path)["claims"]["one"]
    assert (found["verdict"], found["runs"], found["asked"]) == ("INCOMPLETE", 2, 4)
    assert main(line) == 0
    assert len(made(tmp_path)) == 6
    assert results(tmp_path)["claims"]["one"]["verdict"] == "REPRODUCED"
    more = replace(other, scales={**other.scales, "short": replace(other.scales["short"], seeds=3)})
    have(one=more)
    assert main(["report", str(tmp_path)]) == 0
    found = results(tmp_path)["claims"]["one"]
    assert (found["verdict"], found["runs"], found["asked"]) == ("INCOMPLETE", 4, 6)


def test_claims_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims"]) == 0
    table = capsys.readouterr().out
    assert main(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["claim"] for row in rows] == claims.ids()
    for row in rows:
        assert row["claim"] in table
        arms = claims.load(row["claim"]).scales["paper"].arms.values()
        slow = any("experiment=cifar10-inception" in words for words in arms)
        numbers = row["scales"]["paper"]["seeds"]
        assert len(numbers) >= (5 if slow or min(numbers) == FIRST_OF_CHOICE else 10)
        assert min(numbers) >= FIRST_SEED
        assert PILOT_SEED not in numbers
        assert all(criterion["compared"] for criterion in row["criteria"])


def test_a_claim_is_shown_whole_before_any_run(capsys: pytest.CaptureFixture[str]) -> None:
    claim = claims.load("less-dropout")
    assert main(["claims", "less-dropout"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert claim.controls
    for name, control in claim.controls.items():
        assert f"Control, {name}: {control.text}." in shown
    assert "Expected: open." in shown
    assert "seeds 10 to 19: 400 runs of 800,000 steps together" in shown
    assert "The paper has +0.80 points." in shown
    assert (
        "Power: 10 seeds: a true median at the margin comes out as REPRODUCED in at most" in shown
    )


def test_the_runs_and_steps_of_a_claim_are_those_that_are_made() -> None:
    console = Console(quiet=True)
    for name, scale in (
        ("faster-training", "short"), ("jacobian-isometry", "smoke"), ("tuned-baseline", "smoke"),
    ):  # fmt: skip
        claim = claims.load(name)
        numbers = seeds(claim.scales[scale].seeds)
        _, members = reproducing._members(
            {name: claim}, scale, lambda _, numbers=numbers: numbers, {}, console
        )
        found = told.row(name, steps(told.words([name])))["scales"][scale]
        assert len(members) == found["runs"]
        assert sum(member.config["train"]["steps"] for member in members) == found["steps"]


# By the real command, killed


SMOKE = ("reproduce", "higher-learning-rates", "--scale", "smoke")


@pytest.mark.slow
@pytest.mark.reliability
def test_killed_anywhere_and_rerun_no_number_changes(tmp_path: Path, command: Command) -> None:
    done = command(*SMOKE, "--out", "whole", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert "NOT JUDGED" in done.stdout
    line = (*SMOKE, "--out", "killed", "--jobs", "1")
    for number, finished in ((signal.SIGKILL, 0), (signal.SIGINT, 2)):
        process = forked.Command(*line, cwd=tmp_path)
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            begun = list((tmp_path / "killed" / "runs").glob("*/metrics.jsonl"))
            if len(begun) > finished and len(made(tmp_path / "killed")) >= finished:
                break
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate()
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number, said
            assert said.strip().endswith("to resume")
            assert f"--out {tmp_path / 'killed'}" in said
        assert not (tmp_path / "killed" / "results.json").exists()
    again = command(*SMOKE, "--out", "killed", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    for name in made(tmp_path / "whole"):
        assert_same_run(*(StoredRun(tmp_path / out / "runs" / name) for out in ("killed", "whole")))
    pictures = [
        {path.name: path.read_bytes() for path in (tmp_path / out / "figures").iterdir()}
        for out in ("killed", "whole")
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    "text",
    [
        "[", "[" * 10_000, "5", "{}", '{"scale": "xyz", "claims": {}, "results": {}}',
        '{"scale": ["smoke"], "claims": {}, "results": {}}',
        '{"scale": "smoke", "results": {"one": 1}, '
        '"claims": {"one": {"a": {"words": [], "runs": [1]}}}}',
        '{"scale": "smoke", "results": {"one": 1}, '
        '"claims": {"one": {"a": {"words": [], "runs": ["../x"]}}}}',
    ],
    ids=lambda text: text[-40:],
)  # fmt: skip
def test_a_damaged_request_is_one_line(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reproduce.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "rerun 'bnrepro reproduce'" in line
    assert line.count("not readable") == 1


def test_a_reproduction_knows_the_scales_that_can_be_asked_for() -> None:
    assert tuple(cli.ScaleName) == reproduction.SCALES
