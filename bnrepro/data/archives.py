"""What comes packed: read in memory and within limits, whatever it claims to hold."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNPACKED_LIMIT = 64 * 2**20  # bytes of one file out of an archive; the largest has 47 MB


def gunzip(content: bytes) -> bytes:
    """What a .gz unpacks to; ValueError if that is more than `UNPACKED_LIMIT`."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        unpacked = stream.read(UNPACKED_LIMIT + 1)
    if len(unpacked) > UNPACKED_LIMIT:
        raise ValueError(f"unpacks to more than {UNPACKED_LIMIT:,} bytes")
    return unpacked


def known_members(archive: bytes, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files `folder/name` out of a .tar.gz; whatever else is in it stays there.

    ValueError if one is missing, is no regular file, or is larger than `UNPACKED_LIMIT`.
    """
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            name = member.name.removeprefix(f"{folder}/")
            if name == member.name or name not in names:
                continue
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None or member.size > UNPACKED_LIMIT:
                raise ValueError(f"{member.name} is no regular file of a reasonable size")
            files[name] = stream.read()
    if missing := set(names) - set(files):
        raise ValueError(f"{', '.join(sorted(missing))} not in the archive")
    return files


def arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[np.uint8]]:
    """Arrays of bytes out of an .npz; pickled objects are never loaded.

    ValueError if one is missing, is of another type, or is larger than `UNPACKED_LIMIT`.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        contents = {}
        for name in names:
            file = f"{name}.npy"
            if sizes.get(file, UNPACKED_LIMIT + 1) > UNPACKED_LIMIT:
                raise ValueError(f"no array {name} of a reasonable size")
            content = io.BytesIO(archive.read(file))
            array = np.lib.format.read_array(content, allow_pickle=False)
            if array.dtype != np.uint8:
                raise ValueError(f"{name} is of type {array.dtype}")
            contents[name] = array
    return contents
