"""Fig. 1 from run folders: distances, first steps, the drawn pair, the files."""

import hashlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from bnrepro import config
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.errors import StorageError
from bnrepro.evidence import paper
from bnrepro.evidence.paper import fig2
from bnrepro.report import fig1
from bnrepro.store import RunWriter


def write_run(
    folder: Path, curve: np.ndarray, *overrides: str, state: str = "done", probed: bool = True
) -> None:
    """A run of MNIST whose test accuracy every 500 steps is given, with two probes."""
    last = 500 * (len(curve) - 1)
    own = [f"train.steps={last}", f"probe.every={last if probed else 0}"]
    values = config.to_dict(compose([*own, *overrides]).config)
    writer = RunWriter.acquire(folder, values, [])
    assert writer is not None
    for index, accuracy in enumerate(curve):
        writer.record(500 * index, {"test_accuracy": float(accuracy)})
    for step in (0, last) if probed else ():
        percentiles = np.array([[-1.0, 0.0, 1.0], [-2.0, step / last, 3.0]], np.float32)
        writer.probe(step, {"sigmoid3/percentiles": percentiles})
    writer.finish(state, last, {"steps": last, "test_accuracy": float(curve[-1])})


def like_the_paper(norm: str, shift: float = 0.0) -> np.ndarray:
    steps, accuracies = paper.accuracy(norm)
    return np.interp(np.arange(0, 50001, 500), steps, accuracies) + shift


def test_the_curves_of_the_paper_agree_with_its_text() -> None:
    assert paper.first_step(*paper.accuracy("batch")) == pytest.approx(15_000, abs=100)
    assert paper.first_step(*paper.accuracy("none")) == pytest.approx(41_600, abs=100)
    steps, accuracies = paper.accuracy("none")
    assert np.interp(10_000, steps, accuracies) == pytest.approx(0.926, abs=0.001)
    panel = paper.percentiles("none")
    assert [round(float(panel[p][1][-1]), 2) for p in (15, 50, 85)] == pytest.approx(
        [-1.86, -0.02, 1.69], abs=0.05
    )


@pytest.mark.parametrize("network", fig2.FIG3)
def test_the_curves_of_fig_2_agree_with_the_table_of_fig_3(network: str) -> None:
    steps, accuracies = fig2.accuracy(network)
    row = fig2.FIG3[network]
    assert (np.diff(steps) > 0).all()
    # BN-x5's curve is drawn no further than .7284, and read to ±.003.
    assert accuracies.max() == pytest.approx(row.highest, abs=0.003)
    if network == "Inception":  # so flat at its end that a reading says little of when
        first: float | None = steps[-1]
    else:
        first = paper.first_step(steps, accuracies, fig2.TARGET)
    # Printed to .1 million, read off points that lie about .33 million apart.
    assert (first or np.inf) == pytest.approx(row.steps, abs=0.35e6)


def test_the_papers_step_ratios_follow_from_its_curves() -> None:
    told = {"Inception": 1.0, "BN-Baseline": 2.33, "BN-x5": 14.8, "BN-x30": 11.5}
    for network, times in told.items():
        assert fig2.fewer(network) == pytest.approx(times, abs=0.05)
    assert fig2.fewer("BN-x5-Sigmoid") == 0
    assert fig2.FIG3["Inception"].steps / fig2.BN_X30_HIGHEST == pytest.approx(5, abs=0.2)


def test_distance_is_the_root_mean_square_at_the_papers_steps() -> None:
    steps, accuracies = paper.accuracy("none")
    assert paper.distance(steps, accuracies, "none") == 0
    assert paper.distance(steps, accuracies + 0.01, "none") == pytest.approx(0.01)
    half = accuracies + np.where(np.arange(len(steps)) % 2, 0.02, 0.0)
    share = (np.arange(len(steps)) % 2).mean()
    assert paper.distance(steps, half, "none") == pytest.approx(0.02 * share**0.5)


def test_first_step_is_the_first_at_or_above() -> None:
    steps = np.array([0, 500, 1000, 1500])
    assert paper.first_step(steps, np.array([0.1, 0.972, 0.9, 0.98])) == 500
    assert paper.first_step(steps, np.array([0.1, 0.2, 0.3, 0.9719])) is None


def test_seeds_are_one_arm_and_both_arms_are_drawn_at_one_setting(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path / f"near{seed}", like_the_paper("none", 0.001 * seed), "norm=none",
                  f"seed={seed}")  # fmt: skip
        write_run(tmp_path / f"bn{seed}", like_the_paper("batch", -0.01), f"seed={seed}")
    write_run(tmp_path / "far", like_the_paper("none", -0.2), "norm=none", "optimizer.lr=1")
    write_run(tmp_path / "bn_far", like_the_paper("batch"), "optimizer.lr=1")
    write_run(tmp_path / "bad", like_the_paper("none"), "norm=none", state="diverged")
    write_run(tmp_path / "other", like_the_paper("none"), "norm=none", "dataset=digits")
    found = fig1.read(tmp_path)
    assert [(a.norm, a.setting[0], len(a.runs)) for a in found.arms] == [
        ("batch", 1.0, 1), ("batch", 0.07, 2), ("none", 0.07, 2), ("none", 1.0, 1),
    ]  # fmt: skip
    assert found.arms[1].distance == pytest.approx(0.01, abs=0.002)
    assert [(a.norm, a.setting, len(a.runs)) for a in found.drawn] == [
        ("none", (0.07, 0.07), 2), ("batch", (0.07, 0.07), 2),
    ]  # fmt: skip
    fig1.render(found, tmp_path / "out")
    text = (tmp_path / "out" / "fig1.md").read_text()
    drawn = [line for line in text.splitlines() if line.startswith("| **")]
    assert [line.split("|")[1:5] for line in drawn] == [
        [" **with BN** ", " 0.07 ", " 0.07 ", " 2 "],
        [" **without BN** ", " 0.07 ", " 0.07 ", " 2 "],
    ]
    assert found.notes == [
        f"left out, diverged: {tmp_path}/bad",
        f"1 left out, not of Fig. 1: {tmp_path}/other (dataset.name=digits)",
    ]
    assert "Left out, diverged" in text


@pytest.mark.parametrize(
    "override",
    ["optimizer=adam", "model.activation=relu", "init=xavier", "optimizer.momentum=0.9",
     "model.hidden=[100,100]", "norm.placement=post", "train.batch_size=64", "dataset.limit=1000"],
)  # fmt: skip
def test_another_network_is_no_run_of_fig_1(tmp_path: Path, override: str) -> None:
    write_run(tmp_path / "none", like_the_paper("none"), "norm=none")
    write_run(tmp_path / "other", like_the_paper("batch"), override)
    found = fig1.read(tmp_path)
    assert [arm.norm for arm in found.arms] == ["none"]
    [note] = found.notes
    assert f"{tmp_path}/other ({override.partition('=')[0]}" in note


def test_arms_are_paired_if_they_differ_in_the_normalization_only(tmp_path: Path) -> None:
    write_run(tmp_path / "none", like_the_paper("none"), "norm=none")
    write_run(tmp_path / "short", like_the_paper("batch")[:91])
    assert [arm.norm for arm in fig1.read(tmp_path).drawn] == ["none"]
    write_run(tmp_path / "whole", like_the_paper("batch"))
    drawn = fig1.read(tmp_path).drawn
    assert [arm.steps[-1] for arm in drawn] == [50_000, 50_000]


def test_a_run_listed_twice_counts_once(tmp_path: Path) -> None:
    write_run(tmp_path / "a", like_the_paper("none"), "norm=none")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_run(tmp_path / "again", like_the_paper("none", 0.001), "norm=none")
    found = fig1.read(tmp_path)
    [arm] = found.arms
    assert [run.folder.name for run in arm.runs] == ["a"]
    assert found.notes == [
        f"counted once, seed 0: {tmp_path}/a, {tmp_path}/{other}" for other in ("again", "copy")
    ]


def test_a_run_too_short_to_compare_is_never_the_nearest(tmp_path: Path) -> None:
    write_run(tmp_path / "short", like_the_paper("none")[:7], "norm=none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fig1.read(tmp_path)
        fig1.render(found, tmp_path)
    [row] = fig1.cells(found)
    assert row[-1] == "too short"
    assert row[5] == "not by 3,000"
    figure = fig1.accuracy_figure(found.drawn).axes[0]
    assert figure.get_xlim()[1] < 4000
    assert figure.get_ylim()[0] < found.drawn[0].mean[-1]
    assert "seeds: without BN 1" in figure.get_title()
    write_run(tmp_path / "far", like_the_paper("none", -0.3), "norm=none", "optimizer.lr=1")
    assert fig1.read(tmp_path).drawn[0].setting[0] == 1


def test_a_report_made_twice_is_the_same(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "none", like_the_paper("none"), "norm=none")
    write_run(tmp_path / "runs" / "batch", like_the_paper("batch"))
    digests = []
    for name in ("one", "two"):
        assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / name)]) == 0
        files = sorted((tmp_path / name).iterdir())
        assert [path.name for path in files] == ["fig1.md", "fig1a.png", "fig1bc.png"]
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]


def test_runs_without_probes_make_a_report_without_bands(tmp_path: Path) -> None:
    write_run(tmp_path / "none", like_the_paper("none"), "norm=none", probed=False)
    fig1.render(fig1.read(tmp_path), tmp_path / "out")
    assert "fig1bc.png" not in (tmp_path / "out" / "fig1.md").read_text()
    assert not (tmp_path / "out" / "fig1bc.png").exists()


def test_no_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no finished run"):
        fig1.read(tmp_path)
    with pytest.raises(StorageError, match="no such folder"):
        fig1.read(tmp_path / "nowhere")


def test_the_table_has_the_numbers_of_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick, slow = np.linspace(0.1, 0.98, 101), np.linspace(0.1, 0.96, 101)
    write_run(tmp_path / "a", quick, "norm=none")
    write_run(tmp_path / "b", slow, "norm=none", "seed=1")
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "fig1.md").read_text()
    told = capsys.readouterr().out
    assert "without BN" in told
    assert f"{tmp_path}/fig1.md {tmp_path}/fig1a.png {tmp_path}/fig1bc.png" in told
    [row] = [line for line in text.splitlines() if "without BN" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # .1 + .88·k/100 is at or above .972 from k = 100 on; the paper's curve from 41.6k on.
    assert cells[3:6] == ["2", "0.9700 (0.9600 to 0.9800)", "50,000, not by 50,000"]
    assert int(cells[6].replace(",", "")) == pytest.approx(41_600, abs=100)
    at, expected = paper.accuracy("none")
    mean = np.interp(at, np.arange(0, 50001, 500), (quick + slow) / 2)
    assert float(cells[7]) == pytest.approx(np.sqrt(np.mean((mean - expected) ** 2)), abs=5e-5)


def test_a_folder_without_such_a_run_is_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "digits", like_the_paper("none"), "dataset=digits")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 3
    assert capsys.readouterr().err.startswith("bnrepro: error: no finished run of Fig. 1 (")
    assert not (tmp_path / "out").exists()
