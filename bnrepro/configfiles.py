"""What a file of configuration may hold: checked before Hydra builds anything of it.

A file may come from somebody else. It cannot expand without bound, and it can read environment
variables only into names of folders, since every other setting is written down with the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

from bnrepro import reading
from bnrepro.errors import ConfigError, UnreadableError

FOLDER_KEYS = ("root", "dir")
"""Last parts of the settings that name a folder: dataset.root, run.dir, sweep.dir."""

_ENVIRONMENT = re.compile(r"oc\.env|\$\{[^}]*\$\{[^}]*\}[^}]*:")  # also a built resolver's name
_GLOBAL = re.compile(r"\s*#\s*@package\s+_global_\s*$", re.MULTILINE)


def install() -> None:
    """Have Hydra read files of configuration through the checks of this module."""
    from hydra._internal.sources_registry import SourcesRegistry

    Plugins.instance()  # registers Hydra's own sources, which ours then replaces
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of configuration files, each checked before it is loaded.

    It has the name of Hydra's own class: by its name a launcher's worker knows it for registered.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file.

        Raises:
            ConfigError: it holds what a file of configuration may not.
        """
        path = Path(self.path) / self._normalize_file_name(config_path)
        if path.exists():
            _check(path, config_path)
        return super().load_config(config_path)


def _check(path: Path, name: str) -> None:
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
