"""Claims and their runs: which of them a claim takes, and what the report says of the others."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, set_claims
from planting import arms_of, learning, write
from test_reproduce import made, tiny

from bnrepro import claims
from bnrepro.cli import main
from bnrepro.config import RESULTS_NUMBER
from bnrepro.evidence import registration
from bnrepro.evidence.claim import Plan
from bnrepro.evidence.registration import digest_of
from bnrepro.evidence.runs import seeds
from bnrepro.reproduce import registrations
from bnrepro.store import StoredRun, git, reproduction
from bnrepro.store.reproduction import AskedArm, Reproduction

ONE = tiny(none=("norm=none",), batch=("norm=batch",))
TWO = tiny(batch=("norm=batch",))
CLAIM = "MARGIN = 1\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two claims that share runs, and the file of each: all that their digests are of."""
    set_claims(monkeypatch, one=ONE, two=TWO)
    monkeypatch.setattr(registration, "reached", lambda path: {path: frozenset({"MARGIN"})})
    paths = {name: tmp_path / "claims" / f"{name}.py" for name in claims.ids()}
    (tmp_path / "claims").mkdir()
    for path in paths.values():
        path.write_text(CLAIM)
    monkeypatch.setattr(claims, "source", lambda name: claims.Source("me", paths[name], dict))
    return paths


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return found


def changed(run: Path, **facts: object) -> None:
    """Write other facts into a run's manifest."""
    (run / "manifest.json").write_text(json.dumps(manifest(run) | facts))


def reproduce(out: Path, *words: str) -> dict[str, int]:
    """When each run was finished, after a reproduction at short scale."""
    assert main(["reproduce", "--scale", "short", "--jobs", "1", "--out", str(out), *words]) == 0
    return made(out)


# Which runs a claim takes


def test_a_run_lists_every_claim_there_is_and_each_takes_it_while_it_is_the_same(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    out = tmp_path / "out"
    first = reproduce(out, "one")
    registered = registrations()
    assert registered.keys() == {"one", "two"}
    assert all(manifest(out / "runs" / run)["registered"] == registered for run in first)
    files["one"].write_text(f'"""Other words."""\n\n{CLAIM}# and more\n')
    assert reproduce(out) == first  # the other claim's runs are among them
    files["one"].write_text("MARGIN = 2\n")
    assert registrations()["two"] == registered["two"]
    assert reproduce(out, "two") == first
    assert reproduce(out, "one", "--any-results") == first
    again = reproduce(out, "one")
    assert again.keys() == first.keys()
    assert all(again[run] > first[run] for run in first)
    assert all(manifest(out / "runs" / run)["registered"] == registrations() for run in again)
    assert reproduce(out) == again
    shutil.rmtree(out / "runs")
    assert reproduce(out) == {}  # all of them are in the archive
    files["two"].write_text("MARGIN = 3\n")
    remade = reproduce(out)
    assert len(remade) == 2
    assert all("norm=batch" in run for run in remade)


def test_a_run_made_by_hand_is_no_claims(tmp_path: Path, files: dict[str, Path]) -> None:
    out = tmp_path / "out"
    first = reproduce(out, "two")
    asked = reproduction.read(out).claims["two"]["batch"]
    line = ["run.overwrite=true", f"run.dir='{out / 'runs' / asked.runs[0]}'"]
    assert main(["train", *asked.words, "seed=10", *line]) == 0
    assert "registered" not in manifest(out / "runs" / asked.runs[0])
    swept = tmp_path / "swept"
    assert main(["sweep", *asked.words, "seed=10,11", f"sweep.dir={swept}"]) == 0
    found = sorted(swept.glob("*/manifest.json"))
    assert len(found) == 2
    assert all("registered" not in manifest(path.parent) for path in found)
    by_hand = made(out)
    again = reproduce(out, "two")
    assert again[asked.runs[1]] == first[asked.runs[1]]
    assert again[asked.runs[0]] > by_hand[asked.runs[0]]
    assert manifest(out / "runs" / asked.runs[0])["registered"] == registrations()


@pytest.mark.parametrize("stack", ["1", "2"])
def test_a_run_that_resumes_keeps_what_it_lists(
    tmp_path: Path, files: dict[str, Path], stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, quick = (
        tmp_path / "out",
        tiny(slow=("norm=batch",), quick=("norm=batch", "optimizer.lr=1")),
    )
    monkeypatch.setattr(claims, "load", lambda name: quick)
    reproduce(out, "two", "--stack", stack)
    before = registrations()
    files["two"].write_text("MARGIN = 2\n")
    for run in (out / "runs").glob("*=*"):
        assert manifest(run)["registered"] == before
        assert manifest(run).get("stacked") == (2 if stack == "2" else None)
        (run / "summary.json").unlink()
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    reproduce(out, "two", "--stack", stack, "--any-results")
    for name in made(out):
        assert len(manifest(out / "runs" / name)["resumes"]) == 1
        assert manifest(out / "runs" / name)["registered"] == before
        (out / "runs" / name / "summary.json").unlink()
    reproduce(out, "two", "--stack", stack)  # unfinished and of another claim: it restarts
    for name in made(out):
        assert "resumes" not in manifest(out / "runs" / name)
        assert manifest(out / "runs" / name)["registered"] == registrations()


def test_a_claim_whose_margin_changes_has_its_runs_made_again_a_reworded_one_has_not(
    tmp_path: Path, command: Command
) -> None:
    source = claims.source("higher-learning-rates").path
    assert source is not None
    (tmp_path / "mine").mkdir()
    copy, text = tmp_path / "mine" / "copied.py", source.read_text()

    def reproduced(text: str) -> dict[str, int]:
        copy.write_text(text)
        line = ("copied", "--claims-dir", "mine", "--scale", "smoke", "--out", "out")
        done = command("reproduce", *line, "--jobs", "1")
        assert done.returncode == 0, done.stderr
        assert "registered after its runs" not in (tmp_path / "out" / "report.md").read_text()
        for run in made(tmp_path / "out"):
            listed = manifest(tmp_path / "out" / "runs" / run)["registered"]
            assert listed["copied"] == digest_of(copy)
            assert listed.keys() == {"copied", *claims.ids()}
        return made(tmp_path / "out")

    first = reproduced(text)
    assert len(first) == len(claims.load("higher-learning-rates").scales["smoke"].arms)
    words = text.replace('"""', '"""In other words: ', 1).replace('statement="', 'statement="Oh, ')
    assert words.count("Oh, ") == words.count("In other words") == 1
    assert reproduced(words) == first
    assert "Oh, " in (tmp_path / "out" / "report.md").read_text()
    other = text.replace(" Margin(", " Margin(0.125 + ", 1)
    assert other != text
    again = reproduced(other)
    assert again.keys() == first.keys()
    assert all(again[run] > first[run] for run in first)


# What the report says of them


def commit(folder: Path, *words: str) -> str:
    """The SHA of a new commit of all that is in a checkout."""

    def asked(*words: str) -> str:
        line = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run([*line, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    if words:
        asked(*words)
    asked("add", ".")
    asked("commit", "-qm", "one more", "--allow-empty")
    return asked("rev-parse", "HEAD")


def plant(folder: Path, facts: dict[str, dict[str, Any]]) -> None:
    """A reproduction of claim `two` at short scale: a run for each of the facts, by its name."""
    [config] = arms_of(TWO, "short").values()
    for seed, (name, of) in zip(seeds(len(facts)), facts.items(), strict=True):
        run = write(folder / "runs" / name, {**config, "seed": seed}, learning(config, 0.9, 10))
        (run.folder / "manifest.json").write_text(json.dumps({"results": RESULTS_NUMBER} | of))
    arms = {"batch": AskedArm(TWO.scales["short"].words("batch"), tuple(facts))}
    asked = Reproduction("short", {"two": RESULTS_NUMBER}, {"two": arms})
    reproduction.write(folder, asked)


def report(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[str]]:
    """What the numbers say of claim `two`'s registration; both reports and the README's table."""
    assert main(["report", str(folder)]) == 0
    capsys.readouterr()
    assert main(["report", str(folder), "--table"]) == 0
    found = json.loads((folder / "results.json").read_text())["claims"]["two"]
    texts = [(folder / f"report.{kind}").read_text() for kind in ("md", "html")]
    return found["registered"], [*(t.replace("\\", "") for t in texts), capsys.readouterr().out]


@pytest.fixture
def history(files: dict[str, Path]) -> list[str]:
    """The commits of the claim's file: before its registration, that, and after it."""
    folder, path = files["two"].parent, files["two"]
    path.write_text("MARGIN = 0\n")
    first = commit(folder, "init", "-q")
    path.write_text(CLAIM)
    since = commit(folder)
    path.write_text(f"{CLAIM}# reworded\n")
    return [first, since, commit(folder)]


def test_runs_that_follow_from_their_registration(
    tmp_path: Path, files: dict[str, Path], history: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    digest, (_, since, after) = digest_of(files["two"]), history
    facts = {"registered": {"two": digest, "other": "0"}, "git": {"sha": since, "dirty": False}}
    resumes = [{"git": {"sha": after, "dirty": False}, "results": RESULTS_NUMBER}]
    plant(tmp_path / "out", {"a": facts, "b": {**facts, "resumes": resumes}})
    found, texts = report(tmp_path / "out", capsys)
    date = found.pop("date")
    assert found == {
        "digest": digest, "commit": since, "history": True, "runs": 2, "mark": "",
        "unlisted": [], "earlier": [], "unknown": [], "dirty": [],
    }  # fmt: skip
    for text in texts[:2]:
        assert f"Their digest is {digest[:12]}. They are the same since commit " in text
        assert f"{since[:12]} of {date}. Every run lists the digest." in text
        assert "2 seeds (seeds 10 to 11; pilots: seed 100)" in text
    assert all("registered after its runs" not in text.lower() for text in texts)


def test_runs_that_do_not_are_named(
    tmp_path: Path, files: dict[str, Path], history: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    digest, (before, since, after) = digest_of(files["two"]), history
    listed = {"registered": {"two": digest}}
    clean = {"git": {"sha": after, "dirty": False}}
    early, gone = ({"git": {"sha": sha, "dirty": False}} for sha in (before, "e" * 40))
    plant(
        tmp_path / "out",
        {
            "good": listed | clean,
            "other": {"registered": {"two": "0" * 64}} | clean,
            "none": clean,
            "renamed": {"registered": {"of-old": digest}} | clean,
            "dirty": listed | {"git": {"sha": since, "dirty": True}},
            "early": listed | early,
            "resumed": listed | clean | {"resumes": [early, clean]},
            "gone": listed | gone,
            "no-commit": listed | {"git": None},
            "no-sha": listed | {"git": {"sha": "--all", "dirty": False}},
        },
    )
    found, texts = report(tmp_path / "out", capsys)
    assert {name: sorted(runs) for name, runs in found.items() if isinstance(runs, list)} == {
        "unlisted": ["none", "other"],
        "earlier": ["early", "resumed"],
        "unknown": ["gone", "no-commit", "no-sha"],
        "dirty": ["dirty"],
    }
    assert (found["commit"], found["runs"]) == (since, 10)
    for text in texts[:2]:
        for sentence in (
            "Registered after its runs: the digest is not listed by 2 of 10 runs (other, none).",
            "That commit does not come before 2 of 10 runs (early, resumed).",
            "Nothing shows whether that commit comes before 3 of 10 runs "
            "(gone, no-commit, no-sha).",
            "Changes were not committed at the time of 1 of 10 runs (dirty).",
        ):
            assert sentence in text
        assert "Every run lists" not in text
    markdown, page, table = texts
    [row] = [line for line in markdown.splitlines() if line.startswith("| [two](#two)")]
    assert row.endswith("| **REPRODUCED** (registered after its runs) |")
    [cell] = [line for line in page.splitlines() if '<td><span class="chip' in line][:1]
    assert cell.endswith('<span class="quiet">registered after its runs</span></td>')
    assert "1 REPRODUCED, registered after its runs." in table


def test_without_a_commit_or_a_history_that_is_said(
    tmp_path: Path, files: dict[str, Path], history: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    files["two"].write_text("MARGIN = 5\n")
    facts = {"registered": registrations(), "git": {"sha": history[0], "dirty": False}}
    plant(tmp_path / "out", {"a": facts, "b": facts})
    found, texts = report(tmp_path / "out", capsys)
    assert (found["commit"], found["history"], found["earlier"], found["unknown"]) == (
        None, True, [], []
    )  # fmt: skip
    for text in texts[:2]:
        assert "They are not committed. Every run lists the digest." in text
    shallow = tmp_path / "shallow"  # its oldest commit looks like the first of all
    url = f"file://{files['two'].parent}"
    subprocess.run(["git", "clone", "-q", "--depth", "1", url, str(shallow)], check=True)
    assert (git.top(shallow), git.top(files["two"].parent)) == (None, files["two"].parent)
    shutil.rmtree(files["two"].parent / ".git")
    found, texts = report(tmp_path / "out", capsys)
    assert (found["commit"], found["history"], found["unlisted"]) == (None, False, [])
    for text in texts[:2]:
        assert "Their file has no whole history here: no commit shows since when." in text


def test_ancestors_are_asked_of_commits_that_are_there(
    history: list[str], files: dict[str, Path]
) -> None:
    first, since, after = history
    root = files["two"].parent
    assert git.ancestors(root, [since, after, "e" * 40, "--all", "HEAD"]) == {
        since: {first, since}, after: set(history)
    }  # fmt: skip
    assert git.ancestors(root, ["e" * 40]) == git.ancestors(root, []) == {}
    shutil.rmtree(root / ".git")
    assert git.ancestors(root, [since]) == {}


def test_a_damaged_list_is_none(tmp_path: Path, files: dict[str, Path]) -> None:
    out = tmp_path / "out"
    first = reproduce(out, "two")
    run = out / "runs" / sorted(first)[0]
    changed(run, registered={"two": ["x"], "one": None})
    again = reproduce(out, "two")
    assert [name for name in first if again[name] != first[name]] == [run.name]
    changed(run, registered=[])
    assert StoredRun(run).damaged()
    assert reproduce(out, "two")[run.name] > again[run.name]


def test_another_first_seed_is_the_claims(
    tmp_path: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    late = replace(TWO, first_seed=30, scales={**TWO.scales, "paper": Plan(10, {"a": ()})})
    have(two=late)
    assert main(["claims", "two"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Scale smoke: 1 arms, seed 30: 1 runs of " in told
    assert "Scale paper: 1 arms, seeds 30 to 39: 10 runs of " in told
    assert "Pilots (--pilot) have seed 100" in told
    runs = [StoredRun(tmp_path / "out" / "runs" / run) for run in reproduce(tmp_path / "out")]
    assert sorted(run.config()["seed"] for run in runs) == [30, 31]
    text = (tmp_path / "out" / "report.md").read_text().replace("\\", "")
    assert "1 arms × 2 seeds (seeds 30 to 31; pilots: seed 100): 2 runs" in text
    verdict = json.loads((tmp_path / "out" / "results.json").read_text())["claims"]["two"]
    assert verdict["verdict"] == "REPRODUCED"
