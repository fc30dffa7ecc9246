"""TensorBoard over a folder of runs."""

import json
import re
import socket
import tempfile
import threading
import webbrowser
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnrepro import config as c
from bnrepro.errors import ConfigError, UnreadableError
from bnrepro.store import StoredRun

LOOPBACK = ("127.0.0.1", "localhost", "::1")

COLORS = 7
"""Runs that TensorBoard gives colors of their own."""

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

    chosen = [_name(run, folder) for run in (pair(runs) if len(runs) > COLORS else [])]

    def server(app: Any, flags: Any) -> Any:
        app = putting_first(app, chosen)
        return program.WerkzeugServer(of_this_machine(app) if host in LOOPBACK else app, flags)

    board = program.TensorBoard(server_class=server)
    with _named(folder, runs) as logdir:
        board.configure(
            logdir=str(logdir),
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
        shown = pages(address, [_name(run, folder) for run in runs], chosen)
        for what, page in shown.items():
            say(f"  {what}: {page}")
        if len(runs) == 1:
            both = "'bnrepro sweep norm=batch,none' trains both"
            say(f"  a run alone has no arm to compare with: {both}")
        if browser:
            webbrowser.open(next(iter(shown.values())))
        try:
            threading.Event().wait()
        except KeyboardInterrupt:  # the told way to end it
            say("stopped")


@contextmanager
def _named(folder: Path, runs: Sequence[StoredRun]) -> Iterator[Path]:
    """The folder to serve, in which every run has a name: one that is served itself gets a link."""
    if [run.folder for run in runs] != [folder]:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="bnrepro-") as parent:
        run = folder.resolve()
        (Path(parent) / run.name).symlink_to(run)
        yield Path(parent)


def _name(run: StoredRun, folder: Path) -> str:
    return str(run.folder.relative_to(folder))


def pages(address: str, runs: Sequence[str], chosen: Sequence[str] = ()) -> dict[str, str]:
    """What is worth a look first, and the addresses of the pages that show it.

    How far distributions shift is seen next to another run, and a chart of one run has an axis as
    short as its line; the input of a unit says something alone, so that of one run it comes first.

    Args:
        address: of the board, with a slash at its end.
        runs: the names of all runs. Of more than `MANY` TensorBoard shows none until some are
            chosen: those of seed 0, or else the first two.
        chosen: the names of the runs that the pages show; if there are none, all.
    """
    of = f", {len(chosen)} of {len(runs)} runs" if chosen else ""
    choice = "|".join(re.escape(_shortened(name, runs)) for name in chosen)
    if len(runs) > MANY and not chosen:
        seed = any("seed=0" in run for run in runs)
        choice = "seed=0" if seed else "|".join(map(re.escape, runs[:2]))
    filters = {
        "how far the distributions inside shift": "#scalars&tagFilter=covariate%20shift%2Ffrom",
        "the input of one unit a layer, as in Fig. 1b, c": "#distributions&tagFilter=typical%24",
    }
    if len(runs) == 1:
        filters = dict(reversed(filters.items()))
    end = "&_smoothingWeight=0" + (f"&regexInput={quote(choice)}" if choice else "")
    return {f"{what}{of}": f"{address}{page}{end}" for what, page in filters.items()}


def _shortened(name: str, names: Iterable[str]) -> str:
    """The name of a sweep's member without its hash, where that is enough to find it."""
    short = re.sub("(?<=_)[0-9a-f]{10}$", "", name)
    return short if sum(short in other for other in names) == 1 else name


def pair(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """Two runs that differ in nothing but batch normalization, with it and without it.

    Of all such pairs of probed runs it is the one whose less accurate run is the most accurate: of
    a grid of learning rates, one at which both arms train. Empty if there is none.
    """
    arms: dict[str, dict[bool, tuple[float, StoredRun]]] = defaultdict(dict)
    for run in runs:
        try:
            config, accuracy = run.config(), (run.summary() or {}).get("test_accuracy")
        except UnreadableError:
            continue
        norm, probed = config.get("norm", {}).get("name"), config.get("probe", {}).get("every")
        if accuracy is not None and norm in ("none", "batch") and probed:
            others = c.identifying_settings({k: v for k, v in config.items() if k != "norm"})
            key = json.dumps(others, sort_keys=True)
            arms[key].setdefault(norm == "batch", (accuracy, run))
    pairs = [[both[True], both[False]] for both in arms.values() if len(both) == 2]
    best = max(pairs, key=lambda both: min(accuracy for accuracy, _ in both), default=[])
    return [run for _, run in best]


def putting_first(
    app: Callable[..., Iterable[bytes]], chosen: Sequence[str]
) -> Callable[..., Iterable[bytes]]:
    """A WSGI application whose list of runs begins with those chosen.

    The board colors runs by their place in that list, `COLORS` of them and then again: two that are
    looked at together could have one color.
    """

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/data/runs":
            return app(environ, start)
        told: list[Any] = []
        plain = {key: value for key, value in environ.items() if key != "HTTP_ACCEPT_ENCODING"}
        body = b"".join(app(plain, lambda *status_and_headers: told.extend(status_and_headers)))
        runs = json.loads(body)
        body = json.dumps(sorted(runs, key=lambda run: run not in chosen)).encode()
        status, headers = told[:2]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    return answer


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
