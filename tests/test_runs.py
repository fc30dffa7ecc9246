"""Whole runs through the command line: what they leave, that they repeat, and how they end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from alike import untimed
from conftest import ROOT, TINY, Command, hear_signals, wait_for_step
from datasets import load
from torch import nn

from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.nn import build
from bnrepro.store import StoredRun

SHORT = ("dataset=digits", "train.steps=60", "train.log_every=5", "train.eval_every=20",
         "train.checkpoint_every=25", "probe.every=20", "probe.size=100", "threads=1")  # fmt: skip


def train(folder: Path, *overrides: str) -> StoredRun:
    assert main(["train", *SHORT, f"run.dir={folder}", *overrides]) == 0
    return StoredRun(folder)


def last_weights(run: StoredRun) -> dict[str, torch.Tensor]:
    import io

    content = run.checkpoint(run.checkpoint_steps()[-1])
    return torch.load(io.BytesIO(content), weights_only=True)["model"]


def test_a_run_leaves_what_its_folder_promises(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    names = {path.name for path in run.folder.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        "config.yaml", "manifest.json", "metrics.jsonl", "status.json", "summary.json",
        "predictions.npz", "probes", "checkpoints", ".hydra", ".lock",
    }  # fmt: skip
    assert {p.name for p in (run.folder / ".hydra").iterdir()} == {
        "config.yaml", "hydra.yaml", "overrides.yaml",
    }  # fmt: skip
    overrides = yaml.safe_load((run.folder / ".hydra" / "overrides.yaml").read_text())
    assert overrides == [*SHORT, f"run.dir={run.folder}"]
    assert run.probe_steps() == [0, 20, 40, 60]
    assert run.checkpoint_steps() == [50, 60]  # the last two
    assert [row["step"] for row in run.metrics()] == [0, *range(5, 61, 5)]
    tested = [row["step"] for row in run.metrics() if "test_accuracy" in row]
    assert tested == [0, 20, 40, 60]
    summary = run.summary()
    assert summary is not None
    steps, accuracies = run.curve("test_accuracy")
    assert summary["status"] == run.status()["state"] == "done"
    assert summary["steps"] == run.status()["step"] == steps[-1] == 60
    assert summary["test_accuracy"] == accuracies[-1]
    assert summary["best_test_accuracy"] == accuracies.max()
    assert summary["diverged_at"] is None
    assert summary["wall_seconds"] > 0
    manifest = run.manifest()
    assert manifest["threads"] == 1
    assert manifest["deterministic"] is True
    assert manifest["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert len(manifest["dataset"]["fingerprint"]) == 64


def test_the_same_command_gives_the_same_bits_with_any_probing(tmp_path: Path) -> None:
    one = train(tmp_path / "one", "model.dropout=0.2")
    again = train(tmp_path / "again", "model.dropout=0.2")
    unprobed = train(tmp_path / "unprobed", "model.dropout=0.2", "probe.every=0")
    often = train(tmp_path / "often", "model.dropout=0.2", "probe.every=1", "tensorboard=false")
    other = train(tmp_path / "other", "model.dropout=0.2", "seed=1")
    assert untimed(one) == untimed(again) == untimed(unprobed) == untimed(often)
    assert untimed(one) != untimed(other)
    for run in (again, unprobed, often):
        for name, weight in last_weights(one).items():
            assert torch.equal(weight, last_weights(run)[name]), name
    for step in one.probe_steps():
        for name, values in one.probe(step).items():
            np.testing.assert_array_equal(values, again.probe(step)[name])
    assert unprobed.probe_steps() == []


def test_rerunning_a_finished_run_says_so_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    capsys.readouterr()
    train(run.folder, "tags=[again]")
    assert "finished already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    assert main(["train", *SHORT, f"run.dir={run.folder}", "optimizer.lr=0.5"]) == 2
    assert "optimizer.lr: 0.07 -> 0.5" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    (run.folder / "notes.txt").write_text("mine")
    again = train(run.folder, "optimizer.lr=0.5", "run.overwrite=true")
    assert again.config()["optimizer"]["lr"] == 0.5
    assert (run.folder / "notes.txt").read_text() == "mine"
    assert len(list(run.folder.glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_network_is_scored_on_what_it_was_trained_on(tmp_path: Path, norm: str) -> None:
    run = train(tmp_path / "run", f"norm={norm}", "dataset.limit=500", "model.dropout=0.5")
    summary, config = run.summary(), compose([*SHORT, f"norm={norm}"]).config
    assert summary is not None
    digits = load("digits", "unused", limit=500)
    model = build.build(config, digits.image_shape, 10)
    model.load_state_dict(last_weights(run))
    model.eval()  # by the moving averages: a checkpoint is older than those of Algorithm 2
    with torch.no_grad():
        logits = model(digits.train.images)
    right = (logits.argmax(1) == digits.train.labels).sum().item()
    assert summary["train_accuracy"] == right / 500
    loss = nn.functional.cross_entropy(logits, digits.train.labels).item()
    assert summary["train_loss_inference"] == pytest.approx(loss, rel=1e-5)
    assert summary["train_loss"] != pytest.approx(loss, rel=1e-3)


def test_dataset_limit_has_a_lower_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = train(tmp_path / "few", "dataset.limit=100")
    whole = train(tmp_path / "whole")
    assert untimed(few) != untimed(whole)
    for setting, told in (("dataset.limit=59", "batch_size"), ("dataset.limit=99", "probe.size"),
                          ("dataset.limit=1298", "choose 1 to 1297")):  # fmt: skip
        assert main(["train", *SHORT, f"run.dir={tmp_path / told}", setting]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("norm", ["batch", "torch", "detached"])
def test_a_last_batch_of_one_image_is_refused_where_it_is_to_be_normalized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], norm: str
) -> None:
    line = ["train", *SHORT, "dataset.limit=61", "probe.every=0", f"run.dir={tmp_path / norm}"]
    assert main([*line, f"norm={norm}"]) == 2
    assert "a single image" in capsys.readouterr().err


def test_groups_that_do_not_divide_the_last_batch_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", *SHORT, "probe.every=0", "norm.ghost_size=20", f"run.dir={tmp_path / 'run'}",
            "dataset.limit=150"]  # fmt: skip
    assert main(line) == 2
    assert "does not divide the 30 images of an epoch's last batch" in capsys.readouterr().err


def test_a_diverged_run_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ("norm=none", "model.activation=relu", "init=he", "optimizer.lr=1e12")
    run = train(tmp_path / "run", *overrides, "train.checkpoint_every=1")
    summary = run.summary()
    assert summary is not None
    assert run.status()["state"] == summary["status"] == "diverged"
    assert summary["test_accuracy"] is None
    assert summary["train_accuracy"] is summary["train_loss_inference"] is None
    assert 1 <= summary["diverged_at"] <= 60
    assert f"not finite at step {summary['diverged_at']}" in capsys.readouterr().out
    assert all(row["step"] < summary["diverged_at"] for row in run.metrics())
    assert all(step < summary["diverged_at"] for step in run.checkpoint_steps())
    assert "NaN" not in (run.folder / "summary.json").read_text()


def test_real_mnist_trains_and_our_layer_is_torchs(tmp_path: Path, real_data: Path) -> None:
    real = (f"dataset.root={real_data}", "train.steps=100", "train.log_every=1",
            "train.eval_every=100", "probe.every=50")  # fmt: skip
    losses = {}
    for norm in ("batch", "torch"):
        folder = tmp_path / norm
        assert main(["train", *real, f"norm={norm}", f"run.dir={folder}"]) == 0
        losses[norm] = StoredRun(folder).curve("train_loss")[1]
    assert len(losses["batch"]) == 100
    np.testing.assert_allclose(losses["batch"], losses["torch"], atol=1e-4, rtol=0)
    assert losses["batch"][-10:].mean() < 0.7 * losses["batch"][:5].mean()
    assert StoredRun(tmp_path / "batch").manifest()["dataset"]["name"] == "mnist"


BAD = {
    "optimizer.lrr=1": "optimizer.lr",
    "norm=bacth": "batch",
    "optimizer.lr=fast": "optimizer.lr",
    "train.batch_size=1": "2 or more",
    "experiment=fig2": "fig1",
    "+extra.key=1": "extra",
    "+model._target_=os.system": "_target_",
}


def test_a_bad_configuration_is_one_line_and_never_loads_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom bnrepro.cli import main\n"
        "for bad in sys.argv[1:]:\n    print(main(['train', bad]), 'torch' in sys.modules)\n"
    )
    line = [sys.executable, "-c", code, *BAD]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["2 False"] * len(BAD)
    errors = done.stderr.splitlines()
    assert len(errors) == len(BAD)
    for error, told in zip(errors, BAD.values(), strict=True):
        assert error.startswith("bnrepro: error: ")
        assert told in error
    assert list(tmp_path.iterdir()) == []


def test_the_command_itself_by_its_exit_codes(tmp_path: Path) -> None:
    """What tests elsewhere fork or call is started here as a user starts it."""
    endless = ("train", *TINY, "train.steps=1000000", f"run.dir={tmp_path / 'endless'}")
    lines = {
        ("--help",): 0,
        ("train", "optimizer.lr=-1"): 2,
        ("train", *TINY, f"run.dir={tmp_path / 'run'}"): 0,
        endless: 130,
    }
    started = {
        words: subprocess.Popen(
            [sys.executable, "-m", "bnrepro", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals,
        )
        for words in lines
    }  # fmt: skip
    wait_for_step(tmp_path / "endless", 20)
    started[endless].send_signal(signal.SIGINT)
    for words, code in lines.items():
        _, errors = started[words].communicate()
        assert started[words].returncode == code, errors
        assert len(errors.splitlines()) == (code != 0), errors
    assert StoredRun(tmp_path / "run").status()["state"] == "done"
    assert StoredRun(tmp_path / "endless").status()["state"] == "interrupted"


def test_help_loads_neither_torch_nor_hydra() -> None:
    code = (
        "import sys\nfrom bnrepro.cli import main\nmain(sys.argv[1:])\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    commands = (["--help"], ["train", "--help"], ["data", "--help"])
    for arguments in commands:
        line = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout


def test_missing_data_is_reported_with_what_to_do(tmp_path: Path, command: Command) -> None:
    settings = {**os.environ, "BNREPRO_DATA": str(tmp_path / "nowhere")}
    done = command("train", "dataset.mirror=http://127.0.0.1:1/", env=settings)
    assert done.returncode == 3
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1
    assert "bnrepro data import mnist PATH" in errors[0]
    [run] = (tmp_path / "outputs").rglob("status.json")
    assert StoredRun(run.parent).status()["state"] == "failed"
    assert "Traceback" in (run.parent / "train.log").read_text()


def test_an_impossible_output_folder_is_reported_before_computing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", *SHORT, f"run.dir={tmp_path / 'file' / 'run'}"]) == 3
    assert "run.dir" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["with space", "ünïcødé-批", "new\nline", "a$b", "quo'te\"s"])
def test_any_folder_name_works(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    quoted = str(folder).replace("'", "\\'")
    assert main(["train", *SHORT, "train.steps=10", "probe.every=0", f"run.dir='{quoted}'"]) == 0
    assert StoredRun(folder).summary() is not None
    assert (folder / ".hydra" / "config.yaml").is_file()


def test_a_folder_name_that_hydra_cannot_write_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SHORT, f"run.dir='{tmp_path}/a\\${{b}}'"]) == 2
    assert "run.dir" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


EXPERIMENTS = [
    pytest.param(path, marks=[pytest.mark.reliability] if "inception" in path.name else [])
    for path in sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_composes_and_trains_two_steps(path: Path, tmp_path: Path) -> None:
    overrides = ["dataset=digits", "dataset.limit=500", "train.steps=2", "probe.size=10"]
    overrides += ["train.compile=false"]  # two steps are not worth it
    assert main(["train", f"experiment={path.stem}", f"run.dir={tmp_path / 'r'}", *overrides]) == 0


def test_runs_lists_the_runs_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "a", "train.steps=5")
    train(tmp_path / "deep" / "b", "train.steps=5", "norm=none", "seed=3")
    capsys.readouterr()
    assert main(["runs", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["run"], row["state"], row["norm"], row["seed"]) for row in rows] == [
        ("a", "done", "batch", 0),
        ("deep/b", "done", "none", 3),
    ]
    assert main(["runs", str(tmp_path)]) == 0
    assert "deep/b" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "nowhere")]) == 3


def test_a_folder_without_runs_says_what_makes_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs ({tmp_path}): 'bnrepro train' makes one\n"
    assert main(["runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_run_says_where_its_studies_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run", "train.steps=2", "studies=[inference]")
    assert f"studies: inference in {run.folder / 'summary.json'}" in capsys.readouterr().out
    train(tmp_path / "without", "train.steps=2")
    assert "studies" not in capsys.readouterr().out


def test_the_readme_tells_every_command_and_ci_runs_its_test_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 150
    commands = ("train", "sweep", "claims", "reproduce", "runs", "report", "data", "tensorboard")
    every = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    for command in (*commands, "bench"):
        assert f"`bnrepro {command}" in readme
        assert f"| `bnrepro {command}" in every
    assert "| `bnrepro compare" in every
    test_command = "pip install '.[test]' && pytest"
    assert f"\n{test_command}\n" in readme
    assert f"\n{test_command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
