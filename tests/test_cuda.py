"""Runs on a GPU: to the same bits each time, resumed, in a sweep's processes and in a stack."""

from pathlib import Path

import forked
import pytest
import torch
from alike import assert_same_run, rows
from conftest import wait_for_step

from bnrepro.cli import main
from bnrepro.store import StoredRun

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DIGITS = ["dataset=digits", "device=cuda", "train.steps=600", "train.log_every=10",
          "train.eval_every=100", "train.checkpoint_every=70", "probe.every=50"]  # fmt: skip
INCEPTION = ["dataset=digits", "device=cuda", "model=inception", "model.width=0.0625",
             "model.stem_stride=1", "train.steps=30", "train.log_every=5", "train.eval_every=15",
             "train.checkpoint_every=10", "probe.every=15"]  # fmt: skip


def trained(folder: Path, *words: str) -> StoredRun:
    assert main(["train", *words, f"run.dir={folder}"]) == 0
    return StoredRun(folder)


@pytest.mark.parametrize("words", [DIGITS, INCEPTION, [*DIGITS, "model.dropout=0.2"]])
@pytest.mark.parametrize("norm", ["none", "batch", "torch"])
def test_a_run_has_the_same_bits_each_time(tmp_path: Path, words: list[str], norm: str) -> None:
    first, second = (trained(tmp_path / name, *words, f"norm={norm}") for name in "ab")
    assert_same_run(first, second)
    assert first.manifest()["gpu"] == torch.cuda.get_device_name()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path, compiled: bool) -> None:
    words = [*DIGITS, "train.steps=3000", "model.dropout=0.1", f"train.compile={compiled}"]
    undisturbed = trained(tmp_path / "undisturbed", *words)
    process = forked.Command("train", *words, f"run.dir={tmp_path / 'killed'}")
    wait_for_step(tmp_path / "killed", 250)
    process.kill()
    process.wait()
    run = trained(tmp_path / "killed", *words)
    assert_same_run(run, undisturbed)
    assert run.manifest()["resumes"]


def test_auto_takes_the_gpu_and_the_losses_are_those_of_a_cpu_but_for_rounding(
    tmp_path: Path,
) -> None:
    auto = trained(tmp_path / "auto", *DIGITS, "device=auto", "train.steps=100")
    cpu = trained(tmp_path / "cpu", *DIGITS, "device=cpu", "train.steps=100")
    assert auto.manifest()["device"] == "cuda"
    ours, theirs = (torch.tensor(run.curve("train_loss")[1]) for run in (auto, cpu))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_sweep_and_a_stack_train_on_the_gpu(tmp_path: Path) -> None:
    line = ["sweep", *DIGITS, "train.steps=100", "optimizer.lr=0.1,0.2,0.3"]
    assert main([*line, f"sweep.dir={tmp_path / 'jobs'}", "--jobs", "3"]) == 0
    assert main([*line, f"sweep.dir={tmp_path / 'stack'}", "--stack", "3"]) == 0
    table, stacked = rows(tmp_path / "jobs"), rows(tmp_path / "stack")
    assert len(table) == len(stacked) == 3
    for one, other in zip(table, stacked, strict=True):
        assert float(one["test_accuracy"]) == pytest.approx(float(other["test_accuracy"]), abs=0.01)
    alone = trained(tmp_path / "alone", *DIGITS, "train.steps=100", "optimizer.lr=0.2")
    [member] = [
        run
        for run in map(StoredRun, tmp_path.glob("jobs/*"))
        if run.exists() and run.config()["optimizer"]["lr"] == 0.2
    ]
    assert_same_run(member, alone)
