"""What a run is: its configuration and the data it read, wherever either lies."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from alike import untimed
from PIL import Image

from bnrepro import data
from bnrepro.cli import main
from bnrepro.config import RESULTS_NUMBER
from bnrepro.config.compose import compose
from bnrepro.errors import DataError
from bnrepro.evidence.runs import is_result, unlike
from bnrepro.store import StoredRun
from bnrepro.store.sweep import finished, read
from bnrepro.sweeps.grid import grid
from bnrepro.training import environment
from bnrepro.training import run as experiment

FEW_STEPS = ("train.steps=4", "train.eval_every=2", "train.batch_size=4", "model.hidden=[5]",
        "probe.every=0", "tensorboard=false")  # fmt: skip
FOLDER = (*FEW_STEPS, "dataset=folder", "dataset.validation=4")


def images(root: Path, seed: int) -> Path:
    """Class folders of a few small images, the same for the same seed."""
    chance = np.random.default_rng(seed)
    for part, count in (("train", 10), ("test", 2)):
        for label in ("a", "b"):
            folder = root / part / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = chance.integers(0, 256, (6, 6), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def train(root: Path, folder: Path, *words: str) -> int:
    return main(["train", *FOLDER, f"dataset.root={root}", f"run.dir={folder}", *words])


def test_other_data_at_the_same_place_is_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = images(tmp_path / "data", 1), tmp_path / "run"
    assert train(root, run) == 0
    first = StoredRun(run).manifest()["dataset"]["fingerprint"]
    capsys.readouterr()
    copy = images(tmp_path / "copy", 1)
    assert train(copy, run) == 0
    assert "finished already" in capsys.readouterr().out
    for other in (images(tmp_path / "other", 2), images(root, 2)):
        assert train(other, run) == 2
        assert f"dataset.fingerprint: {first} -> " in capsys.readouterr().err
    (run / "summary.json").unlink()  # unfinished, it is no run to be resumed either
    assert train(root, run) == 2
    assert f'dataset.fingerprint: "{first}" -> ' in capsys.readouterr().err
    assert train(root, run, f"dataset.fingerprint={first}", "run.overwrite=true") == 3
    assert f"fingerprint expected {first}" in capsys.readouterr().err
    assert train(root, run, "run.overwrite=true") == 0
    assert StoredRun(run).manifest()["dataset"]["fingerprint"] != first


def test_data_in_another_place_is_the_same_sweep_member(tmp_path: Path) -> None:
    roots = [images(tmp_path / name, seed) for name, seed in (("A", 1), ("B", 2), ("C", 1))]
    line = [*FOLDER, f"dataset.root={','.join(map(str, roots))}", "seed=0,1"]
    read_in: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        whole = data.fingerprint
        patch.setattr(data, "fingerprint", lambda d: read_in.append(d.root) or whole(d))
        members = grid(line).members()
    assert [m.values["dataset.root"] for m in members] == [str(r) for r in roots[:2] for _ in "01"]
    assert len({member.name for member in members}) == 4
    assert read_in == [str(root) for root in roots]  # once each


def test_a_sweep_typed_again_over_other_data_runs_again(tmp_path: Path) -> None:
    root, folder = images(tmp_path / "data", 1), tmp_path / "sweep"
    line = ["sweep", *FOLDER, f"dataset.root={root}", "norm=batch,none", f"sweep.dir={folder}"]
    assert main(line) == 0
    before = read(folder)
    assert before.finished == 2
    assert main(line) == 0
    assert read(folder) == before
    images(root, 2)
    assert main(line) == 0
    after = read(folder)
    assert after.finished == 2
    assert not {row["member"] for row in after.rows} & {row["member"] for row in before.rows}


def test_a_member_is_identified_by_its_configuration(tmp_path: Path) -> None:
    line = [*FEW_STEPS, "dataset=digits", "norm=none", "seed=0,1", f"sweep.dir={tmp_path}"]
    assert main(["sweep", *line]) == 0
    a, b = grid(line).members()
    assert finished(tmp_path, a)
    (tmp_path / a.name).rename(tmp_path / "aside")
    (tmp_path / b.name).rename(tmp_path / a.name)
    (tmp_path / "aside").rename(tmp_path / b.name)
    assert not finished(tmp_path, a)
    assert [row["state"] for row in read(tmp_path).rows] == ["another run"] * 2
    assert main(["sweep", *line]) == 1


def test_a_member_refuses_data_that_changed_since_the_sweep_began(tmp_path: Path) -> None:
    root = images(tmp_path / "data", 1)
    config = compose([*FOLDER, f"dataset.root={root}"]).config
    config.dataset.fingerprint = data.fingerprint(config.dataset)  # type: ignore[attr-defined]
    assert experiment.load(config).name == "folder"
    images(root, 2)
    with pytest.raises(DataError, match="other data than asked for"):
        experiment.load(config)


DIGITS = (*FEW_STEPS, "dataset=digits", "norm=none", "train.checkpoint_every=2")


def unfinished(folder: Path, **began: object) -> StoredRun:
    """Make a run one that stopped after its first checkpoint, and that began on other facts."""
    run = StoredRun(folder)
    (folder / "summary.json").unlink()
    for path in (folder / "checkpoints").glob("*4.*"):
        path.unlink()
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **began}))
    return run


def test_an_unfinished_run_resumes_if_the_arithmetic_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in environment.ARITHMETIC:
        monkeypatch.delenv(name, raising=False)  # whoever runs the tests may have set one
    line = ["train", *DIGITS, f"run.dir={tmp_path}"]
    assert main(line) == 0
    run = unfinished(tmp_path)
    here = run.manifest()["cpu"]
    for name in environment.ARITHMETIC:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert main(line) == 2
            assert f'environment.{name}: not set -> "1"' in capsys.readouterr().err
    unfinished_again = {**run.manifest(), "cpu": "another processor"}
    (tmp_path / "manifest.json").write_text(json.dumps(unfinished_again))
    assert main(line) == 2
    said = capsys.readouterr().err
    assert f'cpu: "another processor" -> "{here}"' in said
    assert "run.overwrite=true restarts it" in said
    assert run.checkpoint_steps() == [2]
    assert main([*line, "run.overwrite=true"]) == 0
    assert run.manifest()["cpu"] == here
    assert run.drift() == []


def test_the_facts_include_the_settings_of_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    facts = environment.facts(torch.device("cpu"))
    assert facts["environment"]["MKL_CBWR"] == "COMPATIBLE"
    assert facts["cpu"]


@pytest.mark.parametrize("stack", [1, 9])
def test_a_sweep_restarts_a_member_that_cannot_resume_to_the_same_bits(
    tmp_path: Path, stack: int
) -> None:
    line = ["sweep", *DIGITS, "seed=0,1", f"sweep.dir={tmp_path}", "--stack", str(stack)]
    assert main(line) == 0
    runs = [StoredRun(tmp_path / row["member"]) for row in read(tmp_path).rows]
    before = [untimed(run) for run in runs]
    moved = unfinished(runs[0].folder, cpu="another processor", began="long ago")
    unfinished(runs[1].folder, began="long ago")
    assert main(line) == 0
    assert moved.manifest()["began"] != "long ago"
    assert "resumes" not in moved.manifest()
    assert runs[1].manifest()["began"] == "long ago"
    assert len(runs[1].manifest()["resumes"]) == 1
    assert [untimed(run) for run in runs] == before


def test_a_run_that_drifted_belongs_to_no_single_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["sweep", *DIGITS, "seed=0,1", f"sweep.dir={tmp_path}"]
    assert main(line) == 0
    [member, _] = grid(line[1:]).members()
    run = StoredRun(tmp_path / member.name)
    typed = ["train", *DIGITS, f"run.dir='{run.folder}'"]
    unfinished(run.folder)
    ended = [*typed, "optimizer.lr=0.5", "run.allow_drift=true"]
    assert main(ended) == 0
    drift = "optimizer.lr: 0.07 -> 0.5"
    assert run.drift() == [drift]
    assert not is_result(run)
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    states = {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert sorted(states.values()) == ["done", "drifted"]
    assert states[member.name] == "drifted"
    for again in (typed, [*typed, "optimizer.lr=0.5"]):
        assert main(again) == 2
        assert f"drifted, {drift}" in capsys.readouterr().err
    assert main([*ended, "seed=5"]) == 2
    assert main(ended) == 0
    assert main(line) == 1
    assert f"failed: {member.name}: drifted: {drift}" in capsys.readouterr().err
    assert [row["state"] for row in read(tmp_path).rows] == ["drifted", "done"]
    with open(tmp_path / "results.csv") as file:
        assert f"{member.name},0,drifted,,," in file.read()
    assert main(["report", str(tmp_path)]) == 0
    assert "1 drifted" in (tmp_path / "sweep.md").read_text()


def test_training_alone_and_then_in_a_stack_is_no_drift(tmp_path: Path) -> None:
    resumes = [{"drift": ["stacked: 3 -> null"]}, {"drift": []}, {}]
    (tmp_path / "manifest.json").write_text(json.dumps({"resumes": resumes}))
    assert StoredRun(tmp_path).drift() == []


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_is_not_resumed_for_fewer_steps_than_it_has_made(
    tmp_path: Path, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", *DIGITS, f"run.dir={tmp_path}"]
    assert main(line) == 0
    whole = untimed(StoredRun(tmp_path))
    run = unfinished(tmp_path)
    manifest = run.manifest()
    assert main([*line, f"train.steps={steps}", "run.allow_drift=true"]) == 2
    assert "(train.steps): the run has made 2 steps" in capsys.readouterr().err
    assert (run.summary(), run.manifest(), run.checkpoint_steps()) == (None, manifest, [2])
    assert run.status()["step"] == 4  # how far it was said to be
    assert main(line) == 0
    assert untimed(run) == whole


def other_results(run: StoredRun) -> None:
    """Have a run be of an earlier results number."""
    path = run.folder / "manifest.json"
    path.write_text(json.dumps({**run.manifest(), "results": RESULTS_NUMBER - 1}))


def test_a_run_with_another_results_number_is_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", *DIGITS, f"run.dir={tmp_path}"]
    told = f"results: {RESULTS_NUMBER - 1} -> {RESULTS_NUMBER}"
    assert main(line) == 0
    other_results(StoredRun(tmp_path))
    assert main(line) == 2  # finished
    assert told in capsys.readouterr().err
    (tmp_path / "summary.json").unlink()
    assert main(line) == 2  # unfinished
    assert told in capsys.readouterr().err
    assert main([*line, "run.overwrite=true"]) == 0
    assert main(line) == 0


def test_a_sweep_reruns_members_with_another_results_number(tmp_path: Path) -> None:
    line = ["sweep", *DIGITS, "seed=0,1", f"sweep.dir={tmp_path}"]
    assert main(line) == 0
    runs = sorted((StoredRun(path.parent) for path in tmp_path.glob("*/summary.json")), key=str)
    other_results(runs[0])
    before = [(run.folder / "summary.json").stat().st_mtime_ns for run in runs]
    assert main(line) == 0
    after = [(run.folder / "summary.json").stat().st_mtime_ns for run in runs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]
    assert runs[0].manifest()["results"] == RESULTS_NUMBER


def test_differences_between_compared_runs_are_named(tmp_path: Path) -> None:
    def planted(name: str, torch: str, images: str = "m", data: str = "mnist") -> StoredRun:
        dataset = {"name": data, "fingerprint": images}
        manifest = {"versions": {"torch": torch}, "cpu": "one", "dataset": dataset}
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        return StoredRun(tmp_path / name)

    alike = [planted(f"a{n}", "2.15") for n in range(5)]
    assert unlike(alike) == unlike([]) == []
    others = [planted(f"b{n}", "2.13") for n in range(4)]
    assert unlike([*others, *alike]) == [
        "different torch: 2.15 (5 runs); 2.13 (b0, b1, b2, 1 more)"
    ]
    other = planted("c", "2.15", "other")
    assert unlike([*alike, other]) == ["different images of mnist: m (5 runs); other (c)"]
    digits = planted("d", "2.15", "others", "digits")
    folders = [planted(name, "2.15", name, "folder") for name in ("e", "f")]
    assert unlike([*alike, digits, *folders]) == []


def test_a_report_says_that_members_are_of_different_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["sweep", *DIGITS, "seed=0,1", f"sweep.dir={tmp_path}"]
    assert main(line) == 0
    member = read(tmp_path).rows[1]["member"]
    path = tmp_path / member / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "versions": {"torch": "1.0"}}))
    capsys.readouterr()
    for again in (line, ["report", str(tmp_path)]):
        assert main(again) == 0
        said = capsys.readouterr().out
        assert f"different torch: {version('torch')} (1 run); 1.0 ({member})" in said
