"""docs/settings.md, the list of all settings, is what its script makes of the code."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from bnrepro import config as c
from bnrepro.config.compose import compose

PAGE = ROOT / "docs" / "settings.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settings", PAGE.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_code(script: ModuleType) -> None:
    assert PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/settings.py"


def rows() -> dict[str, list[list[str]]]:
    """The cells of every setting, once for each option that has it."""
    found: dict[str, list[list[str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `([\w.]+)` \| (.*) \|$", line):
            found.setdefault(match[1], []).append(match[2].split(" | "))
    return found


def test_every_setting_is_listed_with_a_default_limits_and_what_it_is() -> None:
    listed = rows()
    asked = {name for name in c.flat(c.to_dict(compose([]).config)) if not name.endswith(".name")}
    for group in c.OPTIONS:
        for option in c.options_of(group):
            settings = c.flat(c.to_dict(compose([f"{group}={option}"]).config))
            asked |= {name for name in settings if not name.endswith(".name")}
    assert asked <= listed.keys()
    for name in asked:
        for cells in listed[name]:
            assert len(cells) == 3, name
            assert all(cells), name


def test_the_defaults_are_those_that_are_composed() -> None:
    listed = rows()
    for name, value in c.flat(c.to_dict(compose([]).config)).items():
        if name.endswith(".name") or name == "dataset.root":  # which an environment variable sets
            continue
        said = [cells[0].strip("`") for cells in listed[name]]
        assert any(equals(text, value) for text in said), (name, value, said)


def equals(text: str, value: object) -> bool:
    """Whether a text of the page is a value as one types it."""
    return float(text) == value if isinstance(value, float) else text == c.shown(value)


def test_a_file_of_defaults_is_read_with_its_comments(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "a: 1 # one\nb: [1, 2] # two: #2\nc: # section\n  d: ${x,y}\n  e: null # last\n"
    )
    assert script._comments(path) == {
        "a": "one", "b": "two: #2", "c": "section", "c.d": "", "c.e": "last",
    }  # fmt: skip
