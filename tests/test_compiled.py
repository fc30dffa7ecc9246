"""Which runs are compiled, and what becomes of one that is interrupted or cannot be."""

from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from alike import assert_same_run
from conftest import wait_for_step
from rich.console import Console
from torch import nn

from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.data import Dataset
from bnrepro.errors import ConfigError
from bnrepro.nn.batchnorm import BatchNorm2d
from bnrepro.store import StoredRun
from bnrepro.training import program
from bnrepro.training import run as experiment
from bnrepro.training.progress import RunProgress
from bnrepro.training.signals import StopSignals
from bnrepro.training.step import CompiledInference

WORDS = ("dataset=digits", "train.steps=3000", "train.eval_every=500", "train.log_every=50",
         "train.checkpoint_every=700", "probe.every=500", "model.hidden=[20,20]",
         "model.dropout=0.1", "optimizer.momentum=0.9", "tensorboard=false",
         "train.compile=true")  # fmt: skip

CONVOLUTIONS = ("model=inception", "init=he", "model.modules=[3a]", "model.stem_stride=1",
                "norm.population_batches=2")  # fmt: skip

compiling = pytest.mark.skipif(
    not program.can_compile(torch.device("cpu")), reason="needs a C++ compiler"
)


def training(digits: Dataset, *words: str) -> experiment.Training:
    """What is about to train on digits; it writes nothing."""
    config = compose(["dataset=digits", *words]).config
    display = RunProgress("", 1, Console(quiet=True))
    nowhere: Any = None
    model = experiment.network(config, digits)
    return experiment.Training(config, nowhere, display, digits, model, StopSignals())


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("train.steps=20000",), True),
        (("train.steps=19999",), False),
        (("train.steps=50000", "norm=none"), True),
        (("train.steps=50000", "train.compile=false"), False),
        (("train.steps=10", "train.compile=true"), True),
        (("model=inception", "init=he", "train.steps=6000"), True),
        (("model=inception", "init=he", "train.steps=5999"), False),
    ],
)
def test_long_runs_are_compiled_unless_they_say_otherwise(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], wanted: bool
) -> None:
    monkeypatch.setattr(experiment, "CompiledStep", lambda *arguments: None)
    monkeypatch.setattr(experiment, "CompiledInference", lambda *arguments: None)
    assert training(digits, *words).compile() is wanted


def test_a_run_that_cannot_be_compiled_is_not_unless_it_has_to_be(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise program.CompileError("no room")

    monkeypatch.setattr(experiment, "CompiledStep", fail)
    assert training(digits, "train.steps=50000").compile() is False
    with pytest.raises(ConfigError, match=r"cannot compile \(train.compile=true\): no room"):
        training(digits, "train.compile=true").compile()


@pytest.mark.parametrize("words", [("train.steps=50000",), ("train.compile=true",)])
def test_without_a_compiler_it_is_said_what_to_install(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "can_compile", lambda device: False)
    monkeypatch.setenv(program.CACHE, str(tmp_path))
    lines: list[str] = []
    monkeypatch.setattr(RunProgress, "say", lambda self, line: lines.append(line))
    if words == ("train.compile=true",):
        with pytest.raises(ConfigError, match=r"install g\+\+"):
            training(digits, *words).compile()
    else:
        assert training(digits, *words).compile() is False
        [line] = lines
        assert line.startswith("warning: ")
        assert "install g++" in line


@compiling
@pytest.mark.reliability
def test_killed_and_resumed_with_a_cold_cache_it_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    assert main(["train", *WORDS, f"run.dir={undisturbed}"]) == 0
    assert StoredRun(undisturbed).manifest()["compiled"] is True
    process = forked.Command("train", *WORDS, f"run.dir={folder}")
    wait_for_step(folder, 1500)
    process.kill()
    process.wait()
    assert StoredRun(folder).summary() is None
    with monkeypatch.context() as patch:
        patch.setattr(experiment.Training, "compile", lambda self: False)
        assert main(["train", *WORDS, f"run.dir={folder}"]) == 2
    assert "compiled" in capsys.readouterr().err
    monkeypatch.setenv(program.CACHE, str(tmp_path / "cold"))
    assert main(["train", *WORDS, f"run.dir={folder}"]) == 0
    assert_same_run(StoredRun(folder), StoredRun(undisturbed))
    [resumed] = StoredRun(folder).manifest()["resumes"]
    assert resumed["drift"] == []


@compiling
def test_inference_is_one_program_that_follows_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    images = torch.rand(50, 3, 6, 6)
    inference = CompiledInference(network, images[:20], lambda line: None)
    assert network.training
    calls: list[int] = []
    network.register_forward_hook(lambda *_: calls.append(1))
    for shift in (0.1, 0.2):
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor += shift if tensor.is_floating_point() else 1  # in place, as training does
            inference.eval()
            expected = network(images)
            calls.clear()
            torch.testing.assert_close(inference(images[:20]), expected[:20])
            torch.testing.assert_close(inference(images[20:40]), expected[20:40])
            assert not calls
            torch.testing.assert_close(inference(images[40:]), expected[40:])
            assert calls
            assert not torch.allclose(inference.train()(images[:20]), expected[:20])


def test_a_run_with_convolutions_is_evaluated_by_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ["dataset=digits", *CONVOLUTIONS, "train.steps=10", "train.eval_every=5",
             "train.checkpoint_every=5", "train.batch_size=20", "optimizer.lr=0.05",
             "probe.every=0", "tensorboard=false"]  # fmt: skip
    used: list[int] = []
    forward = CompiledInference.forward

    def count(self: CompiledInference, images: torch.Tensor) -> torch.Tensor:
        used.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(program, "compiled", lambda function, *_: function)  # that takes a minute
    monkeypatch.setattr(CompiledInference, "forward", count)
    for compiled in ("true", "false"):
        folder = tmp_path / compiled
        assert main(["train", *words, f"train.compile={compiled}", f"run.dir={folder}"]) == 0
    ours, theirs = (StoredRun(tmp_path / name).metrics() for name in ("true", "false"))
    assert used
    for one, other in zip(ours, theirs, strict=True):
        for name, value in one.items():
            assert name == "seconds" or value == pytest.approx(other[name], rel=1e-3), name


@compiling
@pytest.mark.reliability
def test_members_of_a_sweep_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(program.CACHE, str(tmp_path / "cache"))
    words = ["dataset=digits", "train.steps=100", "model.hidden=[20]", "train.compile=true",
             "optimizer.lr=0.1,0.2", "optimizer.momentum=0.5,0.9"]  # fmt: skip
    assert main(["sweep", *words, f"sweep.dir={tmp_path / 'sweep'}",
                 "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]) == 0  # fmt: skip
    assert len(list((tmp_path / "cache").glob("*.pt2"))) == 1
