"""What a file of configuration may hold: checked before Hydra builds anything of it.

A file may come from somebody else. It cannot expand without bound, and it can read environment
variables only into names of folders, since every other setting is written down with the run.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bnrepro import reading
from bnrepro.errors import ConfigError, UnreadableError

FOLDER_KEYS = ("root", "dir")
"""Last parts of the settings that name a folder: dataset.root, run.dir, sweep.dir."""

_ENVIRONMENT = re.compile(r"oc\.env|\$\{[^}]*\$\{[^}]*\}[^}]*:")  # also a built resolver's name
_GLOBAL = re.compile(r"\s*#\s*@package\s+_global_\s*$", re.MULTILINE)


def check(path: Path, name: str) -> None:
    """Refuse a file that holds what a file of configuration may not.

    Args:
        path: the file.
        name: its name below the folder of configurations, such as `experiment/fig1`.

    Raises:
        ConfigError: one line on what is wrong.
    """
    try:
        text = reading.read_text(path, reading.YAML_BYTES)
        values = reading.read_yaml(path)
    except UnreadableError as error:
        raise ConfigError(f"not readable: {error.why} ({path}): mend that file") from error
    if name.startswith("experiment/") and not _GLOBAL.search(text):
        raise ConfigError(
            f"an experiment's first line has to be '# @package _global_' ({path}): write it there"
        )
    for key, value in _texts(values):
        if _ENVIRONMENT.search(value) and key not in FOLDER_KEYS:
            raise ConfigError(
                f"an environment variable in '{key}' ({path}): a file may name one in "
                f"{' and '.join(FOLDER_KEYS)} only, since the rest is written down with the run"
            )


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a tree, with the last key above it."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node
