"""A claim's registration: what changes it, and the first commit that yields it."""

import subprocess
from pathlib import Path

import pytest

from bnrepro import claims
from bnrepro.evidence import registration
from bnrepro.evidence.registration import criterion_digest

SOURCE = Path(str(claims.source("less-dropout").path)).read_text(encoding="utf-8")


def digest(old: str, new: str) -> str:
    changed = SOURCE.replace(old, new)
    assert changed != SOURCE, old
    return criterion_digest(changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""§', '"""The paper, §'),
        ("DROPOUTS = ", "# a comment\nDROPOUTS = "),
        ("statement=", "statement=  "),
        ("images of MNIST", "pictures of MNIST"),
        ("evidence: Evidence", "evidence: 'Evidence'"),
    ],
)
def test_other_words_are_the_same_criterion(old: str, new: str) -> None:
    assert digest(old, new) == criterion_digest(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Margin(0.0,", "Margin(0.1,"),
        ("train.steps=2000", "train.steps=4000"),
        ("dataset.limit=5120", "dataset.limit=2560"),
        ("gain.sel(norm=", "-gain.sel(norm="),
    ],
)
def test_another_criterion_has_another_digest(old: str, new: str) -> None:
    assert digest(old, new) != criterion_digest(SOURCE)


def test_a_text_with_values_in_it_may_be_worded_otherwise_too() -> None:
    def digest(text: str) -> str:
        return criterion_digest(f"x = {text}")

    assert digest("f'{a} of them'") == digest("f'it is {a}, or so'") == digest("f'{a}'")
    assert digest("f'{a}_z'") != digest("f'{a}'") != digest("f'{b} of them'")


def test_what_computes_an_effect_is_part_of_it() -> None:
    """The claim's file, the judge, and what they import: all of the room but what only shows."""
    rooms = {name: registration.PACKAGE / name for name in ("claims", "evidence")}
    paths = [path for claim in claims.ids() if (path := claims.source(claim).path)]
    reached = {path: registration.reached(path) for path in paths}
    assert all({path, registration.JUDGE} <= {*files} for path, files in reached.items())
    shown = {f"evidence/{name}" for name in registration.SHOWN}
    about = {"evidence/registration.py", "evidence/__init__.py", "claims/__init__.py"}
    assert {
        path.relative_to(registration.PACKAGE).as_posix()
        for room in rooms.values()
        for path in {*room.rglob("*.py")} - {file for files in reached.values() for file in files}
    } == shown | about


EVIDENCE = {
    "judge": "from bnrepro.evidence import stats\nBOUND = 1\ndef judge(): stats.low(BOUND)\n",
    "stats": "def low(x): return _half(x)\ndef _half(x): return x / 2\ndef high(x): return x\n",
    "grid": "STEP = 3\ndef grid(): return STEP\ndef shown(): return 4\nlist.append([], 1)\n",
    "exhibits": "def curves(): return 5\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both rooms, small."""
    for name, text in EVIDENCE.items():
        write(tmp_path / "evidence" / f"{name}.py", text)
    write(tmp_path / "claims" / "other.py", "CLAIM = 6\n")
    monkeypatch.setattr(registration, "PACKAGE", tmp_path)
    monkeypatch.setattr(registration, "JUDGE", tmp_path / "evidence" / "judge.py")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


MINE = """
from bnrepro.evidence import exhibits
from bnrepro.evidence.grid import grid, shown
ARMS = grid()
def drawn(): return shown() + exhibits.curves()
CLAIM = Claim(ARMS, exhibits=drawn())
"""


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("claims/mine", "Claim(ARMS", "Claim(-ARMS"),
        ("claims/mine", "ARMS = grid()", "ARMS = -grid()"),
        ("evidence/grid", "STEP = 3", "STEP = 30"),
        ("evidence/grid", "return STEP", "return -STEP"),
        ("evidence/grid", "list.append([], 1)", "list.append([], 2)"),
        ("evidence/judge", "BOUND = 1", "BOUND = 2"),
        ("evidence/stats", "x / 2", "x / 3"),
    ],
)
def test_what_a_claim_is_made_of_is_part_of_it(
    package: Path, file: str, old: str, new: str
) -> None:
    assert changed_by(package, file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("claims/mine", "return shown()", "return 2 * shown()"),
        ("claims/mine", "exhibits=drawn()", "exhibits=None"),
        ("claims/mine", "ARMS = grid()", "MORE = 1\nARMS = grid()"),
        ("claims/other", "6", "7"),
        ("evidence/grid", "return 4", "return 40"),
        ("evidence/grid", "STEP = 3", "OTHER = 2\nSTEP = 3"),
        ("evidence/stats", "def high(x): return x\n", ""),
        ("evidence/exhibits", "5", "50"),
    ],
)
def test_what_it_is_not_made_of_may_change(package: Path, file: str, old: str, new: str) -> None:
    assert not changed_by(package, file, old, new)


def changed_by(package: Path, file: str, old: str, new: str) -> bool:
    """Whether another text in one file changes the digest of a claim."""
    mine, at = package / "claims" / "mine.py", package / f"{file}.py"
    mine.write_text(MINE)
    before, text = registration.digest_of(mine), at.read_text()
    assert old in text
    at.write_text(text.replace(old, new))
    return registration.digest_of(mine) != before


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("from bnrepro.evidence import grid\nCLAIM = grid.grid", "grid, STEP"),
        ("from bnrepro.evidence import grid\nCLAIM = dir(grid)", "grid, STEP, shown"),
        ("from bnrepro.evidence.grid import grid as g\nCLAIM = g()", "grid, STEP"),
        ("import bnrepro.evidence.grid as g\nCLAIM = g.shown", "grid, STEP, shown"),
        ("def f():\n    from bnrepro.evidence.grid import shown\n    shown()\nCLAIM = f", "shown"),
        ("from bnrepro.evidence.grid import shown\nCLAIM = 1", ""),
        ("from bnrepro.store import grid\nimport grid as g\nCLAIM = grid.grid + g.grid", ""),
    ],
)
def test_a_definition_is_found_however_it_is_imported(
    package: Path, lines: str, found: str
) -> None:
    path = package / "mine.py"
    path.write_text(f"{lines}\n")
    reached = registration.reached(path)
    assert reached.get(package / "evidence" / "grid.py", set()) == {*found.split(", ")} - {""}


class History:
    """A checkout whose first file is a claim's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str) -> str:
        user = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        line = ["git", "-C", str(self.folder), *user, *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, **texts: str) -> str:
        for name, text in texts.items():
            (self.folder / f"{name}.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "one more", "--allow-empty")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def history(tmp_path: Path) -> History:
    made = History(tmp_path)
    made.git("init", "-q")
    return made


def test_the_commit_is_the_first_that_yields_the_digest(history: History) -> None:
    path = history.folder / "claim.py"
    path.write_text("CLAIM = 1\n")
    assert registration.registration(path).sha is None
    history.commit(claim="CLAIM = 1\n")
    first = history.commit(claim='CLAIM = 2\nTEXT = "a criterion"\n')
    history.commit(claim='CLAIM = 2  # as before\nTEXT = "another wording"\n')
    found = registration.registration(path)
    assert found.sha == first
    assert found.date == history.git("log", "-1", "--format=%cs", first)
    path.write_text("CLAIM = 3\n")
    assert registration.registration(path).sha is None
    last = history.commit(claim="CLAIM = 1\n")  # as at first, but not since then
    assert registration.registration(path).sha == last


def test_a_file_may_be_moved_and_renamed(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(path: Path) -> dict[Path, frozenset[str]]:
        return dict.fromkeys((path, history.folder / helper), frozenset({"CLAIM"}))

    monkeypatch.setattr(registration, "reached", reached)
    helper, text = "helper.py", "CLAIM = 2\n"
    history.commit(helper="CLAIM = 0\n", other="y = 1\n")
    history.commit(claim="CLAIM = 1\n")
    first = history.commit(claim=text)
    history.commit(other="y = 2\n")
    (history.folder / "rooms").mkdir()
    history.git("mv", "claim.py", "rooms/renamed.py")
    history.commit(other="y = 3\n")
    (history.folder / "rooms" / "renamed.py").write_text(f'"""Other words."""\n\n{text}')
    history.git("mv", "helper.py", "rooms/helper.py")
    helper = "rooms/helper.py"
    history.commit()
    assert registration.registration(history.folder / "rooms" / "renamed.py").sha == first
    history.git("mv", "rooms/renamed.py", "last.py")
    last = history.commit(last="CLAIM = 3\n")  # what is moved and changed begins anew
    assert registration.registration(history.folder / "last.py").sha == last


def test_a_file_that_has_stood_since_the_first_of_all_commits(history: History) -> None:
    first = history.commit(claim="CLAIM = 1\n")
    history.commit(other="y = 1\n")
    assert registration.registration(history.folder / "claim.py").sha == first
