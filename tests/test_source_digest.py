"""A digest of sources: of what they compute, not of how they say it."""

import pytest

from bnrepro.store.source_digest import source_digest as digest

SOURCE = """
import torch
from bnrepro.errors import ConfigError

RATE: float = 0.1

class Layer:
    size: int = 3

def mean(values, scale=2):
    total = sum(values)
    def shifted(by):
        return total * scale - by
    try:
        return shifted(RATE) / len(values)
    except ZeroDivisionError as error:
        raise ConfigError("nothing") from error
"""
SAME = {
    "a docstring": ("def mean(values, scale=2):", 'def mean(values, scale=2):\n    """It."""'),
    "a text after a constant": ("= 0.1", '= 0.1\n"""Of steps."""'),
    "a comment": ("size: int = 3", "size: int = 3  # of it"),
    "an annotation": ("(values, scale=2)", "(values: list[float], scale: int = 2) -> float"),
    "an annotation of a local": ("total =", "total: float ="),
    "an import": ("import torch", "import torch\nfrom bnrepro import store"),
    "imports for types": ("RATE:", "if TYPE_CHECKING:\n    import x\nRATE:"),
    "the name of a local": ("total", "all_of_them"),
    "the name of an argument": ("values", "numbers"),
    "the name of a function within": ("shifted", "moved"),
    "the name of an error": ("as error", "as problem", "from error", "from problem"),
    "the form": ("mean(values, scale=2)", "mean(\n    values,\n    scale=2,\n)"),
}
OTHER = {
    "a sign": ("scale - by", "scale + by"),
    "a number": ("0.1", "0.2"),
    "a default": ("scale=2", "scale=3"),
    "a field": ("size: int", "size: float"),
    "a function": ("len(", "max("),
    "a text": ("nothing", "none"),
    "two locals that change places": ("total * scale", "scale * total"),
}


def changed(*pairs: str) -> str:
    source = SOURCE
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("what", SAME)
def test_wording_changes_nothing(what: str) -> None:
    assert digest([changed(*SAME[what])]) == digest([SOURCE])


@pytest.mark.parametrize("what", OTHER)
def test_what_is_computed_changes_it(what: str) -> None:
    assert digest([changed(*OTHER[what])]) != digest([SOURCE])


def test_files_may_change_places() -> None:
    assert digest([SOURCE, "x = 1"]) == digest(["x = 1", SOURCE]) != digest([SOURCE])
