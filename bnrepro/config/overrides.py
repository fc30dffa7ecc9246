"""What may be typed as an override, and how Hydra gets it."""

import filecmp
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from bnrepro.config import hydra
from bnrepro.config.options import conf_dir, options_of
from bnrepro.config.schema import OPTIONS, TEXT
from bnrepro.errors import ConfigError
from bnrepro.reading import is_unicode

LONGEST = 10_000
"""Characters of one override: Hydra's parser takes seconds for more, and then minutes."""


def prepare(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """The overrides as Hydra gets them: text stays text, and the user's own folder is searched.

    Raises:
        ConfigError: the folder is missing, or holds a file that Hydra would never read.
    """
    for word in overrides:
        if len(word) > LONGEST:
            raise ConfigError(f"too long ({word[:60]}…): give at most {LONGEST:,} characters")
        if not is_unicode(word):
            raise ConfigError(f"not UTF-8 ({word}): give text")
        if word.lstrip("+~").startswith("hydra.searchpath"):
            raise ConfigError(f"not taken ({word[:80]}): give the folder by --config-dir DIR")
    words = [_quote_text(word) for word in overrides]
    if config_dir is None:
        return words
    if not config_dir.is_dir():
        raise ConfigError(f"no such folder ({config_dir}): --config-dir takes a folder")
    _refuse_shadowed(config_dir)
    return [*words, f"hydra.searchpath=[{hydra.quoted(f'file://{config_dir.resolve()}')}]"]


def _quote_text(word: str) -> str:
    """`KEY=VALUE`, the value of a text setting in quotes where Hydra would read it as a number.

    A folder called 2026_11_26 would become 20261126, and 1e3 would become 1000.0.
    """
    key, _, value = word.partition("=")
    if key.lstrip("+") not in TEXT:
        return word
    if value.startswith("~"):  # a home folder, which Hydra's grammar has no place for
        return f"{key}={hydra.quoted(value)}"
    if not re.fullmatch(r"[\w./+,\[\]-]+", value):
        return word
    return f"{key}=" + re.sub(r"[\w./+-]+", lambda bare: _as_text(bare[0]), value)


def _as_text(value: str) -> str:
    """A bare value, in quotes unless Hydra reads it as text or null by itself."""
    return value if hydra.is_text(value) else hydra.quoted(value)


def _refuse_shadowed(config_dir: Path) -> None:
    """Hydra reads the first file of a name that it finds, and a packaged one comes first."""
    for root in (conf_dir(), Path(str(files("hydra.conf")))):
        for packaged in sorted(root.rglob("*.yaml")):
            users = config_dir / packaged.relative_to(root)
            if users.is_file() and not filecmp.cmp(users, packaged, shallow=False):
                raise ConfigError(
                    f"the packaged {packaged} would be read in place of your file ({users}): "
                    "give yours another name"
                )


ELSEWHERE = {
    "train": {
        "sweep.dir": "the folder of one run is run.dir=DIR",
        "hydra/launcher": "one run is made here, 'bnrepro sweep' takes launchers",
        "hydra.launcher": "one run is made here, 'bnrepro sweep' takes launchers",
        "hydra.sweeper": "'bnrepro sweep' takes several values",
    },
    "sweep": {"run.dir": "the folder of a sweep is sweep.dir=DIR"},
}
"""Settings that one command has no use for, and what to do instead."""


def refuse_elsewhere(command: str, overrides: Sequence[str]) -> None:
    """Refuse what another command would heed and this one would drop.

    Raises:
        ConfigError: naming the setting, and what to give instead.
    """
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        for name, instead in ELSEWHERE[command].items():
            if f"{key}.".startswith(f"{name}."):
                raise ConfigError(f"not a setting of 'bnrepro {command}' ({word[:80]}): {instead}")


def refuse_odd_words(overrides: Sequence[str]) -> None:
    """Refuse words that Hydra answers with what nobody typed."""
    groups = {**OPTIONS, "experiment": ()}
    for word in overrides:
        key, equals, value = word.lstrip("+~").partition("=")
        if word.startswith("~"):
            if key in OPTIONS:
                names = ", ".join(options_of(key))
                raise ConfigError(f"a group cannot be left out ({word}): choose one of {names}")
            if not key.startswith(("hydra", "experiment")):
                raise ConfigError(f"a setting cannot be left out ({word}): give one ({key}=…)")
        elif not equals:
            raise ConfigError(f"no value ({word}): write KEY=VALUE, such as seed=1")
        elif key in groups and word.startswith("+"):
            raise ConfigError(f"one is chosen already ({word}): write {key}={value}")
        elif key == "norm" and value.lower() in ("null", "false"):
            raise ConfigError(f"no option ({word}): write norm=none")
        elif key == "experiment" and value.lower() in ("null", "none", ""):
            raise ConfigError(f"no experiment ({word}): leave it out")
        elif key in groups and value.lower() == "null":
            raise ConfigError(f"no option ({word}): choose one of {', '.join(options_of(key))}")
