"""The claims, a file each: its name is the claim's id, with `-` for `_`.

A file whose name begins with `_` is none. Nothing lists them: they are found in this folder.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

from bnrepro.config import unknown
from bnrepro.errors import ConfigError
from bnrepro.evidence.claim import Claim


def ids() -> list[str]:
    """The ids of all claims, sorted."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))


def load(claim: str) -> Claim:
    """A claim by its id.

    Raises:
        ConfigError: there is none of that name.
    """
    if claim not in ids():
        raise ConfigError(_unknown(claim))
    found = importlib.import_module(f"{__name__}.{claim.replace('-', '_')}").CLAIM
    assert isinstance(found, Claim)
    return found


def _unknown(claim: str) -> str:
    figure = re.fullmatch(r"fig(?:ure)?[-_. ]*(\d)\w?", claim.lower())
    about = []
    if figure:
        about = [name for name in ids() if f"Fig. {figure[1]}" in load(name).section]
    if figure and about:
        return f"unknown claim '{claim}': Fig. {figure[1]} is in {', '.join(about)}"
    return f"{unknown('claim', claim, ids())} ('bnrepro claims' lists all)"
