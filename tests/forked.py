"""`bnrepro ARGUMENTS` in a process forked from one that has loaded torch: seconds sooner there.

The forking process (run this file) loads what a run needs and nothing else happens in it, so that
what it forks is as a fresh `python -m bnrepro`, but for the time. `Command` is what asks it, with
the part of `subprocess.Popen` that tests use.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

SECONDS = 300.0  # of a machine that does much else
_asked: socket.socket | None = None
_process: subprocess.Popen[bytes] | None = None


class Command:
    """One forked command: started at once, its output kept in files until it ended.

    Args:
        words: what follows `bnrepro`.
        cwd: the folder it is started in.
        env: its environment; by default that of this process.
        stdout, stderr: file descriptors of the caller's; by default what is printed is kept.
    """

    def __init__(
        self,
        *words: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.args = [str(word) for word in words]
        self._files = [tempfile.TemporaryFile("w+b") for _ in range(2)]  # noqa: SIM115
        given = (stdout, stderr)
        outputs = [
            file.fileno() if own is None else own
            for file, own in zip(self._files, given, strict=True)
        ]
        self._reply, theirs = socket.socketpair()
        self.returncode: int | None = None
        self.stdout = self.stderr = ""
        request = {
            "words": self.args,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        with theirs:
            socket.send_fds(_forker(), [json.dumps(request).encode()], [*outputs, theirs.fileno()])
            self.pid = int.from_bytes(self._reply.recv(4), "big")

    def poll(self) -> int | None:
        """The exit code, minus the signal of one that was killed; None while it runs."""
        if self.returncode is None and select.select([self._reply], [], [], 0)[0]:
            self.returncode = int.from_bytes(self._reply.recv(4), "big", signed=True)
            self._reply.close()
            self.stdout, self.stderr = map(_content, self._files)
        return self.returncode

    def wait(self, timeout: float = SECONDS) -> int:
        """Wait for the end.

        Raises:
            TimeoutExpired: it did not come; the command was killed.
        """
        if self.returncode is None and not select.select([self._reply], [], [], timeout)[0]:
            self.kill()
            self.wait()
            raise subprocess.TimeoutExpired(self.args, timeout, self.stdout, self.stderr)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float = SECONDS) -> tuple[str, str]:
        """Wait for the end; what was printed to standard output and to standard error."""
        self.wait(timeout)
        return self.stdout, self.stderr

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _content(file: IO[bytes]) -> str:
    with file:
        file.seek(0)
        return file.read().decode()


def run(
    *words: object, timeout: float = SECONDS, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `options` are those of `Command`."""
    command = Command(*words, **options)  # type: ignore[arg-type]
    out, errors = command.communicate(timeout)
    assert command.returncode is not None
    return subprocess.CompletedProcess(command.args, command.returncode, out, errors)


def _forker() -> socket.socket:
    """The socket of the forking process of this one, which is started the first time."""
    global _asked, _process  # one for all tests of a process
    if _asked is None or _process is None or _process.poll() is not None:
        _asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            _process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
    return _asked


def serve(asked: socket.socket) -> None:
    """Fork a command for each request, and tell its end; return in each forked process, too."""
    running: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            os.read(woken, 1000)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    with contextlib.suppress(OSError), running.pop(pid) as reply:
                        reply.send(code.to_bytes(4, "big", signed=True))
        if asked in ready:
            content, files, _, _ = socket.recv_fds(asked, 2**20, 3)
            if not content:  # who asks is gone
                return
            request, (out, errors, reply) = json.loads(content), files
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for end in (woken, wake, reply):
                    os.close(end)
                asked.close()
                for one in running.values():
                    one.close()
                begin(request, out, errors)
            os.close(out)
            os.close(errors)
            running[pid] = socket.socket(fileno=reply)
            running[pid].send(pid.to_bytes(4, "big"))


def begin(request: Mapping[str, object], out: int, errors: int) -> None:
    """Become the command that is asked for; raises SystemExit with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == 2 else signal.SIG_DFL)
    os.setsid()
    environment = request["env"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(request["cwd"]))
    for descriptor, own in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (errors, 2)):
        os.dup2(descriptor, own)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        open(0, closefd=False),  # noqa: SIM115
        open(1, "w", closefd=False),  # noqa: SIM115
        open(2, "w", buffering=1, closefd=False),  # noqa: SIM115
    )
    words = request["words"]
    assert isinstance(words, list)
    sys.argv = ["bnrepro", *words]
    from bnrepro.cli import main

    sys.exit(main())


if __name__ == "__main__":
    from processes import preload

    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
