"""Data sets by name, their settings as arguments."""

from pathlib import Path
from typing import Any

from bnrepro import config as c
from bnrepro import data


def load(name: str, root: Path | str, **settings: Any) -> data.Dataset:
    """`data.load`, MNIST binary and as many images held out as is usual, unless told otherwise."""
    known = data.known(name)
    values = {"validation": known.validation if known else None, **settings}
    values["inputs"] = c.Inputs(values.get("inputs", "default"))
    binary, seed = values.pop("binary", True), values.pop("seed", 0)
    if name == "mnist":
        values["binary"] = binary
    settings = c.option("dataset", name).settings(name=name, root=str(root), **values)
    return data.load(settings, seed=seed)
