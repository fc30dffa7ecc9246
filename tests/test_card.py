"""`bnrepro runs RUN`: a run in a paragraph, and the command that repeats it."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.config.compose import compose, overrides_of
from bnrepro.errors import ConfigError
from bnrepro.report.card import card
from bnrepro.store import StoredRun


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card") / "run"
    words = ["norm.momentum=0.3", "optimizer.lr=0.5", "seed=7", "augment.shift=1"]
    assert main(["train", *TINY, *words, f"run.dir={folder}"]) == 0
    return folder


def told(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The paragraph in one line, and what stands below it."""
    capsys.readouterr()
    assert main(["runs", str(folder)]) == 0
    paragraph, _, rest = capsys.readouterr().out.partition("\n\n")
    return " ".join(paragraph.split()), rest


def changed(folder: Path, target: Path, name: str, **values: object) -> Path:
    """A copy of a run, in one of whose files values are others."""
    shutil.copytree(folder, target)
    content = json.loads((target / name).read_text())
    (target / name).write_text(json.dumps(content | values))
    return target


def test_a_run_is_told_in_a_paragraph(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = told(folder, capsys)
    run = StoredRun(folder)
    summary, manifest = run.summary() or {}, run.manifest()
    for part in (
        "model=mlp (activation=sigmoid, dropout=0.0, hidden=[10]) was trained with norm=batch (",
        "momentum=0.3", "on dataset=digits (", "from init=gaussian (", "by optimizer=sgd (lr=0.5,",
        "with schedule=constant, for 20 steps of 60 images, with seed=7.",
        "Also set: augment.shift=1.",
        f"fingerprint is {manifest['dataset']['fingerprint'][:12]}",
        f"with test accuracy {summary['test_accuracy']:.4f}, by the statistics of Algorithm 2 "
        f"{summary['population_test_accuracy']:.4f}",
        f"with torch {manifest['versions']['torch']} and Python {manifest['python']}",
        manifest["cpu"],
    ):  # fmt: skip
        assert part in text, (part, text)


def test_the_command_repeats_the_run_to_the_last_bit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, rest = told(folder, capsys)
    heading, line = rest.strip().split("\n")
    assert heading == "Repeat it:"
    bnrepro, *words = shlex.split(line)
    assert bnrepro == "bnrepro"
    assert main([*words, f"run.dir={tmp_path / 'again'}"]) == 0

    def numbers(folder: Path) -> list[dict[str, object]]:
        rows = StoredRun(folder).metrics()
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]

    assert numbers(tmp_path / "again") == numbers(folder)


def test_lines_are_as_wide_as_the_terminal(folder: Path) -> None:
    for width in (60, 80, 100):
        paragraph = card(StoredRun(folder), width).partition("\n\n")[0]
        assert max(map(len, paragraph.split("\n"))) <= width


def test_how_a_run_ended(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diverged = changed(
        folder, tmp_path / "diverged", "summary.json",
        status="diverged", diverged_at=11, test_accuracy=None,
    )  # fmt: skip
    assert "It diverged after" in (text := told(diverged, capsys)[0])
    assert "the loss is not finite at step 11." in text
    stopped = changed(folder, tmp_path / "a b", "status.json", state="interrupted", step=15)
    (stopped / "summary.json").unlink()
    text, rest = told(stopped, capsys)
    assert "Its state is interrupted, at step 15 of 20." in text
    assert rest.startswith("Resume it:\n")
    assert shlex.split(rest)[-1] == f"run.dir={stopped}"
    failed = changed(
        stopped, tmp_path / "failed", "status.json", state="failed", step=15, error="no room"
    )
    assert "Its state is failed (no room), at step 15 of 20." in told(failed, capsys)[0]
    once = changed(folder, tmp_path / "once", "manifest.json", resumes=[{"drift": []}])
    assert "It was interrupted and resumed once." in told(once, capsys)[0]
    drifted = changed(
        folder, tmp_path / "drift", "manifest.json", resumes=[{"drift": ["x: 1 -> 2"]}]
    )
    assert "resumed although something differed (x: 1 -> 2)" in told(drifted, capsys)[0]


def test_what_it_was_made_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = changed(
        folder, tmp_path / "made", "manifest.json",
        git={"sha": "0123456789abcdef", "dirty": True}, gpu="H200", threads=3, stacked=4,
        packages={"norm": "guest 1.0"},
    )  # fmt: skip
    text = told(made, capsys)[0]
    assert "commit 0123456789ab with changes" in text
    assert "on H200 (" in text
    assert ", 3 threads." in text
    assert "Made together with 3 others (--stack) on " in text
    assert "The norm is of guest 1.0." in text
    (made / "manifest.json").unlink()
    assert "What it ran on was not recorded." in told(made, capsys)[0]


def test_a_run_of_settings_that_are_not_here_has_no_command(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("name: batch", "name: fromelsewhere"))
    _, rest = told(tmp_path / "run", capsys)
    assert rest.startswith("No command repeats it here: ")
    assert "fromelsewhere" in rest


def test_images_of_ones_own_are_named_by_folder_and_fingerprint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "run"
    shutil.copytree(folder, made)
    own = c.to_dict(compose(["dataset=folder", "dataset.root=my images", *TINY[1:]]).config)
    (made / "config.yaml").write_text(yaml.safe_dump(own))
    _, rest = told(made, capsys)
    fingerprint = StoredRun(made).manifest()["dataset"]["fingerprint"]
    words = shlex.split(rest)
    assert f"dataset.fingerprint={fingerprint}" in [word.replace("'", "") for word in words]
    again = compose(words[words.index("train") + 1 :]).config
    dataset = c.to_dict(again)["dataset"]
    assert (dataset["root"], dataset["fingerprint"]) == ("my images", fingerprint)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("experiment=cifar10-inception", "model.modules=[3a,4e]"),
        ("experiment=digits", "norm=none", "optimizer=adam", "optimizer.lr=1e-5"),
        ("norm=detached", "norm.scaling=true", "norm.momentum=null", "init=he"),
        ("schedule=linear", "schedule.horizon=70", "studies=[inference,variance-estimate]"),
        ("probe.layers=['1e3','null','a b','x,y',\"it's\"]", "tags=[a]", "threads=2"),
        ("dataset=folder", "dataset.root='a b/1e3'", "dataset.size=32", "model.hidden=[5]"),
    ],
)
def test_overrides_come_back_from_a_configuration(words: tuple[str, ...]) -> None:
    config = compose(words).config
    again = overrides_of(c.to_dict(config))
    made = compose(again).config
    assert c.identifying_settings(c.to_dict(made)) == c.identifying_settings(c.to_dict(config))
    assert made.dataset.root == config.dataset.root
    for word in again:  # none is there for nothing
        rest = [other for other in again if other != word]
        try:
            without = c.to_dict(compose(rest).config)
        except ConfigError:
            continue
        assert without != c.to_dict(made), word


def test_the_table_is_there_when_it_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(folder), "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == ["."]
    assert main(["runs", str(folder.parent)]) == 0
    assert capsys.readouterr().out.split()[:3] == ["run", "state", "step"]
