"""TensorBoard as `bnrepro tensorboard` serves it."""

import http.client
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import hear_signals

from bnrepro.cli import main


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


def test_tensorboard_answers_to_its_own_host_names_only_and_exits_with_0(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "bnrepro", "tensorboard", str(tmp_path), "--port", "0"]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals
    ) as process:
        assert process.stdout is not None
        overdue = threading.Timer(60, process.kill)
        overdue.start()
        told = process.stdout.readline()
        port = int(re.search(r":(\d+)/", told)[1])
        own = (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:1", "LocalHost")
        others = ("evil.example", f"evil.example:{port}", "", "127.0.0.1.evil.example", "[::1")
        for name in (*own, *others):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            connection.request("GET", "/data/environment", headers={"Host": name})
            assert connection.getresponse().status == (200 if name in own else 403), name
            connection.close()
        process.send_signal(signal.SIGINT)
        overdue.cancel()
        out, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "stopped" in out
    assert errors == ""
