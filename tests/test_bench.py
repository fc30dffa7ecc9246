"""The benchmarks: what they compare and how they tell it. How fast anything is, is not tested."""

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import pytest
import torch

from bnrepro.bench import BENCHMARKS
from bnrepro.bench.comparison import Comparison, compare
from bnrepro.bench.layer import Case
from bnrepro.bench.startup import FIRST_STEP
from bnrepro.cli import main
from bnrepro.store import StoredRun
from bnrepro.training import program

GROWTH = Path(__file__).parents[1] / "docs" / "performance" / "growth.py"
QUICK = ("dataset=digits", "train.steps=5", "train.checkpoint_every=5", "probe.size=50")


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return forked.run("bench", *words)


def told(*words: str) -> list[dict[str, Any]]:
    done = bench(*words, *QUICK, "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_the_two_take_turns_and_neither_is_always_first() -> None:
    calls: list[str] = []
    ours, theirs = (("ours", lambda: calls.append("a")), ("theirs", lambda: calls.append("b")))
    compare("name", ours, theirs, 1, 4)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba" + "ab"


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    found = Comparison("name", "ours", "theirs", 10, ((1.0, 2.0), (3.0, 2.0), (2.0, 2.0)))
    values = found.to_dict()
    assert (values["ratio"], values["ratio_min"], values["ratio_max"]) == (1.0, 0.5, 1.5)
    assert values["ours_milliseconds"] == 200.0


def test_work_done_several_times_is_divided_by_its_count() -> None:
    found = Comparison("name", "ours", "theirs", 10, ((1.5, 1.0),), times=25)
    assert found.ratios == [pytest.approx(1.02)]


def test_a_case_has_the_memory_format_it_names() -> None:
    case = Case((2, 3, 4, 5), torch.bfloat16, torch.channels_last)
    assert str(case) == "2×3×4×5 bfloat16 channels_last"
    x = case.sample(torch.device("cpu"))
    assert x.dtype == torch.bfloat16
    assert x.is_contiguous(memory_format=torch.channels_last)


LONGER = pytest.mark.reliability


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("checkpoints", 1),
        pytest.param("probes", 1, marks=LONGER),
        pytest.param("startup", 3, marks=LONGER),
        pytest.param("step", 1, marks=LONGER),
    ],
)
def test_every_benchmark_prints_its_ratios(name: str, compared: int) -> None:
    results = told(name)
    compiled = name == "step" and program.can_compile(torch.device("cpu"))
    assert len(results) == compared + 2 * compiled
    for result in results:
        assert result["name"].startswith(name)
        assert result["ratio"] > 0
        assert result["ratio_min"] <= result["ratio"] <= result["ratio_max"]


@pytest.mark.reliability
def test_the_layer_is_compared_eager_and_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = importlib.import_module("bnrepro.bench.layer")  # the package has a function of the name
    monkeypatch.setattr(layer, "ELEMENTS_A_ROUND", 1)  # a call each
    monkeypatch.setattr(layer, "LARGE", layer.LARGE[:1])
    assert main(["bench", "layer", "threads=1", "--rounds", "1", "--json"]) == 0
    names = [result["name"] for result in json.loads(capsys.readouterr().out)]
    assert names[:2] == ["layer 60×100 float32 eager", "layer 512×1024 float32 eager"]
    compiled = ["layer 512×1024 float32 compiled"]
    assert names[2:] == (compiled if program.can_compile(torch.device("cpu")) else [])


@pytest.mark.reliability
def test_a_stack_is_compared_with_its_runs_one_by_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.import_module("bnrepro.bench.stack"), "MEMBERS", 2)
    assert main(["bench", "stack", *QUICK, "threads=1", "--rounds", "1", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["ours"].startswith("2 runs together")


@pytest.mark.reliability
def test_the_loop_has_a_dataloader_among_its_opponents() -> None:
    labels = [result["theirs"] for result in told("loop")]
    assert any("DataLoader" in label for label in labels)


def test_the_first_step_is_where_starting_ends(tmp_path: Path) -> None:
    line = [sys.executable, "-c", FIRST_STEP, "train", *QUICK, f"run.dir={tmp_path / 'run'}"]
    assert subprocess.run(line, check=False).returncode == 0
    assert StoredRun(tmp_path / "run").status()["state"] == "stale"
    assert [row["step"] for row in StoredRun(tmp_path / "run").metrics()] == [0]


def test_the_operations_and_bytes_of_a_step() -> None:
    # 3 -> 2 -> 4 of 5 images: 6 and 8 weights; the first layer's input needs no gradient.
    growth = runpy.run_path(str(GROWTH))
    operations, traffic = growth["operations"], growth["traffic"]
    assert operations([3, 2, 4], 5) == 2 * 5 * (3 * 14 - 6)
    assert traffic([3, 2, 4], 5) == 4 * (6 * 14 + 4 * 5 * 9)


@pytest.mark.reliability
def test_the_growth_of_a_step_is_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "growth.png"
    line = [sys.executable, str(GROWTH), *QUICK, "--rounds", "1", "--out", str(picture)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    rates = re.findall(r"(\d+): ([\d,]+) of ([\d,]+) steps/s", done.stdout)
    assert [int(value) for value, _, _ in rates] == [
        15, 60, 240, 960, 50, 100, 400, 1600, 1, 3, 6, 12,
    ]  # fmt: skip
    # Which of the two is larger is a timing's to say, and this machine may be busy.
    assert all(int(rate.replace(",", "")) > 0 for _, *pair in rates for rate in pair)
    assert picture.stat().st_size > 10_000


def test_an_unknown_benchmark() -> None:
    done = bench("layr")
    assert done.returncode == 2
    assert "'layer'" in done.stderr
    assert set(BENCHMARKS) == {"layer", "step", "loop", "stack", "probes", "checkpoints", "startup"}
