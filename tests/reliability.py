"""What a run survives, counted: `python tests/reliability.py [ROW …] [--quick]`.

Each row does harm on purpose, checks what became of it, and prints one line with its figure. The
quick form is part of the default tests; the full form's output stands in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import itertools
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from conftest import EVENTFUL, REAL_DATA
from faults import CRASH, FAULTS, Disk, Tree, after_power_loss, plant, tree
from hostile import calls, commands, hostile
from processes import CORES, count, fork, must, preload, share, wait

from bnrepro import config as c
from bnrepro import store
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.errors import Interrupted
from bnrepro.store import RunWriter, StoredRun, lock
from bnrepro.training.signals import StopSignals

Row = Callable[[bool, Path], str]


# kill -9 at random moments

DIGITS = (*EVENTFUL, "train.steps=1200", "tensorboard=false")
MNIST = ("dataset=mnist", f"dataset.root={REAL_DATA}", "train.steps=3000", "train.eval_every=250",
         "train.checkpoint_every=200", "probe.every=250")  # fmt: skip


def kills(quick: bool, folder: Path) -> str:
    """Training killed with SIGKILL at random moments until it is done, against one left alone."""
    if quick:  # forked from a process that has torch loaded, so that a kill does not cost an import
        preload("torch._dynamo")
        return _kills(10, DIGITS, _forked, folder)
    return _kills(200, MNIST, _started, folder)


Start = Callable[[Sequence[str], Path], int]


def _forked(overrides: Sequence[str], run: Path) -> int:
    return fork(lambda: main(["train", *overrides, f"run.dir={run}"]))


def _started(overrides: Sequence[str], run: Path) -> int:
    line = [sys.executable, "-m", "bnrepro", "train", *overrides, f"run.dir={run}"]
    nothing = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    return os.posix_spawn(sys.executable, line, os.environ, file_actions=nothing)


def _kills(times: int, overrides: Sequence[str], start: Start, folder: Path) -> str:
    expected, began = folder / "undisturbed", time.monotonic()
    must(wait(start(overrides, expected)) == 0, "the undisturbed run failed")
    longest = 1.2 * (time.monotonic() - began)
    moments: collections.Counter[str] = collections.Counter()
    runs = itertools.count()

    def until_done(_: int) -> None:
        from alike import assert_same_run

        number = next(runs)
        chance, run = random.Random(number), folder / f"killed {number}"
        code = None
        while code is None and moments.total() < times:
            pid = start(overrides, run)
            code = _ends(pid, chance.uniform(0.05, 1) * longest)
            if code is None:
                os.kill(pid, signal.SIGKILL)
                wait(pid)
                moments[_moment(StoredRun(run))] += 1
        if code is None:
            code = wait(start(overrides, run))
        must(code == 0, f"exit code {code}")
        assert_same_run(StoredRun(run), StoredRun(expected))

    with ThreadPoolExecutor(CORES) as pool:
        while moments.total() < times:
            list(pool.map(until_done, range(CORES)))
    where = ", ".join(f"{number} {moment}" for moment, number in moments.most_common())
    return (
        f"{moments.total()} kills of {next(runs)} runs on {overrides[0][8:]} ({where}): "
        "all resumed, all bit-identical at the end"
    )


def _ends(pid: int, seconds: float) -> int | None:
    """The exit code of a process that ends within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _moment(run: StoredRun) -> str:
    if not run.exists():
        return "before the run had a folder"
    if run.summary() is not None:
        return "after its summary"
    must(run.status()["state"] in ("stale", *store.FINISHED), run.status())
    if not run.metrics():
        return "before the first step"
    return "with checkpoints" if run.checkpoint_steps() else "before a checkpoint"


# A fault at each call of every commit, and power loss with what was not flushed lost

STEPS = 6
CONFIG: dict[str, Any] = {"seed": 3, "norm": {"name": "batch"}}
OLD: dict[str, Any] = {"seed": 2, "norm": {"name": "none"}}


def write_run(
    folder: Path,
    config: dict[str, Any] = CONFIG,
    *,
    until: int = STEPS,
    overwrite: bool = False,
    note: Callable[[str], None] = lambda what: None,
) -> None:
    """A run as an experiment writes it: every kind of commit, more than once, and no network."""
    lock.HEARTBEAT_SECONDS = -1.0  # the status is written with every line
    stored = StoredRun(folder)
    differs = c.differences(config, stored.config()) if stored.config() else []
    writer = RunWriter.acquire(folder, config, differs, overwrite=overwrite)
    if writer is None:
        return
    try:
        writer.manifest({"python": "3", "resuming": writer.resuming})
        step = 0
        if writer.resuming:
            whole = next(stored.whole_checkpoints(lambda text: None), None)
            step, length, digest = json.loads(whole[1])[:3] if whole else (0, 0, None)
            writer.truncate_to(step, length, 0.0, digest)
        note(f"from {step}")
        while step < until:
            step += 1
            writer.record(step, {"train_loss": 1 / step, "seed": config["seed"]})
            if step % 2 == 0:
                writer.probe(step, {"a": np.arange(step)})
                state = [step, writer.flush(), writer.metrics_sha256, "x" * 2000]
                writer.checkpoint(step, json.dumps(state).encode())
                note(f"checkpoint {step}")
        if until < STEPS:
            raise Interrupted(signal.SIGTERM)
        writer.finish("done", step, {"steps": step})
        note("finished")
    except BaseException as error:
        writer.close_unfinished(
            "interrupted" if isinstance(error, Interrupted) else "failed", "fault"
        )
        raise


def write_data(folder: Path, note: Callable[[str], None] = lambda what: None) -> None:
    """The file in which an import keeps a data set."""
    from bnrepro.data import prepared
    from bnrepro.data.arrays import Images, Raw

    images = Images(np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4), np.arange(4))
    raw = Raw(images, images, ("a", "b", "c", "d"))
    prepared.write(folder / "root" / "bnrepro" / "x.npz", raw)
    note("finished")


def check_run(folder: Path, config: dict[str, Any] = CONFIG, *, lost: bool = False) -> None:
    """A run that was written to its end, by whatever way.

    Where power was lost, the removal of what is needed no more may have been lost with it.
    """
    run = StoredRun(folder)
    must(run.summary() == {"status": "done", "steps": STEPS}, run.summary())
    must(run.status()["state"] == "done", run.status())
    must(run.config() == config, run.config())
    rows = [
        {"step": step, "train_loss": 1 / step, "seed": config["seed"]}
        for step in range(1, STEPS + 1)
    ]
    must(run.metrics() == rows, run.metrics())
    must(run.probe_steps() == [2, 4, 6], run.probe_steps())
    for step in run.probe_steps():
        must((run.probe(step)["a"] == np.arange(step)).all(), step)
    kept = run.checkpoint_steps()
    must((kept[-2:] if lost else kept) == [4, 6], kept)
    for step in run.checkpoint_steps():
        must(json.loads(run.checkpoint(step))[0] == step, step)
    left = [path for path in folder.rglob("*") if path.suffix in (".part", ".new")]
    must(lost or not left, left)


def check_before(folder: Path) -> None:
    """Whatever lies there can be read, and a result is whole: the old run's or the new one's."""
    run = StoredRun(folder)
    if not run.exists():
        return
    state = run.status()["state"]
    must(state in ("stale", "failed", "interrupted", *store.FINISHED), state)
    run.metrics()
    if run.summary() is not None:
        check_run(folder, OLD if run.config() == OLD else CONFIG, lost=True)


def check_data(folder: Path) -> None:
    from bnrepro.data import prepared

    path = folder / "root" / "bnrepro" / "x.npz"
    if path.exists():
        must(prepared.read(path).classes == ("a", "b", "c", "d"), path)


class Scene:
    """What lies there before, what is done, and how it is done again."""

    def __init__(self, name: str, before: Callable[[Path], object], data: bool = False,
                 **options: Any) -> None:  # fmt: skip
        self.name, self._before, self._data, self._options = name, before, data, options

    def before(self, folder: Path) -> Tree:
        folder.mkdir()
        wait(fork(lambda: self._before(folder) and 0))
        return tree(folder)

    def work(self, folder: Path, note: Callable[[str], None] = lambda what: None) -> None:
        if self._data:
            write_data(folder, note)
        else:
            write_run(folder / "run", note=note, **self._options)

    def check(self, folder: Path, promised: list[str], *, lost: bool = False) -> None:
        """The old state or the new one, no promise broken, and the same command ends well."""
        if self._data:
            check_data(folder)
            must("finished" not in promised or (folder / "root/bnrepro/x.npz").exists(), "lost")
            self.work(folder)
            check_data(folder)
            return
        run, began = folder / "run", []
        check_before(run)
        if "finished" in promised:
            check_run(run, lost=lost)
        kept = [int(what.split()[1]) for what in promised if what.startswith("checkpoint")]
        write_run(run, note=began.append, overwrite=bool(self._options) and not kept)
        if began:
            must(int(began[0].split()[1]) >= max(kept, default=0), (began, kept))
        check_run(run, lost=lost)


SCENES = (
    Scene("a new run", lambda folder: None),
    Scene("a run gone on with", lambda folder: write_run(folder / "run", until=5)),
    Scene("a run in the place of another", lambda folder: write_run(folder / "run", OLD),
          overwrite=True),
    Scene("a data set kept", lambda folder: None, data=True),
    Scene("a data set kept again", write_data, data=True),
)  # fmt: skip


def commits(quick: bool, folder: Path) -> str:
    """A crash, ENOSPC and EIO at each call, and power loss after each, in every kind of commit."""
    jobs: list[Callable[[], int]] = []
    calls, faults = 0, FAULTS[:3] if quick else FAULTS
    for number, scene in enumerate(SCENES):
        place = folder / str(number)
        before = scene.before(place)
        record = _record(scene, folder / "recorded", before)
        calls += len(record.ops)
        jobs += [
            lambda s=scene, b=before, r=record, p=place, f=fault: _cause(s, b, r, p / f, f)
            for fault in faults
        ]
        jobs.append(lambda s=scene, b=before, r=record, p=place: _lose_power(s, b, r, p / "lost"))
    counts = count(jobs, folder / "counts")
    lost = sum(counts[len(faults) :: len(faults) + 1])
    return (
        f"{sum(counts) - lost} faults ({', '.join(faults)}; {calls} calls in {len(SCENES)} "
        f"scenes) and {lost} states after power loss: old or new each time, no temporary file "
        "left, and the same command ends the same"
    )


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _record(scene: Scene, folder: Path, before: Tree) -> Disk:
    """What a scene does to the disk, told by a process that is gone by now."""
    import pickle

    plant(before, folder)

    def work() -> None:
        with Disk(str(folder)) as disk:
            scene.work(folder, disk.note)
        (folder.parent / "record").write_bytes(pickle.dumps(disk))

    must(wait(fork(work)) == 0, f"{scene.name}: undisturbed, it failed")
    disk = pickle.loads((folder.parent / "record").read_bytes())
    assert isinstance(disk, Disk)
    return disk


def _cause(scene: Scene, before: Tree, record: Disk, place: Path, fault: str) -> int:
    """A fault at every call; how many there were."""
    os.fsync = lambda fd: None  # type: ignore[assignment]  # slow, and nothing depends on it here
    for number in range(1, len(record.ops) + 1):
        plant(before, place)

        def work(number: int = number) -> None:
            with Disk(str(place), number, fault):
                scene.work(place)

        code = wait(fork(work))
        where = f"{scene.name}: {fault} at call {number}"
        must(code in ((CRASH,) if fault == "crash" else (0, 3)), f"{where}: code {code}")
        try:
            if fault != "crash":
                left = [path for path in place.rglob("*") if path.suffix in (".part", ".new")]
                # It can stay only where its very removal was made to fail.
                must(not left or record.ops[number - 1].name == "unlink", left)
            scene.check(place, [])
        except BaseException as error:
            raise AssertionError(f"{where}: {error!r}") from error
    return len(record.ops)


def _lose_power(scene: Scene, before: Tree, record: Disk, place: Path) -> int:
    """Every state that a power loss after any call may leave; how many different ones."""
    os.fsync = lambda fd: None  # type: ignore[assignment]
    seen = set()
    for done in range(len(record.ops) + 1):
        promised = [what for when, what in record.notes if when <= done]
        kept = [what for what in promised if not what.startswith("from")]
        for found in after_power_loss(before, record.ops, done):
            key = hash((tuple(sorted(found.items())), tuple(kept)))
            if key in seen:
                continue
            seen.add(key)
            plant(found, place)
            try:
                scene.check(place, kept, lost=True)
            except BaseException as error:
                raise AssertionError(
                    f"{scene.name}: power lost after {done}: {record.ops[done - 1]}"
                ) from error
    return len(seen)


# Resuming at every step

NORMS = ("batch", "none", "torch")
OPTIMIZERS = {
    "plain SGD": ("optimizer=sgd", "optimizer.momentum=0"),
    "SGD with momentum": ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.weight_decay=1e-4"),
    "Adam": ("optimizer=adam", "optimizer.lr=0.001"),
}


def steps(quick: bool, folder: Path) -> str:
    """A run stopped and gone on with at every single step, against one that was left alone."""
    preload("torch._dynamo")
    count = 15 if quick else 200
    names = [(norm, optimizer) for norm in NORMS for optimizer in OPTIMIZERS]
    if quick:
        names = names[::4]
    codes = share(
        lambda n=norm, o=optimizer: _every_step(n, o, count, folder / f"{n} {o}")
        for norm, optimizer in names
    )
    must(codes == [0] * len(names), dict(zip(names, codes, strict=True)))
    return (
        f"a {count}-step run stopped and resumed at every step, {len(names)} combinations of "
        f"{len({n for n, _ in names})} norms and {len({o for _, o in names})} optimizers, with "
        f"dropout: {count * len(names)} resumes, 0 ULP off"
    )


def _every_step(norm: str, optimizer: str, count: int, folder: Path) -> None:
    from alike import assert_same_run

    from bnrepro.training import run as experiment

    overrides = ["dataset=digits", f"norm={norm}", *OPTIMIZERS[optimizer], "model.dropout=0.2",
                 "model.hidden=[20,20]", f"train.steps={count}", "train.log_every=7", "seed=5",
                 "train.eval_every=50", "train.checkpoint_every=1000", "probe.every=20",
                 "probe.size=50", "tensorboard=false"]  # fmt: skip
    config = compose(overrides).config
    for name, stops in (("left alone", False), ("stopped", True)):
        for _ in range(count + 1):
            signals = StopSignals()
            if stops:
                signals.received = signal.SIGTERM  # as if it came during the step
            writer = RunWriter.acquire(folder / name, c.to_dict(config), [])
            assert writer is not None
            try:
                experiment.run(config, writer, signals)
                break
            except Interrupted:
                writer.close_unfinished("interrupted")
        else:  # the last step's checkpoint was interrupted too: what is left is to finish
            raise AssertionError("it never ended")
    alone, stopped = StoredRun(folder / "left alone"), StoredRun(folder / "stopped")
    assert_same_run(stopped, alone)
    resumes = len(stopped.manifest().get("resumes", []))
    must(resumes == count, resumes)


# Damaged checkpoints


def damage(quick: bool, folder: Path) -> str:
    """The newest checkpoint cut at many lengths and with single bits flipped."""
    preload("torch._dynamo")
    cuts, flips = (100, 1000) if quick else (1000, 10_000)
    run = folder / "run"
    overrides = ["train", "dataset=digits", "train.steps=20", "train.checkpoint_every=10",
                 f"run.dir={run}"]  # fmt: skip
    must(wait(fork(lambda: main(overrides))) == 0, "training failed")
    stored = StoredRun(run)
    before, newest = (stored.checkpoint(step) for step in (10, 20))
    path = run / "checkpoints" / "000000020.pt"
    digest = path.with_suffix(".sha256")
    line = digest.read_bytes()
    chance = random.Random(0)
    lengths = chance.sample(range(len(newest)), cuts)
    warnings: list[str] = []

    def detected() -> None:
        warnings.clear()
        found = [*stored.whole_checkpoints(warnings.append)]
        must(found == [(10, before)], "not the one before")
        must(len(warnings) == 1 and path.name in warnings[0], warnings)

    for length in lengths:
        path.write_bytes(newest[:length])
        detected()
    path.write_bytes(newest)
    in_digest = 0
    for _ in range(flips):
        target, whole = (digest, line[:64]) if chance.random() < 0.02 else (path, newest)
        in_digest += target is digest
        at, bit = chance.randrange(len(whole)), chance.randrange(8)
        content = bytearray(whole)
        content[at] ^= 1 << bit
        target.write_bytes(content)
        detected()
        target.write_bytes(line if target is digest else newest)
    found = next(stored.whole_checkpoints(warnings.append))
    must(found == (20, newest), "whole again, it is used")
    return (
        f"{cuts} truncations and {flips} single bits flipped ({in_digest} of them in the digest) "
        f"of a checkpoint of {len(newest):,} bytes: all detected, the one before used each time"
    )


# Configurations


def configs(quick: bool, folder: Path) -> str:
    """Random overrides: composed and checked; and those in range, trained for three steps."""
    preload("torch._dynamo")
    odd, trained = (300, 30) if quick else (3000, 600)
    counts = folder / "counts"
    counts.mkdir()
    jobs = [
        lambda part=part: _configs(odd // CORES + 1, trained // CORES + 1, part, folder)
        for part in range(CORES)
    ]
    must(share(jobs) == [0] * CORES, "see above")
    found = [json.loads(path.read_text()) for path in counts.iterdir()]
    total = {key: sum(part[key] for part in found) for key in found[0]}
    return (
        f"{total['odd 0'] + total['odd 2']} random configurations and overrides: 0 tracebacks, "
        f"{total['odd 0']} accepted, {total['odd 2']} refused in one line; "
        f"{total['run 0'] + total['run 2']} random ones of the right types run for three steps: "
        f"{total['run 0']} exit 0 ({total['diverged']} diverged), {total['run 2']} exit 2"
    )


def _configs(odd: int, trained: int, part: int, folder: Path) -> None:
    from hypothesis import HealthCheck, given, seed, settings
    from overrides import LISTS, plausible

    counts = dict.fromkeys(("odd 0", "odd 2", "run 0", "run 2", "diverged"), 0)
    place = folder / f"place {part}"
    place.mkdir()
    os.chdir(place)

    def tell(arguments: list[str]) -> int:
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(arguments)
        lines = errors.getvalue().splitlines()
        must(code in (0, 2), (arguments, code, lines))
        good = len(lines) == 1 and lines[0].startswith("bnrepro: error: ")
        must(good if code == 2 else not lines, (arguments, lines))
        return code

    limits = settings(max_examples=odd, deadline=None, database=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip

    @seed(part)
    @limits
    @given(LISTS)
    def odd_ones(overrides: list[str]) -> None:
        counts[f"odd {tell(['train', '--cfg', 'job', '--', *overrides])}"] += 1

    odd_ones()
    must(not list(place.iterdir()), "a configuration that is only shown left something behind")
    chance = random.Random(part)
    for number in range(trained):
        run = folder / f"run {part} {number}"
        overrides = [*plausible(chance), "train.steps=3", f"run.dir={run}"]
        code = tell(["train", *overrides])
        counts[f"run {code}"] += 1
        if code == 0:
            counts["diverged"] += StoredRun(run).status()["state"] == "diverged"
        else:
            must(not run.exists() or StoredRun(run).status()["state"] == "failed", run)
        _remove(run)
    (folder / "counts" / str(part)).write_text(json.dumps(counts))


# A race


def race(quick: bool, folder: Path) -> str:
    """Processes that want one folder at the same moment."""
    preload("torch._dynamo")
    count, rounds = (24, 1) if quick else (64, 5)
    for number in range(rounds):
        run = folder / f"run {number}"
        gate, opened = os.pipe()

        def racer(run: Path = run, gate: int = gate, opened: int = opened) -> int:
            os.close(opened)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.read(gate, 1)  # until the other end is closed
            return main(["train", "dataset=digits", "train.steps=10000000", f"run.dir={run}"])

        pids = [fork(racer) for _ in range(count)]
        os.close(gate)
        os.close(opened)
        codes: list[int] = []
        while len(codes) < count - 1:
            _, status = os.waitpid(-1, 0)
            codes.append(os.waitstatus_to_exitcode(status))
        must(codes == [4] * (count - 1), collections.Counter(codes))
        pid = StoredRun(run).status()["pid"]
        must(pid in pids, pid)
        while not StoredRun(run).metrics():
            time.sleep(0.05)
        os.kill(pid, signal.SIGTERM)
        must(wait(pid) == 143, "the winner")
        must(StoredRun(run).status()["state"] == "interrupted", run)
    return (
        f"{count} processes racing for one folder, {rounds} times over: "
        f"1 winner, {count - 1} exits 4"
    )


# A sweep

FAULTY = Path(__file__).with_name("faulty")
WAYS = ("raise", "exit", "exit at once", "kill", "memory")


def sweep(quick: bool, folder: Path) -> str:
    """A sweep in which members fail, killed again and again, against one that was left alone."""
    count, kills = (24, 2) if quick else (1000, 20)
    ways = dict(zip(range(3, count, 20), itertools.cycle(WAYS)))  # 5 % of the members
    alone, disturbed = folder / "alone", folder / "disturbed"
    began = time.monotonic()
    memory = _swept(count, ways, alone)
    took = time.monotonic() - began
    chance, done = random.Random(0), dict[str, tuple[int, int]]()
    for number in range(kills):  # some at its start, most as it comes along
        enough = 0 if number % 4 == 0 else count * (number + chance.random()) / (kills + 1)
        process = _sweep(count, ways, disturbed)
        while process.poll() is None and len(list(disturbed.glob("*/summary.json"))) < enough:
            time.sleep(0.1)
        time.sleep(chance.uniform(0, 0.2 if enough else 2))
        must(process.poll() is None, "it ended before it was killed")
        process.kill()
        process.wait()
        _keep(disturbed, done)
    _swept(count, ways, disturbed)
    _keep(disturbed, done)
    must(len(done) == count - len(ways), len(done))
    must(_rows(disturbed) == _rows(alone), "the results differ")
    began = time.monotonic()
    must(_sweep(count, {}, disturbed).wait() == 0, "the members that failed did not run")
    again = time.monotonic()
    must(_sweep(count, {}, disturbed).wait() == 0, "typed again")
    typed = time.monotonic() - again
    again = time.monotonic()
    for place in (alone, disturbed):
        line = [sys.executable, "-m", "bnrepro", "report", str(place)]
        must(subprocess.run(line, stdout=subprocess.DEVNULL, check=False).returncode == 0, line)
    report = (time.monotonic() - again) / 2
    return (
        f"a sweep of {count} members, {len(ways)} of them made to {', '.join(WAYS)}, killed "
        f"{kills} times: every other member completed exactly once, the same rows as when left "
        f"alone; {took:.0f} s left alone, {typed:.1f} s when all is done, report {report:.1f} s; "
        f"the sweeping process had {memory[0]} MB after a tenth of its members and {memory[1]} MB "
        "at its end"
    )


def _sweep(count: int, ways: dict[int, str], folder: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "bnrepro", "sweep", "dataset=digits", f"seed=range({count})",
            "train.steps=20", "train.eval_every=10", "model.hidden=[10]", "probe.every=0",
            "tensorboard=false", "hydra/launcher=joblib", f"sweep.dir={folder}"]  # fmt: skip
    path = os.pathsep.join([str(FAULTY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "FAULTY_SEEDS": json.dumps(ways)}
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            env=environment)  # fmt: skip


def _swept(count: int, ways: dict[int, str], folder: Path) -> tuple[int, int]:
    """Sweep to the end; the process's memory in MB early on and last."""
    process, early, last = _sweep(count, ways, folder), 0, 0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            last = next(int(x.split()[1]) for x in lines if x.startswith("VmRSS")) // 1024
            if not early and len(list(folder.glob("*/summary.json"))) >= count / 10:
                early = last
        time.sleep(0.5)
    must(process.returncode == 1, f"exit code {process.returncode}")
    return early, last


def _keep(folder: Path, done: dict[str, tuple[int, int]]) -> None:
    """Remember which members are done; one that was done must never be done again."""
    for path in folder.glob("*/summary.json"):
        found = (path.stat().st_ino, path.stat().st_mtime_ns)
        must(done.setdefault(path.parent.name, found) == found, f"{path} was written twice")


def _rows(folder: Path) -> list[list[str]]:
    lines = (folder / "results.csv").read_text().splitlines()
    return [line.rsplit(",", 1)[:1] for line in lines]


ROWS: dict[str, Row] = {
    "kills": kills,
    "commits": commits,
    "steps": steps,
    "damage": damage,
    "configs": configs,
    "race": race,
    "sweep": sweep,
    "commands": commands,
    "hostile": hostile,
    "calls": calls,
}


def measure(names: Sequence[str], quick: bool) -> Iterator[str]:
    """One line of a table for each row."""
    for name in names:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            figure = ROWS[name](quick, Path(folder).resolve())
        yield f"| {name} | {figure} | {time.monotonic() - began:.0f} s |"


def heading() -> str:
    told = "import json; from bnrepro.training import environment as e; import torch; "
    told += "print(json.dumps(e.facts(torch.device('cpu'))))"
    line = [sys.executable, "-c", told]  # elsewhere: a process that has torch is slow to fork
    facts = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    code = facts["git"] or {}
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {str(code.get('sha'))[:12]}"
        f"{' and changes' if code.get('dirty') else ''}; Python {platform.python_version()}, "
        f"{versions}; {facts['platform']}, {CORES} cores of {facts['cpu']}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="fewer of each, as the tests do")
    asked = parser.parse_args()
    for name in asked.rows:
        if name not in ROWS:
            parser.error(f"unknown row '{name}': choose from {', '.join(ROWS)}")
    print(f"{heading()}\n\n| row | figure | took |\n| --- | --- | --- |", flush=True)
    for line in measure(asked.rows or list(ROWS), asked.quick):
        print(line, flush=True)
