"""The documentation's map of the package leads to what it names."""

import re
from pathlib import Path

import bnrepro

PACKAGE = Path(bnrepro.__file__).parent
HOUSE = (Path(__file__).parents[1] / "docs" / "house.md").read_text(encoding="utf-8")
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_every_question_leads_to_a_file_that_defines_the_answer() -> None:
    rows = re.findall(r"^\| ([^|]+) \| (`.+`) \| (`\w+`.*) \|$", HOUSE, re.MULTILINE)
    assert len(rows) >= 20
    for question, files, names in rows:
        texts = [(PACKAGE / name).read_text() for name in re.findall(r"`(\S+)`", files)]
        for name, text in zip(re.findall(r"`(\w+)`", names), texts, strict=True):
            assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE), (question, name)


def test_the_tree_shows_every_room_and_every_file_at_the_top() -> None:
    rooms = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    files = {path.name for path in PACKAGE.glob("[a-z]*.py")}
    assert set(re.findall(r"^[├└]── (\S+)", HOUSE, re.MULTILINE)) == rooms | files
    assert len(rooms) == 10
    house = README[README.index("## The house") :]
    assert {f"{name}/" for name in re.findall(r"`(\w+)`", house)} == rooms


def test_a_file_says_first_what_it_is_about() -> None:
    for path in PACKAGE.rglob("*.py"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert re.match(r'""".{10,}', first), path
