"""Small files that may hold anything give a tree of plain values or one error, at once."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrepro import reading
from bnrepro.errors import UnreadableError

DEEP = reading.DEPTH

GOOD: list[Any] = [
    None,
    {},
    {"a": [1, -2.5, True, None, "ä🙂"], "b": {"c": []}, "seed": 2**63 - 1},
    "text",
]


@pytest.mark.parametrize("value", GOOD)
def test_written_files_read_back(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps(value))
    assert reading.read_json(path) == value
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", "utf-8")
    assert reading.read_json(path) == value
    assert reading.read_yaml(path) == value
    path.write_text("".join(json.dumps(one) + "\n" for one in GOOD))
    assert reading.read_json_lines(path) == GOOD


@pytest.mark.parametrize("read", [reading.read_json, reading.read_yaml, reading.read_bytes])
def test_a_file_that_is_not_there(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link", "folder/file"):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / name)


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(2**40)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "regular": os.mkfifo,
    "regular ": lambda path: path.symlink_to("/dev/zero"),
    "regular  ": lambda path: path.mkdir(),
    "larger than": sparse,
    "symbolic links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("read", [reading.read_json, reading.read_yaml, reading.read_bytes])
@pytest.mark.parametrize("why", NO_FILES)
def test_a_pipe_or_a_huge_file_is_refused_at_once(
    tmp_path: Path, why: str, read: Callable[[Path], Any]
) -> None:
    path = tmp_path / "x.json"
    NO_FILES[why](path)
    with pytest.raises(UnreadableError, match=why.strip()) as caught:
        read(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)


NO_JSON = {
    "": "Expecting value",
    "{": "Expecting property name",
    "[" * 10_000: "nested deeper",
    '{"a":' * 10_000 + "1" + "}" * 10_000: "nested deeper",
    "[" * (DEEP + 2) + "]" * (DEEP + 2): "nested deeper",
    str(2**70): "64 bits",
    "9" * 5000: "digits",
    "[1e400]": "not finite",
    "NaN": "not finite",
    '["\\ud800"]': "not Unicode",
    '{"\\ud800": 1}': "not text",
}


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:20])
def test_json_that_cannot_be_used_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UnreadableError, match=NO_JSON[text]) as caught:
        reading.read_json(path)
    assert len(str(caught.value).splitlines()) == 1


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
NO_YAML = {
    "a: [": "node content",
    "%": "expected",
    "a: \0": "not allowed",
    "[" * 10_000: "nest",
    "- " * 10_000: "nest",
    LAUGHS: "alias",
    "&a [*a]": "alias",
    "1:" * 400_000 + "1": "digits",
    f"!!int '{'1:' * 400_000}1'": "digits",
    "0x" + "f" * 100_000: "64 bits",
    "9" * 5000: "digits",
    ".inf": "not finite",
    "2020-13-01": "month",
    "2020-12-01": "date",
    "1: 2": "not text",
    "[a]: 2": "unhashable",
    "!!python/object/apply:os.system [ls]": "constructor",
    "!!binary eA==": "bytes",
    "!!set {a}": "set",
}


@pytest.mark.parametrize("text", NO_YAML, ids=lambda text: text[:20])
def test_yaml_that_cannot_be_used_is_one_line(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    path = tmp_path / "x.yaml"
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(UnreadableError, match=NO_YAML[text]) as caught:
            reading.read_yaml(path)
        assert len(str(caught.value).splitlines()) == 1
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)  # a PyYAML without libyaml


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'{"a": "\xff"}')
    for read in (reading.read_json, reading.read_yaml, reading.read_text, reading.read_json_lines):
        with pytest.raises(UnreadableError, match="not UTF-8 at byte 7"):
            read(path)


def test_a_limit_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("few bytes")
    assert reading.read_text(path, 2**62) == "few bytes"
