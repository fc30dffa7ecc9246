"""Runs that train as one computation: the same runs as one by one, but for rounding."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from alike import assert_same_run, rows, state
from conftest import wait_for

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.data import Dataset
from bnrepro.store import StoredRun
from bnrepro.store.sweep import Member
from bnrepro.sweeps import stacks
from bnrepro.training import optim
from bnrepro.training import run as experiment
from bnrepro.training.stacked_step import Stack

BASE = ["dataset=digits", "model.hidden=[20,15]", "train.steps=200", "train.log_every=10",
        "train.eval_every=100", "train.checkpoint_every=40", "probe.every=50", "probe.size=50",
        "tensorboard=false"]  # fmt: skip


def sweep(folder: Path, *words: str, stack: int = 16, code: int = 0) -> dict[str, StoredRun]:
    line = ["sweep", *BASE, *words, f"sweep.dir={folder}", "--stack", str(stack)]
    assert main(line) == code
    return {path.parent.name: StoredRun(path.parent) for path in folder.glob("*/status.json")}


def losses(run: StoredRun) -> np.ndarray:
    return run.curve("train_loss")[1]


@pytest.mark.parametrize(
    "words",
    [
        ["norm=none"],
        ["norm=batch"],
        ["norm.affine=false"],
        ["norm.placement=post", "model.activation=relu", "init=he", "init.scale=1"],
        ["norm.momentum=null", "norm.keep_bias=true", "model.dropout=0.2"],
    ],
)
def test_a_stack_computes_what_each_network_would_alone(digits: Dataset, words: list[str]) -> None:
    differ = zip((0.05, 0.1, 0.3), (0.0, 0.9, 0.5), (0.01, 0.0, 1e-3), strict=True)
    configs = [
        compose(
            [*BASE, *words, f"seed={seed}", f"optimizer.lr={lr}",
             f"optimizer.momentum={momentum}", f"optimizer.weight_decay={decay}"]
        ).config
        for seed, (lr, momentum, decay) in enumerate(differ)
    ]  # fmt: skip
    built = [fresh(config, digits) for config in configs]
    together, generators = [(model, own) for model, own, _ in built], [g for *_, g in built]
    stack = Stack(*zip(*together, strict=True), generators)
    draw = torch.Generator().manual_seed(1)
    rows = torch.randint(len(digits.train.labels), (20, 3, 60), generator=draw)
    images, labels = digits.train.images, digits.train.labels
    found = [
        stack.step(images[step], labels[step], [config.optimizer.lr for config in configs])
        for step in rows
    ]
    stack.show_gradients()
    for index, config in enumerate(configs):
        model, optimizer, _ = fresh(config, digits)
        model.train()
        for step, told in zip(rows[:, index], found, strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images[step]), labels[step])
            loss.backward()
            optimizer.step(config.optimizer.lr)
            torch.testing.assert_close(told[index], loss.detach())
        own, own_optimizer = together[index]
        assert torch.equal(torch.get_rng_state(), generators[index].get_state())
        for ours, theirs in zip(own.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
        states = [(own.state_dict(), model.state_dict())]
        states += [(enumerated(own_optimizer), enumerated(optimizer))]
        for ours_, theirs_ in states:
            assert ours_.keys() == theirs_.keys()
            for name, value in ours_.items():
                torch.testing.assert_close(value, theirs_[name], rtol=1e-3, atol=1e-4)


def fresh(config: c.Config, digits: Dataset) -> tuple[torch.nn.Module, optim.Sgd, torch.Generator]:
    """A network as `train` builds it, and a generator as that leaves torch's."""
    model = experiment.network(config, digits)
    optimizer = optim.build(config.optimizer, model.parameters())
    assert isinstance(optimizer, optim.Sgd)
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return model, optimizer, generator


def enumerated(optimizer: optim.Sgd) -> dict[int, torch.Tensor]:
    return dict(enumerate(optimizer.state))


@pytest.mark.reliability
def test_a_stacked_sweep_is_the_same_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["init.scale=1,2", "norm=batch,none,torch", "optimizer.lr=0.1,1e9"]
    words += ["studies=[input-shift]", "model.activation=relu", "init=he", "model.dropout=0.2"]
    apart = sweep(tmp_path / "apart", *words, stack=1)
    together = sweep(tmp_path / "together", *words)
    assert "8 members in 2 stacks, 4 one by one" in capsys.readouterr().out
    assert together.keys() == apart.keys()
    assert len(together) == 12
    for ours, theirs in zip(rows(tmp_path / "together"), rows(tmp_path / "apart"), strict=True):
        for name in ("member", "norm", "optimizer.lr", "init.scale", "state", "diverged_at",
                     "steps"):  # fmt: skip
            assert ours[name] == theirs[name]
    stacked = 0
    for name, run in together.items():
        other, summary, expected = apart[name], run.summary(), apart[name].summary()
        assert summary is not None
        assert expected is not None
        stacked += run.manifest().get("stacked", 0) == 4
        assert [row["step"] for row in run.metrics()] == [row["step"] for row in other.metrics()]
        np.testing.assert_allclose(losses(run), losses(other), rtol=1e-4, atol=1e-4)
        assert run.probe_steps() == other.probe_steps()
        for step in run.probe_steps():
            there = other.probe(step)
            assert run.probe(step).keys() == there.keys()
            for key in ("relu1/std", "linear1/gradient_norm"):
                if key in there:
                    np.testing.assert_allclose(run.probe(step)[key], there[key], rtol=1e-3)
        assert run.checkpoint_steps() == other.checkpoint_steps()
        if summary["status"] == "done":
            assert summary["test_accuracy"] == pytest.approx(expected["test_accuracy"], abs=0.01)
            if not run.checkpoint_steps():  # running statistics overflowed
                continue
            assert state(run).keys() == state(other).keys()
            files = [r.folder / "checkpoints" / "000000200.pt" for r in (run, other)]
            assert files[0].stat().st_size == pytest.approx(files[1].stat().st_size, rel=0.01)
    assert stacked == 8
    before = {run.folder: run.summary() for run in together.values()}
    sweep(tmp_path / "together", *words)
    assert {run.folder: run.summary() for run in together.values()} == before


def test_members_are_grouped_into_stacks() -> None:
    def member(name: str, *words: str) -> Member:
        return Member(name, (), {}, c.to_dict(compose([*BASE, *words]).config))

    words = [["init.scale=2"], ["optimizer.lr=3"], ["norm=none"], ["tags=[a]"],
             ["norm=none", "init.scale=2"], ["optimizer=adam"], ["optimizer=adam", "seed=1"],
             ["model.dropout=0.1"], ["model.dropout=0.2", "optimizer.momentum=0.9"],
             ["model.hidden=[3]"], ["seed=1"]]  # fmt: skip
    found = [member(str(number), *each) for number, each in enumerate(words)]
    every = range(len(found))
    assert stacks.group(found, every, 9) == [[0, 1, 3], [2, 4], [5], [6], [7, 8], [9], [10]]
    assert stacks.group(found, every, 2)[:2] == [[0, 1], [2, 4]]
    assert stacks.group(found, [4, 3, 2], 2) == [[2, 4], [3]]
    assert stacks.group(found, [3, 1, 0], 1) == [[3], [1], [0]]


LONG = ["optimizer.lr=0.1,0.2,0.3", "train.steps=3000", "model.dropout=0.1",
        "optimizer.momentum=0.5"]  # fmt: skip


def begun(folder: Path, step: int) -> forked.Command:
    process = forked.Command(
        "sweep", *BASE, *LONG, f"sweep.dir={folder}", "--stack", "16", cwd=folder.parent
    )

    def there() -> bool:
        runs = [StoredRun(path.parent) for path in folder.glob("*/metrics.jsonl")]
        return len(runs) == 3 and all(run.last_line().get("step", 0) >= step for run in runs)

    wait_for(there)
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredRun]:
    return sweep(tmp_path_factory.mktemp("undisturbed") / "sweep", *LONG)


@pytest.mark.reliability
def test_a_killed_stack_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: dict[str, StoredRun]
) -> None:
    process = begun(tmp_path / "sweep", 300)
    [pid] = {json.loads(p.read_text())["pid"] for p in tmp_path.glob("sweep/*/status.json")}
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.count("killed by SIGKILL") == 3
    again = sweep(tmp_path / "sweep", *LONG)
    for name, run in again.items():
        assert_same_run(run, undisturbed[name])
        [resumed] = run.manifest()["resumes"]
        assert resumed["drift"] == []


@pytest.mark.reliability
def test_a_signal_keeps_every_state_and_a_member_alone_resumes(
    tmp_path: Path, undisturbed: dict[str, StoredRun]
) -> None:
    process = begun(tmp_path / "sweep", 300)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    runs = [StoredRun(path.parent) for path in tmp_path.glob("sweep/*/status.json")]
    assert [run.status()["state"] for run in runs] == ["interrupted"] * 3
    assert len({run.checkpoint_steps()[-1] for run in runs}) == 1
    words = [word for word in [*BASE, *LONG] if not word.startswith("optimizer.lr")]
    lr = runs[0].config()["optimizer"]["lr"]
    assert main(["train", *words, f"optimizer.lr={lr}", f"run.dir='{runs[0].folder}'"]) == 0
    [resumed] = runs[0].manifest()["resumes"]
    assert resumed["drift"] == ["stacked: 3 -> null"]
    assert_close(runs[0], undisturbed[runs[0].folder.name])
    sweep(tmp_path / "sweep", *LONG)
    assert_close(runs[1], undisturbed[runs[1].folder.name])


def assert_close(run: StoredRun, expected: StoredRun) -> None:
    assert [row["step"] for row in run.metrics()] == [row["step"] for row in expected.metrics()]
    np.testing.assert_allclose(losses(run), losses(expected), atol=0.02)


@pytest.mark.reliability
def test_a_member_that_is_behind_catches_up(tmp_path: Path) -> None:
    words = ["optimizer.lr=0.1,0.2", "train.checkpoint_every=50"]
    whole = sweep(tmp_path / "whole", *words)
    name, ahead = sorted(whole.items())[0]
    part = tmp_path / "part" / name
    plain = [*BASE, "train.checkpoint_every=50", "optimizer.lr=0.1", f"run.dir='{part}'"]
    process = forked.Command("train", *plain)
    wait_for(lambda: StoredRun(part).checkpoint_steps())
    process.terminate()
    process.wait()
    (tmp_path / "part" / ".sweep").mkdir()
    found: Any = sweep(tmp_path / "part", *words)
    for each, run in found.items():
        assert run.status()["state"] == "done"
        np.testing.assert_allclose(losses(run), losses(whole[each]), atol=1e-4)
    assert ahead.status()["state"] == "done"
