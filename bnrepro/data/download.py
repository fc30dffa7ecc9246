"""Download files within limits of size and time.

What arrives is held in memory until its digest is right (170 MB at most, less than the data
set it becomes) and only then written, so that a download that is cut or altered leaves nothing
on the disk, and trying again simply starts over.
"""

import hashlib
import http.client
import queue
import threading
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import urlsplit

from bnrepro.config import mirrors
from bnrepro.data.arrays import Progress
from bnrepro.errors import ConfigError, DataError

DOWNLOAD_LIMIT = 256 * 2**20  # bytes of one download; the largest has 170 MB
TIMEOUT = 30.0  # seconds without a byte from the server
CHUNK = 2**18  # bytes between two reports of progress
PATIENCE = 60.0  # seconds for a chunk, or for all before the first: 4 kB a second at least


def get(url: str, name: str, progress: Progress | None = None) -> bytes:
    """What is at a URL, whole; DataError, naming the data set, if it does not come."""
    # Another thread reads, since no timeout of a socket ends on a server that sends a byte a
    # second. It is a daemon: one that hangs keeps no process from ending.
    arrived: queue.Queue[tuple[bytes, int | None] | BaseException] = queue.Queue()
    given_up = threading.Event()
    threading.Thread(target=_receive, args=(url, arrived, given_up), daemon=True).start()
    content = bytearray()
    try:
        while True:
            event = arrived.get(timeout=PATIENCE)
            if isinstance(event, BaseException):
                raise event
            chunk, total = event
            if not chunk:
                break
            content += chunk
            if progress:
                progress(url.rpartition("/")[2], len(content), total)
        if total is not None and len(content) != total:
            raise ValueError(f"cut off after {len(content):,} of {total:,} bytes")
    except queue.Empty:
        slow = f"less than {CHUNK:,} bytes in {PATIENCE:.0f} seconds"
        raise failed(name, url, f"too slow: {slow}") from None
    except urllib.error.HTTPError as error:  # a status such as 404
        error.close()
        raise failed(name, url, error) from error
    except urllib.error.URLError as error:
        raise failed(name, url, error.reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise failed(name, url, error) from error
    finally:
        given_up.set()
    return bytes(content)


def _receive(
    url: str,
    arrived: "queue.Queue[tuple[bytes, int | None] | BaseException]",
    given_up: threading.Event,
) -> None:
    """Put each chunk of a URL's content, with the length announced, or what went wrong; b"" ends.

    Stops after the chunk at which nobody waits any more.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "bnrepro"})
    opener = urllib.request.build_opener(NoDowngrade)
    received = 0
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            if (total or 0) > DOWNLOAD_LIMIT:
                raise ValueError(f"{total:,} bytes are more than this can be")
            while not given_up.is_set():
                chunk = response.read(CHUNK)
                received += len(chunk)
                if received > DOWNLOAD_LIMIT:
                    raise ValueError(f"more than {DOWNLOAD_LIMIT:,} bytes")
                arrived.put((chunk, total))
                if not chunk:
                    return
    except Exception as error:  # for the thread that waits to tell
        arrived.put(error)


class NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and to http only from http, which a user has named himself."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request that follows, or URLError where it must not be followed."""
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and not scheme == req.type == "http":
            fp.close()
            to = mirrors.shown(newurl)
            raise urllib.error.URLError(f"redirected from {req.type} to {to}, refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def url(base: str, name: str) -> str:
    """The address of a file below a base.

    Raises:
        ConfigError: the base, a mirror's, is no address to download from.
    """
    if wrong := mirrors.objection(base):
        raise ConfigError(f"{wrong} ({mirrors.shown(base)}): give the mirror as {mirrors.FORM}")
    return f"{base.rstrip('/')}/{name}"


def require_sha256(content: bytes, expected: str, name: str, url: str) -> None:
    """DataError, naming the data set, unless what came has the expected digest."""
    if (actual := hashlib.sha256(content).hexdigest()) != expected:
        raise failed(name, url, f"SHA-256 expected {expected}, found {actual}")


def failed(name: str, url: str, reason: object) -> DataError:
    """A download that cannot be used, and why."""
    # A server chooses the words of its status: no control sequence of its may reach a terminal.
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(reason).split()))
    return DataError(
        f"cannot download {name}: {text} ({url}): try again or with "
        f"another mirror, import a copy with `bnrepro data import {name} PATH`, or say where "
        f"one is with dataset.root or BNREPRO_DATA"
    )
