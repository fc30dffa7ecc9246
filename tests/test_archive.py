"""The archive of a reproduction: the same report, runs that are done, damage told in a line."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import set_claims
from planting import Planted, arms_of, learning, write
from test_reproduce import made, tiny
from test_verdicts import reproduced

from bnrepro import claims
from bnrepro.cli import main
from bnrepro.errors import NotArchivedError
from bnrepro.evidence.claim import Claim, Finding
from bnrepro.evidence.exhibits import Table
from bnrepro.evidence.runs import Evidence
from bnrepro.report import verdicts
from bnrepro.store import StoredRun, archive, reproduction
from bnrepro.store.archive import Reproduced
from bnrepro.store.reproduction import AskedArm, Reproduction
from bnrepro.store.run import PARTS, rounded

WORDS = ("norm=batch", "probe.every=10", "predictions=true")


def reading(*metrics: str) -> Claim:
    """A claim that reads of its runs metrics, probes and predictions, and shows them all."""
    claim = tiny(batch=WORDS)

    def measure(evidence: Evidence) -> Finding:
        rows = []
        for run in evidence.runs["batch"]:
            steps, percentiles = run.probed("sigmoid1/percentiles")
            kept = run.predictions(("test/probabilities", "test/labels"))
            right = run.correct()
            assert right is not None
            sums = (float(run.curve(name)[1].sum()) for name in metrics)
            shares = float(kept["test/probabilities"].std()), float(right.mean())
            rows.append((str(steps), float(percentiles.sum()), *sums, *shares))
        return replace(claim.measure(evidence), exhibits=(Table("read", "abcdefg", rows),))

    return replace(claim, measure=measure)


LINE = ("reproduce", "--scale", "short", "--jobs", "1", "--out")
ONE = reading("test_accuracy", "train_loss")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reproduction of one claim, with its runs and its archive."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        set_claims(patch, one=ONE)
        assert main([*LINE, str(out)]) == 0
    return out


@pytest.fixture
def alone(whole: Path, tmp_path: Path, have: Callable[..., None]) -> Path:
    """A folder that has its archive and nothing else."""
    have(one=ONE)
    shutil.copytree(whole / "archive", tmp_path / "alone" / "archive")
    return tmp_path / "alone"


def report_of(folder: Path) -> dict[str, bytes]:
    """Every file of a report by its name."""
    paths = [*folder.glob("re*.*"), *folder.glob("figures/*")]
    return {path.name: path.read_bytes() for path in paths if path.name != "reproduce.json"}


def test_the_report_is_the_same_to_the_byte(whole: Path, alone: Path, tmp_path: Path) -> None:
    assert main(["report", str(alone / "archive"), "--out", str(tmp_path / "there")]) == 0
    assert main(["report", str(alone)]) == 0
    assert report_of(whole).keys() >= {"report.md", "report.html", "results.json"}
    assert report_of(whole) == report_of(alone) == report_of(tmp_path / "there")


def test_of_real_claims_too(tmp_path: Path) -> None:
    names = ("ensemble", "jacobian-isometry", "jacobian-magnitude", "stable-distributions")
    reproduced(tmp_path / "a", "short", {name: claims.load(name) for name in names})
    runs = Reproduced(tmp_path / "a")
    verdicts.render(runs, tmp_path / "a")
    archive.write(tmp_path / "a", runs, {})
    assert main(["report", str(tmp_path / "a" / "archive"), "--out", str(tmp_path / "b")]) == 0
    assert report_of(tmp_path / "a") == report_of(tmp_path / "b")
    probed = {name for run in archive.read(tmp_path / "a" / "archive").runs.values()
              if run.kept for name in run.kept.probed}  # fmt: skip
    parts = {name.partition(":")[2] for name in probed if name.startswith("linear2/jacobian")}
    assert len(parts) > 1
    assert parts <= PARTS.keys()  # and nowhere all of it


def test_what_is_judged_of_arrays_has_eleven_binary_digits_from_a_folder_as_from_an_archive(
    whole: Path, alone: Path
) -> None:
    name, answers = "sigmoid1/percentiles", "test/probabilities"
    for run in (whole / "runs").glob("norm=*"):
        here, there = StoredRun.read_once(run), archive.read(alone / "archive").runs[run.name]
        full, kept, archived = (of.probed(name)[1] for of in (StoredRun(run), here, there))
        assert (bits(kept), kept.dtype) == (bits(archived), full.dtype)
        assert 0 < np.abs(kept / full - 1).max() <= 2.0**-11
        full, kept, archived = (
            of.predictions([answers])[answers] for of in (StoredRun(run), here, there)
        )
        assert bits(kept) == bits(archived)
        np.testing.assert_allclose(kept, full, rtol=2.0**-11, atol=0)
        assert (kept != full).mean() > 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_keeps_what_is_short_and_what_is_no_number(dtype: type[np.floating]) -> None:
    short = np.array([0, 1, -1.5, 2047, 1 / 1024, np.inf, -np.inf, np.nan], dtype)
    assert bits(rounded(short)) == bits(short)
    assert rounded(short).dtype == dtype
    assert rounded(np.array([4097, 4099, 1 / 3], dtype)).tolist() == [4096, 4100, 1365 / 4096]
    counts = np.array([2**40 + 1])
    assert rounded(counts) is counts


def test_only_what_was_read_is_in_it(alone: Path) -> None:
    runs = archive.read(alone / "archive").runs
    assert len(runs) == 2
    for run in runs.values():
        assert run.kept is not None
        assert run.kept.curves.keys() == {"test_accuracy", "train_loss"}
        assert run.kept.probed.keys() == {"sigmoid1/percentiles"}
        assert run.kept.predictions.keys() == {
            "test/probabilities", "test/predicted", "test/labels",
        }  # fmt: skip
        for read in (
            lambda run: run.curve("validation_accuracy"),
            lambda run: run.probed("sigmoid1/mean"),
            lambda run: run.predictions(("validation/labels",)),
            lambda run: run.predictions(),
            lambda run: run.metrics(),
            lambda run: run.last_line(),
            lambda run: run.probe(0),
            lambda run: run.probe_steps(),
        ):
            with pytest.raises(NotArchivedError, match="not in the archive"):
                read(run)


def test_it_tells_of_no_folder_no_host_and_no_command(alone: Path, whole: Path) -> None:
    for run in archive.read(alone / "archive").runs.values():
        texts = "".join(run.text(name) or "" for name in archive.TEXTS)
        for of in (str(whole.parent), str(Path.home()), '"host"', '"argv"', '"pid"'):
            assert of not in texts
        assert run.config()["run"]["dir"] is None
        manifest = Reproduced(whole).run(run.folder.name).manifest()
        assert "argv" in manifest
        assert run.manifest() == {name: of for name, of in manifest.items() if name != "argv"}


def test_archived_runs_are_done(
    whole: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bnrepro.sweeps.launchers.run", None)
    assert main([*LINE, str(alone)]) == 0
    assert "2 runs are in the archive" in capsys.readouterr().out
    assert not (alone / "runs").exists()
    assert report_of(alone) == report_of(whole)
    for path in (whole / "archive").iterdir():  # nothing new: not even another date
        assert path.read_bytes() == (alone / "archive" / path.name).read_bytes()


def test_only_what_is_missing_is_run_and_joins_the_archive(alone: Path) -> None:
    assert main([*LINE, str(alone), "--seeds", "3"]) == 0
    new = made(alone)
    assert len(new) == 1
    assert all("seed=12" in name for name in new)
    expected = report_of(alone)
    shutil.rmtree(alone / "runs")
    assert main(["report", str(alone)]) == 0
    assert report_of(alone) == expected
    assert len(archive.read(alone / "archive").runs) == 3
    assert len(list((alone / "archive").iterdir())) == 4  # of the archive before nothing is left


def test_a_measure_that_reads_more_has_its_runs_made_again(
    alone: Path, have: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    have(one=reading("test_accuracy", "validation_accuracy"))
    assert main(["report", str(alone)]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bnrepro: error: not in the archive: the metric validation_accuracy (")
    assert main([*LINE, str(alone)]) == 0
    lacking = "2 of them are made again: the archive lacks the metric validation_accuracy"
    assert lacking in capsys.readouterr().out
    assert len(made(alone)) == 2
    assert main([*LINE, str(alone)]) == 0


def test_an_archived_run_of_other_results_is_made_again(
    whole: Path, tmp_path: Path, have: Callable[..., None]
) -> None:
    have(one=ONE)
    shutil.copytree(whole, tmp_path / "out")
    first, *_ = sorted((tmp_path / "out" / "runs").glob("*/manifest.json"))
    first.write_text(json.dumps({**json.loads(first.read_text()), "results": 0}))
    runs = Reproduced(tmp_path / "out")
    verdicts.render(runs, tmp_path / "out")
    archive.write(tmp_path / "out", runs, {})
    shutil.rmtree(tmp_path / "out" / "runs")
    assert main([*LINE, str(tmp_path / "out"), "--any-results"]) == 0
    assert made(tmp_path / "out") == {}
    assert main([*LINE, str(tmp_path / "out")]) == 0
    assert made(tmp_path / "out").keys() == {first.parent.name}


def test_a_claim_that_is_asked_for_otherwise_takes_no_archived_run(
    alone: Path, have: Callable[..., None]
) -> None:
    asked = archive.read(alone / "archive").asked
    arms = {"batch": replace(asked.claims["one"]["batch"], words=("norm=none",))}
    reproduction.write(alone, replace(asked, claims={"one": arms}))
    run = asked.runs()[0]
    assert not Reproduced(alone).run(run).exists()
    assert Reproduced(alone, {run: True}).run(run).exists()
    reproduction.write(alone, asked)
    assert Reproduced(alone).run(run).exists()


def test_every_kind_of_number_comes_back_as_it_was(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    arrays: list[np.ndarray] = [
        np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324]),
        draw.integers(0, 2**32, (3, 4, 2), np.uint32).view(np.float32),
        draw.normal(size=(0, 3)),
        np.array([], np.float64),
        np.array(["cat", "dög", ""]),
        np.array([True, False]),
        np.array([[1, -1]], np.int64),
        np.array([3, 4], np.uint8),
        np.array([1.5, -2], np.float16),
    ]
    config = arms_of(claims.load("ensemble"), "smoke").popitem()[1]
    run = write(tmp_path / "runs" / "a", config, learning(config, 0.9, 10))
    bare = write(tmp_path / "runs" / "b", config, Planted())
    (bare.folder / "metrics.jsonl").unlink()
    asked = {"one": {"arm": AskedArm((), ("a", "b", "missing"))}}
    reproduction.write(tmp_path, Reproduction("smoke", {"one": 1}, asked))
    runs = Reproduced(tmp_path)
    kept = runs.run("a").kept
    assert kept is not None
    for number, array in enumerate(arrays):
        kept.predictions[f"array {number}"] = array
        kept.probed[f"probe {number}"] = (np.arange(len(array)), array)
    labels = np.arange(10, dtype=np.uint16)
    backwards = labels[::-1].copy()
    kept.predictions.update({"gone": None, "test/labels": labels, "test/predicted": backwards})
    kept.curves["never"] = (np.empty(0, np.int64), np.empty(0))
    kept.curves["odd"] = (np.array([1, 5]), np.array([0.1, np.nan]))
    kept.curves["even"] = (np.array([0, 5, 2**62]), np.array([-0.0, 1e300, 3]))
    archive.write(tmp_path, runs, {"date": "today"})
    there = archive.read(tmp_path / "archive")
    assert (there.made, there.asked) == ({"date": "today"}, runs.asked)
    assert there.runs.keys() == {"a", "b"}
    back = there.runs["a"].kept
    assert back is not None
    for before, after in ((kept.curves, back.curves), (kept.probed, back.probed)):
        assert before.keys() == after.keys()
        for name, (steps, values) in before.items():
            assert bits(steps) == bits(after[name][0])
            assert bits(values) == bits(after[name][1])
    assert kept.predictions.keys() == back.predictions.keys()
    for name, one in kept.predictions.items():
        assert bits(one) == bits(back.predictions[name])
    again = there.runs["a"]
    assert (again.config(), again.summary(), again.lacks()) == (config, run.summary(), run.lacks())
    assert again.correct() is not None
    assert there.runs["b"].lacks() == bare.lacks() is not None
    shutil.rmtree(tmp_path / "runs")
    once, twice = tmp_path / "archive", tmp_path / "twice" / "archive"
    archive.write(twice.parent, Reproduced(tmp_path), {"date": "today"})
    for path in once.iterdir():
        assert path.read_bytes() == (twice / path.name).read_bytes()


def bits(array: np.ndarray | None) -> object:
    """An array's type, shape and bytes."""
    return None if array is None else (array.dtype, array.shape, array.tobytes())


# Damage


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "archive.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def replaced(folder: Path, name: str, content: bytes) -> None:
    """Put something else in the place of a file, with the digest that it should have."""
    (folder / name).write_bytes(content)
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewritten(folder, lambda values: values["files"].update({name: facts}))


class Trap:
    """Unpickled, it makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (Path("trapped"),)


def flip(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def trap(folder: Path, name: str) -> None:
    np.savez(folder / "trap.npz", allow_pickle=True, trap=np.array([Trap()], object))
    content = (folder / "trap.npz").read_bytes()
    (folder / "trap.npz").unlink()
    replaced(folder, name, content)


def other_columns(folder: Path, name: str) -> None:
    import pyarrow as pa

    replaced(folder, name, archive._parquet(pa.table({"run": ["x"], "step": [1]})))


def first_run(values: dict[str, Any], name: Any) -> None:
    values["asked"]["claims"]["one"]["batch"]["runs"][0] = name


def outside(folder: Path, name: str) -> None:
    """A name of a run, in a table, that leads out of the folder."""
    table = archive._table((folder / name).read_bytes())
    table = table.set_column(0, "run", [["../x"] * len(table)])
    replaced(folder, name, archive._parquet(table))


OF_A_FILE: dict[str, Callable[[Path, str], object]] = {
    "a byte flipped": flip,
    "truncated": lambda folder, name: (folder / name).write_bytes(
        (folder / name).read_bytes()[:-10]
    ),
    "longer": lambda folder, name: (folder / name).write_bytes((folder / name).read_bytes() + b"x"),
    "missing": lambda folder, name: (folder / name).unlink(),
    "a folder": lambda folder, name: [(folder / name).unlink(), (folder / name).mkdir()],
    "a pickle": lambda folder, name: replaced(folder, name, pickle.dumps(Trap())),
    "a pickle in an npz": trap,
    "empty": lambda folder, name: replaced(folder, name, b""),
    "other columns": other_columns,
}
OF_THE_LIST: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda folder: (folder / "archive.json").write_text("{"),
    "a list": lambda folder: (folder / "archive.json").write_text("[1]"),
    "deep": lambda folder: (folder / "archive.json").write_text("[" * 100_000),
    "no text": lambda folder: (folder / "archive.json").write_bytes(b"\xff\x00"),
    "another format": lambda folder: rewritten(folder, lambda v: v.update(format=2)),
    "nothing asked": lambda folder: rewritten(folder, lambda v: v.pop("asked")),
    "a run elsewhere": lambda folder: rewritten(folder, lambda v: first_run(v, "../x")),
    "a run above": lambda folder: rewritten(folder, lambda v: first_run(v, "..")),
    "a run that is a number": lambda folder: rewritten(folder, lambda v: first_run(v, 5)),
    "a file elsewhere": lambda folder: rewritten(
        folder, lambda v: v["files"].update({"../x-runs-0123456789abcdef.parquet": {}})
    ),
    "no digest": lambda folder: rewritten(
        folder, lambda v: next(iter(v["files"].values())).pop("sha256")
    ),
}


def assert_refused(
    alone: Path, capsys: pytest.CaptureFixture[str], at: str, *words: str | Path
) -> None:
    before = sorted(alone.rglob("*"))
    assert main([str(word) for word in words or ("report", alone / "archive")]) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("bnrepro: error: not readable: ")
    assert line.endswith(f"): {archive.ADVICE}")
    assert at in line
    left = [path for path in alone.rglob("*") if path.name != "reproduce.json"]
    assert sorted(left) == before


@pytest.mark.parametrize("table", archive.TABLES)
@pytest.mark.parametrize("damage", OF_A_FILE)
def test_a_damaged_file_is_one_line(
    alone: Path, damage: str, table: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(alone.parent)
    [path] = (alone / "archive").glob(f"*-{table}-*")
    OF_A_FILE[damage](alone / "archive", path.name)
    assert_refused(alone, capsys, f"({path.parent}")
    assert not (alone.parent / "trapped").exists()


@pytest.mark.parametrize("damage", OF_THE_LIST)
def test_a_damaged_list_of_files_is_one_line(
    alone: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    OF_THE_LIST[damage](alone / "archive")
    assert_refused(alone, capsys, "archive.json")


@pytest.mark.parametrize("words", [("report",), LINE], ids=["report", "reproduce"])
def test_no_command_takes_a_damaged_archive(
    alone: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    [path] = (alone / "archive").glob("*-arrays-*")
    flip(alone / "archive", path.name)
    assert_refused(alone, capsys, "SHA-256", *words, alone)


def test_a_run_of_a_table_has_no_way_out(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [path] = (alone / "archive").glob("*-runs-*")
    outside(alone / "archive", path.name)
    assert_refused(alone, capsys, "no name of a run: '../x'")


def test_a_damaged_archive_is_not_asked_where_there_are_runs(
    whole: Path, tmp_path: Path, have: Callable[..., None]
) -> None:
    have(one=ONE)
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out" / "archive" / "archive.json").write_text("{")
    assert main(["report", str(tmp_path / "out")]) == 0
    assert main([*LINE, str(tmp_path / "out")]) == 0
    assert len(archive.read(tmp_path / "out" / "archive").runs) == 2  # written again


def test_stopped_anywhere_the_old_archive_or_the_new_one_is_whole(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / "out")
    place = tmp_path / "out" / "archive"
    first = sorted((tmp_path / "out" / "runs").iterdir())[-1]
    path = first / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "cpu": "another"}))

    def machine() -> str:
        return str(archive.read(place).runs[first.name].manifest()["cpu"])

    def stopped(at: int) -> None:
        """Write it, and stop where the file system is changed for the time `at`."""
        left = at

        def count(do: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return do(*args, **options)

            return counted

        runs = Reproduced(tmp_path / "out")
        verdicts_read(runs)
        with monkeypatch.context() as patch:
            patch.setattr(archive.atomic, "write", count(archive.atomic.write))
            patch.setattr(Path, "unlink", count(Path.unlink))
            archive.write(tmp_path / "out", runs, {})

    seen = []
    for at in range(100):
        try:
            stopped(at)
            break
        except KeyboardInterrupt:
            seen.append(machine())
    assert machine() == "another"
    assert len(set(seen)) == 2
    assert seen == sorted(seen, key=lambda cpu: cpu == "another")  # once new, never old again
    assert {path.name for path in place.iterdir()} == {
        "archive.json", *archive.read(place).files,
    }  # fmt: skip


def verdicts_read(runs: Reproduced) -> None:
    """Read of every run what the claim does."""
    for name in runs.asked.runs():
        run = runs.run(name)
        run.curve("test_accuracy")
        run.probed("sigmoid1/percentiles")
        run.correct()
