"""Downloading: against a small server on this machine that can also cut, alter and redirect."""

import dataclasses
import gzip
import hashlib
import http.client
import io
import os
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from datasets import load

from bnrepro.cli import main
from bnrepro.config import mirrors
from bnrepro.config.hydra import quoted
from bnrepro.data import archives, disk, download, fetch
from bnrepro.data import cifar10 as cifar10s
from bnrepro.data import mnist as mnists
from bnrepro.errors import ConfigError, DataError


class Server(ThreadingHTTPServer):
    """Serves `files` by name; `trouble` makes it misbehave."""

    files: dict[str, bytes]
    trouble: str | None = None
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/data/")
        trouble = self.server.trouble
        self.server.asked.append(name)
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        if trouble == "redirect":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/data")
            self.end_headers()
            return
        if trouble == "altered":
            content = content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]
        self.send_response(200)
        if trouble != "no length":
            length = 2**40 if trouble == "huge" else len(content)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        half = trouble in ("cut", "no length")
        self.wfile.write(content[: len(content) // 2] if half else content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four files of three random images to serve in the place of MNIST's, by name unpacked."""
    files = {}
    for name in mnists.SHA256:
        files[name] = os.urandom(16 + 3 * 784) if "images" in name else bytes(8) + b"\x00\x01\x02"
        monkeypatch.setitem(mnists.SHA256, name, hashlib.sha256(files[name]).hexdigest())
        server.files[f"{name}.gz"] = gzip.compress(files[name])
    return files


@pytest.fixture
def cifar10(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Seven files to serve in the place of CIFAR-10's, in one archive."""
    from torchvision.datasets import CIFAR10

    files = {name: os.urandom(2000) for name in cifar10s.FILES}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[n, md5[n]] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5["batches.meta"]})
    serve_archive(server, monkeypatch, {f"cifar-10-batches-py/{n}": c for n, c in files.items()})
    return files


def tar_gz(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def serve_archive(
    server: Server, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes | tarfile.TarInfo]
) -> None:
    archive = tar_gz(members)
    server.files["cifar-10-python.tar.gz"] = archive
    monkeypatch.setattr(cifar10s, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())


def below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_fails(root: Path, server: Server, reason: str, name: str = "mnist") -> None:
    before = below(root)
    with pytest.raises(DataError, match=reason) as failure:
        fetch(name, root, mirror=server.url)
    message = str(failure.value)
    assert failure.value.exit_code == 3
    assert "\n" not in message
    assert server.url in message
    assert f"bnrepro data import {name} PATH" in message
    assert below(root) == before


def test_mnist_arrives_unpacked(server: Server, mnist: dict[str, bytes], tmp_path: Path) -> None:
    fetch("mnist", tmp_path, mirror=server.url)
    assert below(tmp_path) == {f"MNIST/raw/{name}": content for name, content in mnist.items()}


def test_cifar10_arrives_unpacked(
    server: Server, cifar10: dict[str, bytes], tmp_path: Path
) -> None:
    fetch("cifar10", tmp_path, mirror=server.url + "/")
    assert below(tmp_path) == {f"cifar-10-batches-py/{n}": c for n, c in cifar10.items()}
    fetch("cifar10", tmp_path, mirror=server.url)
    assert len(server.asked) == 1


def test_progress_counts_bytes(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CHUNK", 1000)
    told: list[tuple[str, int, int | None]] = []
    fetch("mnist", tmp_path, mirror=server.url, progress=lambda *args: told.append(args))
    for name in server.files:
        size = len(server.files[name])
        mine = [(done, total) for what, done, total in told if what == name]
        assert mine == [(min(k, size), size) for k in range(1000, size + 1000, 1000)]


def test_only_missing_or_damaged_files_are_downloaded(
    server: Server, mnist: dict[str, bytes], tmp_path: Path
) -> None:
    fetch("mnist", tmp_path, mirror=server.url)
    missing, damaged = list(mnist)[:2]
    (tmp_path / "MNIST/raw" / missing).unlink()
    (tmp_path / "MNIST/raw" / damaged).write_bytes(b"damaged")
    server.asked.clear()
    fetch("mnist", tmp_path, mirror=server.url)
    assert server.asked == [f"{missing}.gz", f"{damaged}.gz"]
    assert below(tmp_path) == {f"MNIST/raw/{name}": content for name, content in mnist.items()}


def test_a_packed_file_with_the_right_checksum_is_not_downloaded(
    server: Server, mnist: dict[str, bytes], tmp_path: Path
) -> None:
    packed = {name: gzip.compress(content) for name, content in mnist.items()}
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for name, content in packed.items():
        (tmp_path / f"MNIST/raw/{name}.gz").write_bytes(content)
    (tmp_path / f"MNIST/raw/{(damaged := min(packed))}.gz").write_bytes(packed[damaged][:-9])
    fetch("mnist", tmp_path, mirror=server.url)
    assert server.asked == [f"{damaged}.gz"]
    assert (tmp_path / "MNIST/raw" / damaged).read_bytes() == mnist[damaged]


def test_an_existing_archive_is_unpacked(
    server: Server, cifar10: dict[str, bytes], tmp_path: Path
) -> None:
    there = tmp_path / cifar10s.ARCHIVE
    there.write_bytes(server.files[cifar10s.ARCHIVE])
    fetch("cifar10", tmp_path, mirror=server.url)
    assert server.asked == []
    for name, content in cifar10.items():
        assert (tmp_path / "cifar-10-batches-py" / name).read_bytes() == content


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("cut", r"cut off after [\d,]+ of [\d,]+ bytes"),
        ("no length", "Compressed file ended|SHA-256 expected"),
        ("altered", "CRC check failed|SHA-256 expected"),
        ("huge", "are more than this can be"),
        ("redirect", "redirected from http to ftp:.*refused"),
    ],
)
def test_a_failed_download_leaves_no_file_and_the_next_one_succeeds(
    server: Server,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    name: str,
    trouble: str,
    reason: str,
) -> None:
    files = request.getfixturevalue(name)
    server.trouble = trouble
    assert_fails(tmp_path, server, reason, name)
    assert below(tmp_path) == {}
    server.trouble = None
    fetch(name, tmp_path, mirror=server.url)
    assert sorted(below(tmp_path).values()) == sorted(files.values())


def test_a_wrong_file_under_the_right_name_is_refused(
    server: Server, mnist: dict[str, bytes], tmp_path: Path
) -> None:
    name = "train-images-idx3-ubyte"
    other = b"something else"
    server.files[f"{name}.gz"] = gzip.compress(other)
    expected, found = mnists.SHA256[name], hashlib.sha256(other).hexdigest()
    assert_fails(tmp_path, server, f"SHA-256 expected {expected}, found {found}.*{name}")


def test_an_http_error_is_reported(server: Server, mnist: dict[str, bytes], tmp_path: Path) -> None:
    server.files.clear()
    assert_fails(tmp_path, server, "cannot download mnist: HTTP Error 404: Not Found")


def test_a_refused_connection_is_reported(server: Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    assert_fails(tmp_path, server, "Connection refused")


def test_a_server_that_falls_silent(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    release = threading.Event()
    monkeypatch.setattr(Handler, "do_GET", lambda self: release.wait(10))
    try:
        assert_fails(tmp_path, server, "timed out")
    finally:
        release.set()


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_sends_a_byte_at_a_time(
    server: Server,
    mnist: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    release = threading.Event()

    def drip(self: Handler) -> None:
        head = b"HTTP/1.0 200 OK\r\n"
        self.wfile.write(head if part == "head" else head + b"Content-Length: 5000\r\n\r\n")
        while not release.wait(0.01):
            self.wfile.write(b"x")

    monkeypatch.setattr(Handler, "do_GET", drip)
    try:
        assert_fails(tmp_path, server, "too slow: less than 262,144 bytes in 0 seconds")
    finally:
        release.set()


def test_control_characters_in_a_status_do_not_reach_the_terminal(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = b"\x1b]0;title\x07 \xe2\x80\xae"
    monkeypatch.setattr(
        Handler, "do_GET", lambda self: self.wfile.write(b"HTTP/1.0 404 " + reason + b"\r\n\r\n")
    )
    with pytest.raises(DataError, match="HTTP Error 404") as failure:
        fetch("mnist", tmp_path, mirror=server.url)
    assert str(failure.value).isprintable()


def test_a_gz_bomb(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "UNPACKED_LIMIT", 2**20)
    server.files["train-images-idx3-ubyte.gz"] = gzip.compress(bytes(2**24))
    assert_fails(tmp_path, server, "unpacks to more than 1,048,576 bytes")


def test_a_download_longer_than_announced_is_stopped(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "DOWNLOAD_LIMIT", 1000)
    assert_fails(tmp_path, server, "are more than this can be")
    monkeypatch.setattr(download, "DOWNLOAD_LIMIT", 1000)
    server.trouble = "no length"
    assert_fails(tmp_path, server, "more than 1,000 bytes")


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_other_members_of_the_archive_stay_in_it(
    server: Server, cifar10: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {f"cifar-10-batches-py/{name}": content for name, content in cifar10.items()}
    hostile: dict[str, bytes | tarfile.TarInfo] = {
        "../escaped": b"out",
        "/escaped": b"out",
        "data_batch_1": b"not in the folder",
        "cifar-10-batches-py/../../escaped": b"out",
        "cifar-10-batches-py/readme.html": b"not needed",
        "a link": link("cifar-10-batches-py/link", tarfile.SYMTYPE, "/etc/passwd"),
        "a device": link("cifar-10-batches-py/device", tarfile.CHRTYPE, ""),
    }
    serve_archive(server, monkeypatch, {**hostile, **good})
    root = tmp_path / "inner" / "root"
    fetch("cifar10", root, mirror=server.url)
    assert below(tmp_path) == {f"inner/root/{name}": content for name, content in good.items()}
    assert not Path("/escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_a_known_name_that_is_no_file(
    server: Server,
    cifar10: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: bytes,
) -> None:
    name = "cifar-10-batches-py/test_batch"
    members: dict[str, bytes | tarfile.TarInfo] = {
        f"cifar-10-batches-py/{n}": c for n, c in cifar10.items()
    }
    members[name] = link(name, kind, "cifar-10-batches-py/data_batch_1")
    serve_archive(server, monkeypatch, members)
    assert_fails(tmp_path, server, "test_batch is no regular file", "cifar10")
    del members[name]
    serve_archive(server, monkeypatch, members)
    assert_fails(tmp_path, server, "test_batch not in the archive", "cifar10")


def test_a_tar_bomb(
    server: Server, cifar10: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "UNPACKED_LIMIT", 2**20)
    members: dict[str, bytes | tarfile.TarInfo] = {
        f"cifar-10-batches-py/{n}": c for n, c in cifar10.items()
    }
    members["cifar-10-batches-py/test_batch"] = bytes(2**24)
    serve_archive(server, monkeypatch, members)
    assert_fails(tmp_path, server, "no regular file of a reasonable size", "cifar10")


@pytest.mark.parametrize(
    ("old", "new", "followed"),
    [
        ("https://a.example/x", "https://b.example/x", True),
        ("https://a.example/x", "http://a.example/x", False),
        ("https://a.example/x", "HTTP://a.example/x", False),
        ("https://a.example/x", "file:///etc/passwd", False),
        ("https://a.example/x", "ftp://a.example/x", False),
        ("http://a.example/x", "http://b.example/x", True),
        ("http://a.example/x", "https://b.example/x", True),
        ("http://a.example/x", "ftp://b.example/x", False),
    ],
)
def test_redirects_never_lower_the_guard(old: str, new: str, followed: bool) -> None:
    def redirect() -> urllib.request.Request | None:
        return download.NoDowngrade().redirect_request(
            urllib.request.Request(old), io.BytesIO(), 302, "Found", http.client.HTTPMessage(), new
        )

    if followed:
        request = redirect()
        assert request is not None
        assert request.full_url == new
    else:
        with pytest.raises(urllib.error.URLError, match="refused"):
            redirect()


def test_redirects_pass_through_our_handler(
    server: Server, mnist: dict[str, bytes], tmp_path: Path
) -> None:
    """What the opener of `get` does on a redirect is what the class above decides."""
    server.trouble = "redirect"
    assert_fails(tmp_path, server, "refused")


def test_published_addresses_are_https() -> None:
    assert mnists.URL.startswith("https://")
    assert cifar10s.URL.startswith("https://")


MIRRORS = {
    "": "not a web address",
    "file:///etc": "not a web address",
    "ftp://a.example/": "not a web address",
    "a.example": "not a web address",
    "https:///folder": "not a web address",
    "http://[::1": "not a web address",
    "https://a.example:99999999/": "not a web address",
    "https://a.example/\x1b[31m": "not a web address",
    "https://a.example/?token=s3cret": "not the address of a folder",
    "https://a.example/a b": "not the address of a folder",
    "http://user:s3cret@a.example/": "a user's name or password",
    "http://s3cret@a.example/": "a user's name or password",
    "http:user:s3cret@a.example/": "a user's name or password",
    "https://user:s3/cret@a.example/": "not a web address",
}


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_mirror_must_be_a_web_address_that_tells_no_secret(
    tmp_path: Path, mirror: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=MIRRORS[mirror]) as failure:
        fetch("mnist", tmp_path, mirror=mirror)
    assert "cret" not in str(failure.value)
    assert main(["data", "fetch", "cifar10", "--root", str(tmp_path), "--mirror", mirror]) == 2
    run = ["train", f"dataset.mirror={quoted(mirror)}", f"run.dir={tmp_path / 'run'}"]
    assert main(run) == 2
    said = "".join(capsys.readouterr())
    assert said.count("https://HOST/FOLDER/") == 2
    assert "cret" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "mirror", ["https://a.example", "http://127.0.0.1:8000/data/", "HTTPS://é.example"]
)
def test_a_good_mirror(mirror: str) -> None:
    assert mirrors.objection(mirror) is None


def test_load_downloads_what_is_missing(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="this is not mnist") as failure:
        load("mnist", tmp_path, mirror=server.url)
    assert len(server.asked) == 4
    found = str(failure.value).split("found ")[1][:64]
    right = dataclasses.replace(mnists.Mnist.known, fingerprint=found)
    monkeypatch.setattr(mnists.Mnist, "known", right)
    data = load("mnist", tmp_path, mirror=server.url, validation=1)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [2, 1, 3]
    assert len(server.asked) == 4  # the second time it was there


def test_load_without_data_and_network_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.create_connection", unreachable)
    with pytest.raises(DataError) as failure:
        load("mnist", tmp_path / "data")
    for part in ("Network is unreachable", "data import mnist", "dataset.root", "BNREPRO_DATA"):
        assert part in str(failure.value)
    assert not (tmp_path / "data").exists()


def test_a_full_disk_leaves_no_part(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 5:  # two folders that were made, the first file and its folder are done
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="cannot write: No space left on device"):
        fetch("mnist", tmp_path, mirror=server.url)
    first = next(iter(mnist))
    assert below(tmp_path) == {f"MNIST/raw/{first}": mnist[first]}
    fetch("mnist", tmp_path, mirror=server.url)
    assert len(below(tmp_path)) == 4


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_whichever_call_fails_the_old_file_or_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "file"
    disk.write_bytes(path, b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DataError, match="Input/output error"):
        disk.write_bytes(path, b"new")
    assert below(tmp_path) in ({"file": b"old"}, {"file": b"new"})


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*args: object, name: str = name, real: object = real) -> object:
            order.append(name)
            return real(*args)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    disk.write_bytes(tmp_path / "file", b"content")
    assert order == ["fsync", "replace", "fsync"]


def test_several_processes_may_download_the_same_file(
    server: Server, mnist: dict[str, bytes], tmp_path: Path
) -> None:
    failures: list[BaseException] = []

    def bring() -> None:
        try:
            fetch("mnist", tmp_path, mirror=server.url)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=bring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert below(tmp_path) == {f"MNIST/raw/{name}": content for name, content in mnist.items()}


def test_a_read_only_folder_is_reported_before_the_download(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(DataError, match=f"cannot write.*{tmp_path}.*BNREPRO_DATA"):
        fetch("mnist", tmp_path, mirror=server.url)
    assert server.asked == []


def test_existing_data_may_lie_in_a_read_only_folder(
    server: Server, mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("mnist", tmp_path, mirror=server.url)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    fetch("mnist", tmp_path, mirror=server.url)


def test_a_data_set_without_files_downloads_nothing(tmp_path: Path) -> None:
    fetch("digits", tmp_path)
    with pytest.raises(DataError, match="none to download"):
        fetch("folder", tmp_path)
    assert below(tmp_path) == {}
