"""The file in which an import keeps a data set: `<root>/bnrepro/<name>.npz`.

An uncompressed npz of the canonical arrays, so reading it is one pass over the disk.
"""

from pathlib import Path

import numpy as np

from bnrepro.data import disk
from bnrepro.data.arrays import Images, Raw
from bnrepro.errors import DataError

_TYPES = {  # the arrays in the file, and their types; class names are of any length
    "train_pixels": "uint8",
    "train_labels": "int64",
    "test_pixels": "uint8",
    "test_labels": "int64",
    "classes": "str",
}


def path(name: str, root: Path) -> Path:
    """Where the prepared file of a data set is."""
    return root / "bnrepro" / f"{name}.npz"


def write(file: Path, raw: Raw) -> None:
    """Keep a canonical data set in a prepared file."""
    disk.write(
        file,
        lambda stream: np.savez(
            stream,
            train_pixels=raw.train.pixels,
            train_labels=raw.train.labels,
            test_pixels=raw.test.pixels,
            test_labels=raw.test.labels,
            classes=np.array(raw.classes),
        ),
    )


def read(file: Path) -> Raw:
    """The data set in a prepared file, its content not yet checked.

    DataError if it is no such file. Pickled objects are never loaded.
    """
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in _TYPES}
        for name, kind in _TYPES.items():
            if not np.issubdtype(content[name].dtype, kind):
                raise ValueError(f"{name} is of type {content[name].dtype}")
        return Raw(
            Images(content["train_pixels"], content["train_labels"]),
            Images(content["test_pixels"], content["test_labels"]),
            tuple(content["classes"].tolist()),
        )
    except Exception as error:  # of a dozen kinds, for NumPy parses the heads of the arrays
        raise DataError(
            f"cannot read: {' '.join(str(error).split())} ({file}): make it readable, delete it, "
            f"or run `bnrepro data import {file.stem} PATH` to rewrite it"
        ) from error
