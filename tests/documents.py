"""What the documentation holds: its files, their commands, their links and anchors."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from conftest import ROOT
from markdown_it import MarkdownIt
from markdown_it.token import Token

FILES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
FILES += sorted((ROOT / "docs").rglob("*.md"))

PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|\||\$")
"""What stands for something else: KEY=VALUE, DIR, `smoke|short|paper`, `$seed`."""


def tokens(path: Path) -> list[Token]:
    """The document's blocks, and what is in their lines."""
    parser = MarkdownIt("commonmark").enable("table")
    blocks = parser.parse(path.read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block, *(block.children or ()))]


def blocks(path: Path, language: str = "") -> list[str]:
    """The fenced blocks of a language, as they stand."""
    return [t.content for t in tokens(path) if t.type == "fence" and t.info.strip() == language]


def commands(path: Path) -> Iterator[str]:
    """Every `bnrepro …` that could be typed as it stands, in blocks and in lines."""
    for token in tokens(path):
        lines: list[str] = []
        if token.type in ("fence", "code_block"):
            lines = token.content.replace("\\\n", " ").splitlines()
        elif token.type == "code_inline":
            lines = [" ".join(token.content.split())]
        for line in lines:
            words = line.partition(" #")[0].partition(" && bnrepro ")
            text = f"bnrepro {words[2]}" if words[2] else words[0]
            text = text.strip()
            if text.startswith("bnrepro ") and not PLACEHOLDER.search(text):
                yield text


def words(command: str) -> list[str]:
    """What follows `bnrepro`."""
    return shlex.split(command)[1:]


def links(path: Path) -> list[str]:
    """Where links and pictures go."""
    return [
        str(token.attrGet("href") or token.attrGet("src"))
        for token in tokens(path)
        if token.type in ("link_open", "image")
    ]


@cache
def anchors(path: Path) -> set[str]:
    """The names of a document's headings, as code hosts make them."""
    found: dict[str, int] = {}
    result = set()
    every = tokens(path)
    for token, content in pairwise(every):
        if token.type == "heading_open":
            text = "".join(
                child.content for child in content.children or () if child.type != "image"
            )
            name = "".join(
                letter for letter in text.lower()
                if letter in " -_" or unicodedata.category(letter)[0] in "LNM"
            ).replace(" ", "-")  # fmt: skip
            again = found.get(name, 0)
            found[name] = again + 1
            result.add(f"{name}-{again}" if again else name)
    return result
