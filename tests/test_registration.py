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
    reached = {path: registration.sources(path) for path in paths}
    every = {registration.PACKAGE / "evidence" / "judge.py", *paths}
    assert all({path, registration.JUDGE} <= {*files} for path, files in reached.items())
    shown = {f"evidence/{name}" for name in registration.SHOWN}
    about = {"evidence/registration.py", "evidence/__init__.py", "claims/__init__.py"}
    assert {
        path.relative_to(registration.PACKAGE).as_posix()
        for room in rooms.values()
        for path in {*room.rglob("*.py")} - {file for files in reached.values() for file in files}
    } == shown | about
    assert every <= {file for files in reached.values() for file in files}


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from bnrepro.evidence import deep_arms, paper", "evidence/deep_arms.py"),
        ("from bnrepro.evidence.deep_arms import at_best", "evidence/deep_arms.py"),
        ("def f():\n    import bnrepro.evidence.deep_arms as arms", "evidence/deep_arms.py"),
        ("from bnrepro.evidence.paper import fig2", "evidence/paper/fig2.py"),
        ("from bnrepro.claims.less_dropout import CLAIM", "claims/less_dropout.py"),
        ("from bnrepro.store import run\nimport deep_arms\nfrom . import grid", ""),
        ("from bnrepro.evidence import literature\nfrom bnrepro.evidence.paper import TARGET", ""),
    ],
)
def test_a_module_that_a_claim_imports_is_part_of_it(
    tmp_path: Path, line: str, module: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{line}\n")
    files = registration.sources(path)
    assert files[0] == path
    judges = [file for file in registration.sources(registration.JUDGE) if file in files]
    assert len(judges) >= 4
    more = [file.relative_to(registration.PACKAGE).as_posix() for file in files[1:]]
    assert (module in more) if module else len(more) == len(judges)


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
    path.write_text("MARGIN = 1\n")
    assert registration.registration(path).sha is None
    history.commit(claim="MARGIN = 1\n")
    first = history.commit(claim='MARGIN = 2\nTEXT = "a criterion"\n')
    history.commit(claim='MARGIN = 2  # as before\nTEXT = "another wording"\n')
    found = registration.registration(path)
    assert found.sha == first
    assert found.date == history.git("log", "-1", "--format=%cs", first)
    path.write_text("MARGIN = 3\n")
    assert registration.registration(path).sha is None
    last = history.commit(claim="MARGIN = 1\n")  # as at first, but not since then
    assert registration.registration(path).sha == last


def test_a_file_may_be_moved_and_renamed(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "sources", lambda path: [path, history.folder / helper])
    helper, text = "helper.py", "MARGIN = 2\n"
    history.commit(helper="x = 1\n", other="y = 1\n")
    history.commit(claim="MARGIN = 1\n")
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
    last = history.commit(last="MARGIN = 3\n")  # what is moved and changed begins anew
    assert registration.registration(history.folder / "last.py").sha == last


def test_a_file_that_has_stood_since_the_first_of_all_commits(history: History) -> None:
    first = history.commit(claim="MARGIN = 1\n")
    history.commit(other="y = 1\n")
    assert registration.registration(history.folder / "claim.py").sha == first
