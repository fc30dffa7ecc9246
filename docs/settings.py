"""Write settings.md, the list of all settings, from the schema and the files of default values.

    python docs/settings.py

A test compares the page with what this makes of the code.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from bnrepro.config import OPTIONS, STUDIES, Config, conf_dir, flat, options_of, shown
from bnrepro.config.compose import compose
from bnrepro.config.options import defaults
from bnrepro.config.schema import Limit
from bnrepro.reading import read_yaml

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Every setting

Made by `python docs/settings.py` from the schema (`bnrepro/config/schema.py`) and the default
values (`conf/`): change those, not this page. [configuration.md](configuration.md) tells how
settings are given, and `bnrepro train --cfg job` prints those of a run before it is made.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Experiments\n", *_experiments()]
    for group in OPTIONS:
        parts.append(f"## {group}\n")
        for name, entry in options_of(group).items():
            if entry.package is None:  # what others bring is theirs to describe
                path = defaults(group, name, entry)
                parts.append(f"### {group}={name}\n\n{_docstring(entry.settings)}\n")
                values = {key: value for key, value in read_yaml(path).items() if key != "name"}
                parts.append(_table(group, entry.settings, values, _comments(path)))
    values, comments = _composed(), _comments(conf_dir() / "config.yaml")
    parts.append("## The run itself\n")
    sections = [f for f in dataclasses.fields(Config) if f.name not in OPTIONS]
    plain = {f.name: values[f.name] for f in sections if f.name in values}
    parts.append(_table("", Config, plain, comments))
    for field in sections:
        if field.name not in values:
            settings = get_type_hints(Config)[field.name]
            prefix = f"{field.name}."
            own = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
            told = {k.removeprefix(prefix): v for k, v in comments.items() if k.startswith(prefix)}
            parts.append(f"## {field.name}\n\n{_docstring(settings)}\n")
            parts.append(_table(field.name, settings, own, told))
    return "\n".join(parts)


def _experiments() -> Iterator[str]:
    yield "| `experiment=` | what it is |\n| --- | --- |"
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        comment = "\n".join(re.findall(r"^# (?!@)(.*)", text, re.MULTILINE))
        comment = re.sub(r"[:.]?(\n  .*)+", ".", comment)  # without its commands
        linked = re.sub(r"\(docs/(\w+\.md)\)", r"([\1](\1))", _prose(comment.replace("\n", " ")))
        yield f"| `{path.stem}` | {linked} |"
    yield ""


def _prose(text: str) -> str:
    """Text in whose file patterns Markdown sees no emphasis; in code there is none to see."""
    parts = re.split("(`[^`]*`)", text)
    plain = (part if part.startswith("`") else part.replace("*", r"\*") for part in parts)
    return "".join(plain).replace("|", r"\|")


def _composed() -> dict[str, Any]:
    """The settings outside of groups, by dotted names, with the values of `conf/config.yaml`."""
    config = dataclasses.asdict(compose([]).config)
    return flat({name: value for name, value in config.items() if name not in OPTIONS})


def _docstring(settings: type) -> str:
    return _prose(inspect.cleandoc(settings.__doc__ or ""))


def _comments(path: Path) -> dict[str, str]:
    """What a file of default values says of each setting, at the end of its line."""
    told, section = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"( *)(\w+):(?: +(?!#)(?:\[.*?\]|\S+))?(?: +# (.*))?$", line):
            indent, key, comment = match.groups()
            section = section if indent else key
            told[f"{section}.{key}" if indent else key] = comment or ""
    return told


def _table(
    prefix: str, settings: type, values: Mapping[str, Any], comments: Mapping[str, str]
) -> str:
    """The settings of a dataclass: name, default, limits, and what each is."""
    if not values:
        return "No settings.\n"
    hints = get_type_hints(settings, include_extras=True)
    rows = ["| setting | default | may be | |", "| --- | --- | --- | --- |"]
    for name, value in values.items():
        typed = f"{prefix}.{name}" if prefix else name
        allowed = _allowed(hints[name], name)
        comment = _prose(comments.get(name, ""))
        rows.append(f"| `{typed}` | `{shown(value)}` | {allowed} | {comment} |")
    return "\n".join([*rows, ""])


def _allowed(hint: Any, name: str) -> str:
    """What a setting may be, in words, from its type and its limit."""
    limit = None
    if get_origin(hint) is typing.Annotated:
        hint, *notes = get_args(hint)
        limit = next((note for note in notes if isinstance(note, Limit)), None)
    kinds = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(kind for kind in kinds if kind is not type(None))
    words = f"{_kind(kind, name)}" if limit is None else _limited(kind, limit.allowed)
    optional = type(None) in kinds and "null" not in words
    return f"{words}, or `null`" if optional else words.replace("or null", "or `null`")


def _limited(kind: type, allowed: str) -> str:
    if kind is int and not allowed.startswith("a "):
        return f"a whole number, {allowed}"
    if kind is float and not allowed.startswith("a "):
        return f"a number {allowed}" if allowed.startswith("in ") else f"a number, {allowed}"
    return allowed


def _kind(kind: Any, name: str) -> str:
    if kind is bool:
        return "`true` or `false`"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if name == "studies":
        return f"a list of {', '.join(f'`{study}`' for study in STUDIES)}"
    return {int: "a whole number", float: "a number", str: "text", list[str]: "a list of names"}[
        kind
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
