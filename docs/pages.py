"""What the site has and this folder has not: a hook of MkDocs, named in mkdocs.yml.

README is its first page, sources that pages link to are pages of their own, links to the report go
to its page as it is, and what claims leave open is gathered from them.
"""

import os.path
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

from bnrepro import claims

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)((?:#[^)\s]*)?)(?=\))")

FIRST = "index.md"
REPORT = "docs/results/report.md"
THE_REPORT = """# The report

[The report](results/report.html) is one page that is whole in itself: every claim with its
verdict, what the paper says, figures, and why a claim did not hold.
[`results.json`](results/results.json) has its numbers. [How claims are judged](judging.md) tells
the rules.
"""
CHOICES = """# What the paper leaves open, and what we chose

From each claim, as `bnrepro claims CLAIM` prints it. [Fig. 1](fig1.md) and [CIFAR-10](cifar10.md)
tell how learning rate and initial weights were chosen.
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made, and of every page those that it links to."""
    made = {FIRST: _text("README.md"), "the-report.md": THE_REPORT, "choices.md": _choices()}
    waiting = [("README.md", made[FIRST])]
    for file in files.documentation_pages():
        waiting.append((f"docs/{file.src_uri}", file.content_string))
    while waiting:
        origin, text = waiting.pop()
        for target in _targets(origin, text):
            if not target.startswith("docs/") and _uri(target) not in made:
                made[_uri(target)] = content = _source(target)
                waiting.append((_origin(_uri(target)), content))
    for uri, content in made.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let each link go to where its target is on the site."""
    origin, folder = _origin(page.file.src_uri), os.path.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = _target(origin, link[1])
        if target is None:
            return link[0]
        uri = os.path.relpath(_uri(target), folder or ".")
        return f"{uri}{link[2]}"

    return LINK.sub(moved, markdown)


def _origin(uri: str) -> str:
    """The file of the checkout that a page stands for."""
    if uri == FIRST:
        return "README.md"
    if uri.startswith("source/"):
        path = uri.removeprefix("source/")
        return path if (ROOT / path).is_file() else path.removesuffix(".md")
    return f"docs/{uri}"


def _uri(target: str) -> str:
    """The place on the site of a file or folder of the checkout."""
    if target == REPORT:
        return "results/report.html"
    if target == "README.md":
        return FIRST
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    place = f"source/{target.lstrip('.')}"  # MkDocs passes over names that begin with a dot
    return place if target.endswith(".md") else f"{place}.md"


def _target(origin: str, link: str) -> str | None:
    """The file or folder of the checkout that a page links to; None if it is none."""
    path = os.path.normpath(PurePosixPath(origin).parent / link)
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _targets(origin: str, text: str) -> list[str]:
    found = (_target(origin, link[1]) for link in LINK.finditer(text))
    return [target for target in found if target is not None]


def _source(target: str) -> str:
    """A page that shows a file, or lists what a folder holds."""
    path = ROOT / target
    if target.endswith(".md"):
        return _text(target)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".py", ".yaml", ".csv"))
        lines = [f"- [{file.name}]({path.name}/{file.name})" for file in files]
        return "\n".join([f"# {target}/", "", *lines, ""])
    return f"# {target}\n\n``````{path.suffix[1:]}\n{_text(target)}``````\n"


def _choices() -> str:
    parts = [CHOICES]
    for name in claims.ids():
        claim = claims.load(name)
        told = (claim.statement, f"The paper: {claim.paper_says}", f"Open: {claim.unspecified}")
        parts += [f"## {name} ({claim.section})", *map(_prose, told)]
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> str:
    """Text with nothing in it that Markdown takes for its own."""
    return re.sub(r"([\\`*_<>\[\]|#~])", r"\\\1", text)


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
