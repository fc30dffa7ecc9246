"""Reports of a sweep: its table and its figure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alike import rows
from conftest import TINY

from bnrepro.cli import main
from bnrepro.report import sweep as report
from bnrepro.store import sweep as sweepfolder
from bnrepro.store.sweep import COLUMNS, Results
from bnrepro.sweeps import sweep as sweeps


def results(folder: Path, axes: dict[str, list[Any]], state: str = "done") -> Results:
    import itertools

    found = []
    for number, values in enumerate(itertools.product(*axes.values())):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"state": state, "test_accuracy": 0.5 + number / 1000, "steps": 100, "chance": 0.1}
        found.append({"member": str(number), **dict(zip(axes, values, strict=True)), **row})
    return Results(folder, axes, found)


LR = {"optimizer.lr": [0.1, 1.0, 10.0]}
SCALE = {"init.scale": [0.01, 1.0]}
NORM = {"norm": ["batch", "none"]}
SEED = {"seed": [0, 1, 2]}


@pytest.mark.parametrize(
    ("axes", "panels", "lines"),
    [
        ({**LR, **SCALE}, 2, 0),  # one map and its scale of colours
        ({**SEED, **NORM, **LR, **SCALE}, 3, 0),
        ({**LR, **SCALE, "train.batch_size": [10, 60]}, 3, 0),
        ({**LR, **SEED}, 1, 1),
        ({**NORM, **LR, **SEED}, 1, 2),
        ({"norm": ["batch", "none"], "init": ["he", "xavier"]}, None, None),
        ({"experiment": list("abcdef"), **LR}, None, None),
    ],
)
def test_the_figure_fits_the_axes(
    tmp_path: Path, axes: dict[str, list[Any]], panels: int | None, lines: int | None
) -> None:
    figure = report.draw(results(tmp_path, axes))
    if panels is None:
        assert figure is None
        return
    assert figure is not None
    assert len(figure.axes) == panels
    assert len(figure.axes[0].lines) == lines


def test_a_heat_map_shows_means_and_diverged_runs(tmp_path: Path) -> None:
    table = results(tmp_path, {**LR, **SCALE, **SEED})
    for row in table.rows:
        row["test_accuracy"] = 0.25 if row["seed"] else 0.75
        if row["optimizer.lr"] == 10.0 and row["seed"] != 1:
            row |= {"state": "diverged", "test_accuracy": None}
    figure = report.draw(table)
    assert figure is not None
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said.count("0.417") == 4
    assert said.count("0.150\n2/3 div.") == 2  # (.1 + .1 + .25) / 3: a diverged run guesses


def diverged_at_the_largest_rate(row: dict[str, Any]) -> None:
    if row["optimizer.lr"] == 10.0 and row["seed"] != 1:
        row |= {"state": "diverged", "test_accuracy": None}


@pytest.mark.parametrize("side", [{}, NORM])
def test_a_curve_counts_a_diverged_run_as_guessing_and_says_how_many_diverged(
    tmp_path: Path, side: dict[str, list[Any]]
) -> None:
    table = results(tmp_path, {**side, **LR, **SEED})
    for row in table.rows:
        row["test_accuracy"] = 0.7
        diverged_at_the_largest_rate(row)
    figure = report.draw(table)
    assert figure is not None
    [axes] = figure.axes
    for line in axes.lines:
        np.testing.assert_allclose(line.get_ydata(), [0.7, 0.7, 0.3])  # (.1 + .7 + .1) / 3
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.1)
    assert [text.get_text() for text in axes.texts] == ["2/3\ndiverged"] * len(axes.lines)
    legend = axes.get_legend()
    assert legend is not None
    assert all("2/9 diverged" in text.get_text() for text in legend.get_texts())
    assert "a diverged run counts as guessing" in axes.get_title()


def test_a_curve_over_training_counts_a_diverged_run_as_guessing(tmp_path: Path) -> None:
    table = results(tmp_path, {**NORM, "seed": [0, 1]})
    for row in table.rows:
        lines = [{"step": step, "test_accuracy": 0.5 + step / 100} for step in (0, 10, 20)]
        if row["norm"] == "none" and row["seed"] == 1:
            row |= {"state": "diverged", "test_accuracy": None}
            del lines[1:]
        folder = tmp_path / row["member"]
        folder.mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
    figure = report.draw(table)
    assert figure is not None
    [axes] = figure.axes
    batch, none = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(batch, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(none, [0.5, 0.35, 0.4])
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["norm = batch", "norm = none; 1/2 diverged"]
    assert [text.get_text() for text in axes.texts] == ["1/2\ndiverged"]
    (tmp_path / "2" / "metrics.jsonl").write_text('{"step": 0, "test_accuracy": 0.2}\n')
    table.rows[2] |= {"state": "diverged", "test_accuracy": None}
    figure = report.draw(table)
    assert figure is not None
    none = figure.axes[0].lines[1].get_ydata()  # both diverged: it guesses up to the end
    np.testing.assert_allclose(none, [0.35, 0.1, 0.1])


def test_the_table_marks_members_at_chance(tmp_path: Path) -> None:
    table = results(tmp_path, {"optimizer.lr": [0.1, 1.0, 10.0]})
    for row, final in zip(table.rows, (0.9, 0.1135, 0.098), strict=True):
        row["test_accuracy"] = final
    report.render(table, tmp_path / "out")
    text = (tmp_path / "out" / "sweep.md").read_text()
    assert [line.split("|")[3].strip() for line in text.splitlines() if "| done |" in line] == [
        "0.9000", "0.1135 (chance)", "0.0980 (chance)",
    ]  # fmt: skip
    _, lines = sweeps.cells(table, 3)
    assert [line[2] for line in lines] == ["0.9000", "0.1135 (chance)", "0.0980 (chance)"]


def test_a_report_is_the_same_every_time(tmp_path: Path) -> None:
    assert main(["sweep", *TINY, "seed=0,1", "norm=batch,none", f"sweep.dir={tmp_path}"]) == 0
    found = sweepfolder.read(tmp_path)
    for name in "ab":
        paths = report.render(found, tmp_path / name)
        assert [path.name for path in paths] == ["sweep.md", "sweep.png", "results.csv"]
    assert "4 members: 4 done" in (tmp_path / "a" / "sweep.md").read_text()
    for path in paths:
        assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()


def test_a_report_elsewhere_is_whole_and_leaves_the_sweep_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, out = tmp_path / "sweep", tmp_path / "out"
    assert main(["sweep", *TINY, "norm=batch,none", f"sweep.dir={sweep}"]) == 0
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
    capsys.readouterr()
    assert main(["report", str(sweep), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"written: {out}/sweep.md {out}/sweep.png {out}/results.csv" in told
    assert "test accuracy" in told
    assert (out / "results.csv").read_bytes() == (sweep / "results.csv").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before


def test_no_value_of_an_axis_is_markup(tmp_path: Path) -> None:
    table = results(tmp_path, {"tags": ["<script>alert(1)</script>", "a|b"]})
    report.render(table, tmp_path)
    text = (tmp_path / "sweep.md").read_text()
    assert r"| \<script\>alert(1)\</script\> |" in text
    assert r"| a\|b |" in text


def test_a_text_that_a_spreadsheet_would_run_is_quoted(tmp_path: Path) -> None:
    texts = ["=1+1", "-x", "-2+3", "+1", "@a", "-.5e3", "-1"]
    table = results(tmp_path, {"tags": texts, "optimizer.lr": [-1.0]})
    sweepfolder.write(table)
    told = ["'=1+1", "'-x", "'-2+3", "+1", "'@a", "-.5e3", "-1"]
    assert [row["tags"] for row in rows(tmp_path)] == told
    assert {row["optimizer.lr"] for row in rows(tmp_path)} == {"-1.0"}


def test_a_damaged_sweep_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text("digest: x\n")
    assert main(["report", str(tmp_path)]) == 3
    assert "rerun the sweep" in capsys.readouterr().err
