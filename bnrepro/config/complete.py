"""What a word on the command line may become."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from bnrepro.config import hydra
from bnrepro.config.compose import compose_config, parse
from bnrepro.config.schema import STUDIES
from bnrepro.errors import ConfigError


def complete(words: Sequence[str], word: str) -> list[str]:
    """What a word may become after other words: groups, options, settings, values.

    Of values with commas between them, which a sweep takes, it is the last that is completed.
    """
    words = [other for other in words if "=" in other and "," not in other]
    key, equals, value = word.partition("=")
    before, comma, _ = value.rpartition(",")
    asked = f"{key}=" if comma else word
    with hydra.context("complete"):
        answers = [] if asked.startswith("hydra") else hydra.completions(words, asked)
        known = _known_values(key, words) if equals else []
        launchers = hydra.group_options("hydra/launcher")
    if key == "hydra/launcher":
        known = sorted({*launchers, *hydra.LAUNCHERS})
    start = f"{key}={before}{comma}"
    if known or comma:
        given = before.split(",")
        rest = known or [answer.partition("=")[2] for answer in answers]
        answers = [f"{start}{option}" for option in rest if option not in given]
    return [answer for answer in answers if answer.startswith(word)]


def _known_values(key: str, words: Sequence[str]) -> list[str]:
    """The values of a setting that has but a few."""
    if key == "studies":
        return [f"[{study}]" for study in STUDIES]
    try:
        value: Any = parse(compose_config(words))
        for name in key.lstrip("+").split("."):
            value = getattr(value, name)
    except (ConfigError, AttributeError):  # what was typed before does not work: nothing to offer
        return []
    if isinstance(value, bool):
        return ["false", "true"]
    return [option.value for option in type(value)] if isinstance(value, Enum) else []
