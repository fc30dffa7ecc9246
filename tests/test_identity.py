"""What a run is: its configuration and the data it read, wherever either lies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnrepro import experiment, launch
from bnrepro.cli import main
from bnrepro.errors import DataError
from bnrepro.grid import grid
from bnrepro.store import StoredRun
from bnrepro.sweepfolder import finished, read

TINY = ("train.steps=4", "train.eval_every=2", "train.batch_size=4", "model.hidden=[5]",
        "probe.every=0", "tensorboard=false")  # fmt: skip
FOLDER = (*TINY, "dataset=folder", "dataset.validation=4")


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
        assert f'dataset.fingerprint: "{first}" -> ' in capsys.readouterr().err
    assert train(root, run, f"dataset.fingerprint={first}", "run.overwrite=true") == 3
    assert f"fingerprint expected {first}" in capsys.readouterr().err
    assert train(root, run, "run.overwrite=true") == 0
    assert StoredRun(run).manifest()["dataset"]["fingerprint"] != first


def test_a_sweep_goes_over_data_and_not_over_places(tmp_path: Path) -> None:
    roots = [images(tmp_path / name, seed) for name, seed in (("A", 1), ("B", 2), ("C", 1))]
    line = [*FOLDER, f"dataset.root={','.join(map(str, roots))}", "seed=0,1"]
    read_in: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        whole = launch.fingerprint
        patch.setattr("bnrepro.grid.fingerprint", lambda r: read_in.append(r) or whole(r))
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


def test_a_member_is_what_its_configuration_says(tmp_path: Path) -> None:
    line = [*TINY, "dataset=digits", "norm=none", "seed=0,1", f"sweep.dir={tmp_path}"]
    assert main(["sweep", *line]) == 0
    a, b = grid(line).members()
    assert finished(tmp_path, a)
    (tmp_path / a.name).rename(tmp_path / "aside")
    (tmp_path / b.name).rename(tmp_path / a.name)
    (tmp_path / "aside").rename(tmp_path / b.name)
    assert not finished(tmp_path, a)
    assert [row["state"] for row in read(tmp_path).rows] == ["another run"] * 2
    assert main(["sweep", *line]) == 1


def test_a_member_takes_no_other_data_than_the_sweep_found(tmp_path: Path) -> None:
    root = images(tmp_path / "data", 1)
    config = launch.compose([*FOLDER, f"dataset.root={root}"]).config
    config.dataset.fingerprint = launch.fingerprint(str(root))  # type: ignore[attr-defined]
    assert experiment.load(config).name == "folder"
    images(root, 2)
    with pytest.raises(DataError, match="other data than asked for"):
        experiment.load(config)
