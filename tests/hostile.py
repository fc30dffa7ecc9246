"""What people type, what may lie on a disk, and a system that fails: three rows of harm."""

from __future__ import annotations

import collections
import contextlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from judged import Ended, judged
from processes import CORES, fork, must, preload, wait
from typist import Typist

from bnrepro.cli import main
from bnrepro.store import StoredRun

TINY = ("dataset=digits", "train.steps=60", "train.log_every=10", "train.eval_every=20",
        "train.checkpoint_every=20", "probe.every=20", "probe.size=20", "model.hidden=[6,5]",
        "train.batch_size=20")  # fmt: skip


def _all(cases: Iterable[Callable[[], list[str]]]) -> None:
    """Every case, as many at once as there are cores; what was wrong, all of it, at the end."""
    with ThreadPoolExecutor(CORES) as pool:
        wrong = [text for texts in pool.map(lambda case: case(), list(cases)) for text in texts]
    must(not wrong, "\n".join([f"{len(wrong)} faults:", *wrong]))


# Random command lines


def commands(quick: bool, folder: Path) -> str:
    """Random words after `bnrepro`, in every encoding and width of a terminal."""
    preload("torch._dynamo")
    number = 100 if quick else 2000
    ends: collections.Counter[int | None] = collections.Counter()

    def case(index: int) -> list[str]:
        chance, place = random.Random(index), folder / f"place {index}" / "here"
        words = Typist(chance, place).line()
        settings = {"HOME": str(place), "COLUMNS": chance.choice(["1", "20", "60", "80", "200"])}
        encoding = chance.choice(["utf-8", "utf-8", "ascii", "latin-1"])
        ended = judged(
            words, place, folder / f"log {index}", encoding=encoding, environment=settings
        )
        ends[ended.code] += 1
        beside = [path.name for path in place.parent.iterdir() if path != place]
        wrong = ended.faults()
        if beside and not any(".." in word for word in words):
            wrong.append(f"left {beside} beside the folder it was in")
        shutil.rmtree(place.parent, ignore_errors=True)
        return [f"line {index}: {fault}: {ended}" for fault in wrong]

    _all((lambda index=index: case(index)) for index in range(number))
    codes = ", ".join(f"{times} exit {code}" for code, times in sorted(ends.items()))  # type: ignore[type-var]
    return f"{number} random command lines ({codes}): no traceback, no 70, no hang"


# Folders that mean harm

DEEP, HUGE = 100_000, 8 << 30
VALUES: tuple[object, ...] = (
    None, True, -1, 0, 5, 2**70, float("inf"), float("nan"), 2.5, "", "x", "\ud800", "\x1b[2J",
    "²5", [], [[]], {}, {"a": 1}, "9" * 4000, "2026-01-01T00:00:00", -(10**400),
)  # fmt: skip


def _empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def _truncated(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(1, max(2, len(content)))])


def _wrong_type(path: Path, chance: random.Random) -> None:
    path.write_text(json.dumps(chance.choice(VALUES)) + "\n")


def _deep(path: Path, chance: random.Random) -> None:
    path.write_text("[" * DEEP + ("]" * DEEP if chance.random() < 0.5 else ""))


def _huge(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(HUGE)  # a hole: it takes no space


def _expanding(path: Path, chance: random.Random) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    path.write_text("\n".join([*lines, "tags: *a9", "seed: *a9"]) + "\n")


def _link(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(chance.choice(["/dev/zero", "/nowhere/at/all", path.name]))


def _fifo(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _not_utf8(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content) + 1)
    content[at:at] = b"\xff\xfe\x80"
    path.write_bytes(bytes(content))


def _folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _field(path: Path, chance: random.Random) -> None:
    """One value of a JSON or YAML file is another."""
    text = path.read_text(errors="replace")
    odd = json.dumps(chance.choice(VALUES))
    spots = list(re.finditer(r"(?m)(?<=: )[^\n,{}\[\]]+", text))
    spot = chance.choice(spots) if spots else None
    path.write_text(text[: spot.start()] + odd + text[spot.end() :] if spot else odd)


WAYS = (
    _empty, _truncated, _wrong_type, _deep, _huge, _expanding, _link, _fifo, _not_utf8, _folder,
    _field, _field, _field, _field,
)  # fmt: skip
VIEWS = (".hydra", "train.log", "events", "results.csv")
"""What nothing is read from again."""


def hostile(quick: bool, folder: Path) -> str:
    """Every file of a run's and a sweep's folder spoiled in every way, beside a sound run."""
    preload("torch._dynamo")
    sound = folder / "sound"
    train = ["train", *TINY, f"run.dir={sound}"]
    must(wait(fork(lambda: main(train))) == 0, "training failed")
    begun = folder / "begun"
    _begin(begun)
    swept = folder / "swept"
    sweep = ["sweep", *TINY, "seed=0,1"]
    must(wait(fork(lambda: main([*sweep, f"sweep.dir={swept}"]))) == 0, "the sweep failed")
    cases = [
        (kind, path.relative_to(kind), way)
        for kind in (sound, begun, swept)
        for path in sorted(kind.rglob("*"))
        if path.is_file() and (kind != swept or path.parent == swept or "seed=0" in str(path))
        for way in WAYS
    ]
    if quick:
        cases = random.Random(0).sample(cases, 20)
    counts: collections.Counter[str] = collections.Counter()

    def case(index: int) -> list[str]:
        kind, path, way = cases[index]
        chance, place = random.Random(index), folder / f"case {index}"
        shutil.copytree(sound, place / "neighbour")
        shutil.copytree(kind, place / "hostile")
        before = _content(place / "neighbour")
        way(place / "hostile" / path, chance)
        name = f"{kind.name}/{path} {way.__name__[1:]}"
        counts[kind.name] += 1
        wrong: list[str] = []

        def told(*words: str) -> Ended:
            ended = judged(words, place, folder / f"log {index}")
            wrong.extend(f"{name}: {fault}: {ended}" for fault in ended.faults())
            return ended

        try:
            listed = told("runs", str(place))
            if listed.code == 0 and "neighbour" not in listed.out.replace("\n", ""):
                wrong.append(f"{name}: the sound run is not listed: {listed.out}")
            if listed.code != 0:
                wrong.append(f"{name}: the list ends in {listed}")
            as_json = told("runs", "--json", str(place))
            if as_json.code == 0 and not any(
                "neighbour" in str(x) for x in json.loads(as_json.out)
            ):
                wrong.append(f"{name}: the sound run is not in the JSON")
            told("report", str(place / "hostile"), "--out", str(place / "out"))
            if kind == swept:
                told(*sweep, f"sweep.dir={place / 'hostile'}")
            else:
                again = told("train", *TINY, f"run.dir={place / 'hostile'}")
                if again.code == 0:
                    wrong += _other(StoredRun(place / "hostile"), StoredRun(sound), name, path)
                told("train", *TINY, f"run.dir={place / 'hostile'}", "run.overwrite=true")
            if _content(place / "neighbour") != before:
                wrong.append(f"{name}: the sound run has changed")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}")
        shutil.rmtree(place, ignore_errors=True)
        return wrong

    _all((lambda index=index: case(index)) for index in range(len(cases)))
    kinds = ", ".join(f"{times} of a {kind} one" for kind, times in counts.items())
    return (
        f"{len(cases)} folders that mean harm ({kinds}): runs, report, train and sweep answer in a "
        "line or go on; the sound run beside them is listed each time, and unharmed"
    )


def _begin(run: Path) -> None:
    """A run that was killed after its second checkpoint."""
    pid = fork(lambda: main(["train", *TINY, "train.steps=60", f"run.dir={run}"]))
    stored = StoredRun(run)
    while len(list(run.glob("checkpoints/*.sha256"))) < 2:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    must(stored.summary() is None, "it ended before it was killed")


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _other(found: StoredRun, expected: StoredRun, name: str, path: Path) -> Iterator[str]:
    """What of a run that is said to be done is not as in the one that was left alone."""
    from alike import untimed

    ours, theirs = found.summary(), expected.summary()
    assert ours is not None
    assert theirs is not None
    # A summary that says something else, of the right type, is nothing that could be told.
    if path.name != "summary.json" and {**ours, "wall_seconds": 0} != {**theirs, "wall_seconds": 0}:
        yield f"{name}: another result: {ours}"
    if str(path) != "metrics.jsonl" and untimed(found) != untimed(expected):
        yield f"{name}: other metrics"


# A system that kills and fails

CALLS = (
    "openat", "write", "pwrite64", "fsync", "rename", "renameat", "renameat2", "link", "linkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "ftruncate", "close", "read", "lseek", "newfstatat",
    "fstat", "getdents64", "rmdir",
)  # fmt: skip
ERRORS = ("EIO", "ENOSPC", "EACCES", "EMFILE", "ESTALE", "EDQUOT", "EROFS")


def calls(quick: bool, folder: Path) -> str:
    """A run killed, or refused, at one of its system calls on its own folder, drawn at random."""
    if shutil.which("strace") is None:
        return "left out: it needs strace"
    preload("torch._dynamo")
    _import_what_is_imported_late(folder)
    times = 4 if quick else 60
    alone, log = folder / "alone", folder / "calls"
    must(_traced(alone, ["-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]) == 0, "alone")
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    spots: list[tuple[str, int]] = []
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found is None:
            continue
        thread, call = found.groups()
        seen[thread, call] += 1
        if str(alone) in line:
            spots.append((call, seen[thread, call]))
    ends: collections.Counter[str] = collections.Counter()
    expected = StoredRun(alone)

    def case(index: int) -> list[str]:
        from alike import assert_same_run

        chance, run = random.Random(index), folder / f"run {index}"
        call, number = chance.choice(spots)
        error = "" if index < times else chance.choice(ERRORS)
        what = f"{call}:signal=KILL" if not error else f"{call}:error={error}"
        name = f"{what} at call {number}"
        code = _traced(run, ["-o", os.devnull, "-e", f"inject={what}:when={number}"])
        ends["killed" if code == -signal.SIGKILL else f"exit {code}"] += 1
        errors = Path(f"{run}.err").read_text(errors="replace")
        wrong = []
        if code is None or code == 70 or "Traceback" in errors or "Exception in" in errors:
            wrong.append(f"{name}: {code}: {errors[-1500:]}")
        again = judged(["train", *TINY, f"run.dir={run}"], folder, folder / f"log {index}")
        try:
            must(again.code == 0, again)
            must(not again.faults(), again)
            assert_same_run(StoredRun(run), expected)
        except BaseException as fault:
            wrong.append(f"{name}: ended {code}, and again: {fault!r}")
        shutil.rmtree(run, ignore_errors=True)
        return wrong

    _all((lambda index=index: case(index)) for index in range(2 * times))
    codes = ", ".join(f"{number} {end}" for end, number in ends.most_common())
    return (
        f"{times} kills and {times} errors ({', '.join(ERRORS)}) at random system calls of a run "
        f"on its folder, of {len(spots)} ({codes}): no traceback, no hang, and the same command "
        "ends bit-identical"
    )


def _import_what_is_imported_late(folder: Path) -> None:
    """So that the calls of a run are its own, and none is the loading of a module."""

    def work() -> int:
        code = main(["train", *TINY, f"run.dir={folder / 'loading'}"])
        (folder / "modules").write_text("\n".join(sys.modules))
        return code

    must(wait(fork(work)) == 0, "training failed")
    for name in (folder / "modules").read_text().splitlines():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _traced(run: Path, options: list[str], patience: float = 120) -> int | None:
    """A small run under strace; its exit code, None where it hangs."""
    gate, opened = os.pipe()

    def work() -> int:
        os.dup2(os.open(f"{run}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.read(gate, 1)
        return main(["train", *TINY, f"run.dir={run}"])

    pid = fork(work)
    os.close(gate)
    line = ["strace", "-f", *options, "-p", str(pid)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        must("attached" in tracer.stderr.readline(), "strace did not attach")
        os.write(opened, b"1")
        os.close(opened)
        until = time.monotonic() + patience
        code = None
        while code is None and time.monotonic() < until:
            ended, status = os.waitpid(pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
            time.sleep(0.01)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            wait(pid)
        tracer.kill()
    return code
