"""TensorBoard as `bnrepro tensorboard` serves it."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import TINY, hear_signals, wait_for

from bnrepro.cli import main
from bnrepro.report import tensorboard as board
from bnrepro.store import StoredRun, find_runs, reproduction


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "-1"], "no such port (-1)"),
        (["--port", "99999"], "no such port (99999)"),
        (["--host", "no.such.host.invalid"], "unknown host (no.such.host.invalid)"),
    ],
)
def test_an_impossible_address_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["tensorboard", str(tmp_path), *words]) == 2
    assert told in capsys.readouterr().err


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of TensorBoard over a folder; interrupted afterwards, it ends well."""
    line = [sys.executable, "-m", "bnrepro", "tensorboard", str(folder), "--port", "0"]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    ) as process:
        assert process.stdout is not None
        overdue = threading.Timer(60, process.kill)
        overdue.start()
        yield int(re.search(r":(\d+)/", process.stdout.readline())[1])
        process.send_signal(signal.SIGINT)
        overdue.cancel()
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "stopped" in out
    assert errors == ""


def answer(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_tensorboard_answers_to_its_own_host_names_only_and_exits_with_0(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        own = (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:1", "LocalHost")
        others = ("evil.example", f"evil.example:{port}", "", "127.0.0.1.evil.example", "[::1")
        for name in (*own, *others):
            response = answer(port, "/data/environment", Host=name)
            assert response.status == (200 if name in own else 403), name
            response.close()


def test_a_run_alone_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    run = tmp_path / "its-name"
    assert main(["train", *TINY, "tensorboard=true", f"run.dir={run}"]) == 0
    with served(run) as port:
        wait_for(lambda: answer(port, "/data/runs").read() != b"[]")
        assert json.loads(answer(port, "/data/runs").read()) == ["its-name"]
    assert not any((tmp_path / "temporary").iterdir())
    assert StoredRun(run).summary() is not None, "what is served is left alone"


def test_of_many_runs_the_best_pair_with_and_without_bn_is_shown(tmp_path: Path) -> None:
    arms = {"b1": ["norm=batch"], "b2": ["norm=batch", "seed=1"], "n2": ["norm=none", "seed=1"],
            "n1": ["norm=none"], "t": ["norm=torch"], "unprobed": ["norm=none", "seed=2",
            "probe.every=0"]}  # fmt: skip
    for name, words in arms.items():
        run = [*TINY, "probe.every=10", *words, f"run.dir={tmp_path / name}"]
        assert main(["train", *run]) == 0
    shown = board.pair(find_runs(tmp_path))
    final = {name: (StoredRun(tmp_path / name).summary() or {})["test_accuracy"] for name in arms}
    least = {seed: min(final[f"b{seed}"], final[f"n{seed}"]) for seed in "12"}
    best = max(least, key=lambda seed: least[seed])
    assert [run.folder.name for run in shown] == [f"b{best}", f"n{best}"]
    assert board.pair([StoredRun(tmp_path / name) for name in ("b1", "n2", "t")]) == []


def test_runs_looked_at_together_have_colors_of_their_own() -> None:
    runs = [f"run{number}" for number in range(20)]
    served = {"/data/runs": json.dumps(runs).encode(), "/data/other": b"x"}
    told: dict[str, str] = {}

    def app(environ: dict[str, str], start: Callable[..., None]) -> list[bytes]:
        assert "HTTP_ACCEPT_ENCODING" not in environ or environ["PATH_INFO"] != "/data/runs"
        body = served[environ["PATH_INFO"]]
        start("200 OK", [("Content-Type", "a/b"), ("Content-Length", str(len(body)))])
        return [body]

    def asked(path: str) -> bytes:
        environ = {"PATH_INFO": path, "HTTP_ACCEPT_ENCODING": "gzip"}
        wrapped = board.putting_first(app, ["run3", "run10"])  # 7 apart: of one color
        return b"".join(wrapped(environ, lambda status, headers: told.update(headers)))

    first = asked("/data/runs")
    assert json.loads(first) == ["run3", "run10", *(r for r in runs if r not in ("run3", "run10"))]
    assert told == {"Content-Type": "a/b", "Content-Length": str(len(first))}
    assert asked("/data/other") == b"x"


def test_of_one_run_what_needs_another_comes_last() -> None:
    shift, bands = board.pages("A/", ["a", "b"]).items()
    assert "shift" in shift[0]
    assert list(board.pages("A/", ["."]).items()) == [bands, shift]


def test_names_of_a_reproductions_runs_begin_with_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[Path, int]] = []
    monkeypatch.setattr(
        board, "serve", lambda folder, runs, *_, **__: served.append((folder, len(runs)))
    )
    asked = reproduction.Reproduction("smoke", {}, {})
    tmp_path.joinpath("runs").mkdir()
    reproduction.write(tmp_path, asked)
    run = tmp_path / "runs" / "one"
    assert main(["train", *TINY, f"run.dir={run}"]) == 0
    assert main(["tensorboard", str(tmp_path)]) == 0
    assert served == [(tmp_path / "runs", 1)]


def test_the_pages_of_many_runs_show_some() -> None:
    few = board.pages("A/", ["a", "b"])
    assert not any("regexInput" in page for page in few.values())
    many = [f"norm={norm}_lr={lr}_seed=0_{lr:010x}" for norm in ("batch", "none")
            for lr in range(1, 25)]  # fmt: skip
    assert all(page.endswith("regexInput=seed%3D0") for page in board.pages("A/", many).values())
    chosen = board.pages("A/", many, [many[1], many[25]])
    assert all(what.endswith(", 2 of 48 runs") for what in chosen)
    only = "regexInput=norm%3Dbatch_lr%3D2_seed%3D0_%7Cnorm%3Dnone_lr%3D2_seed%3D0_"
    assert all(page.endswith(only) for page in chosen.values())
