"""TensorBoard over a folder of runs."""

import re
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnrepro.errors import ConfigError
from bnrepro.store import StoredRun

LOOPBACK = ("127.0.0.1", "localhost", "::1")

MANY = 40
"""Runs; of more, TensorBoard shows none at first."""


def check_address(host: str, port: int) -> None:
    """Refuse what nothing can listen on.

    Raises:
        ConfigError: there is no such host or port.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"no such port ({port}): choose one from 0 (any free one) to 65535")
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"unknown host ({host}): choose another --host") from error


def serve(
    folder: Path,
    runs: Sequence[StoredRun],
    host: str,
    port: int,
    say: Callable[[str], object],
    *,
    browser: bool = False,
) -> None:
    """Serve TensorBoard until it is interrupted.

    Args:
        folder: what is served.
        runs: those below it.
        host: the address that it listens on.
        port: the port there; 0 for any that is free.
        say: what tells the address, and those of its pages.
        browser: whether a browser is opened on the first of these.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    from tensorboard import program

    def server(app: Any, flags: Any) -> Any:
        return program.WerkzeugServer(of_this_machine(app) if host in LOOPBACK else app, flags)

    board = program.TensorBoard(server_class=server)
    board.configure(
        logdir=str(folder),
        host=host,
        port=port,
        samples_per_plugin={"scalars": 100_000, "histograms": 1000, "images": 20},
        reload_interval=5,
        load_fast="true" if _has_data_server() else "false",  # "auto" prints four lines
    )
    if host not in LOOPBACK:
        say(f"warning: anybody who reaches {host} can see these runs")
    try:
        address = board.launch()
    except (program.TensorBoardServerException, OSError) as error:
        raise ConfigError(f"{error} ({host}:{port}): choose another --port") from error
    say(f"TensorBoard over {folder}: {address} (Ctrl-C to stop)")
    shown = pages(address, [str(run.folder.relative_to(folder)) for run in runs])
    for what, page in shown.items():
        say(f"  {what}: {page}")
    if browser:
        webbrowser.open(next(iter(shown.values())))
    try:
        threading.Event().wait()
    except KeyboardInterrupt:  # the told way to end it
        say("stopped")


def pages(address: str, runs: Sequence[str]) -> dict[str, str]:
    """What is worth a look first, and the addresses of the pages that show it.

    TensorBoard shows none of many runs until some are chosen: those of seed 0, or else the first.
    """
    chosen = ""
    if len(runs) > MANY:
        seed = any("seed=0" in run for run in runs)
        chosen = f"&regexInput={quote('seed=0' if seed else '|'.join(map(re.escape, runs[:2])))}"
    filters = {
        "how far the distributions inside shift": "#scalars&tagFilter=covariate%20shift%2Ffrom",
        "the input of one unit a layer, as in Fig. 1b, c": "#distributions&tagFilter=typical%24",
    }
    return {what: f"{address}{page}&_smoothingWeight=0{chosen}" for what, page in filters.items()}


def of_this_machine(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """A WSGI application that answers only who asked for this machine by one of its own names.

    A page elsewhere can have its own name stand for 127.0.0.1 and then read what is served there
    (DNS rebinding), but its name is what the browser asks for.
    """

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        name = str(environ.get("HTTP_HOST", "")).rpartition("]")
        asked = name[0].lstrip("[") if name[1] else name[2].partition(":")[0]
        if asked.lower() in LOOPBACK:
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"only for this machine: ask for 127.0.0.1 or localhost\n"]

    return answer


def _has_data_server() -> bool:
    from tensorboard.data import server_ingester

    try:
        server_ingester.get_server_binary()
    except Exception:  # not for this machine; TensorBoard reads by itself then, more slowly
        return False
    return True
