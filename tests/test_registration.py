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
    return criterion_digest([changed])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""§', '"""The paper, §'),
        ("STEPS = ", "# a comment\nSTEPS = "),
        ("statement=", "statement=  "),
        ("images of MNIST", "pictures of MNIST"),
        ("evidence: Evidence", "evidence: 'Evidence'"),
    ],
)
def test_other_words_are_the_same_criterion(old: str, new: str) -> None:
    assert digest(old, new) == criterion_digest([SOURCE])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Margin(0.0,", "Margin(0.1,"),
        ('"paper": 2500', '"paper": 5000'),
        ("dataset.limit=512", "dataset.limit=256"),
        ("gain.sel(norm=", "-gain.sel(norm="),
    ],
)
def test_another_criterion_has_another_digest(old: str, new: str) -> None:
    assert digest(old, new) != criterion_digest([SOURCE])


def test_a_text_with_values_in_it_may_be_worded_otherwise_too() -> None:
    def digest(text: str) -> str:
        return criterion_digest([f"x = {text}"])

    assert digest("f'{a} of them'") == digest("f'it is {a}, or so'") == digest("f'{a}'")
    assert digest("f'{a}_z'") != digest("f'{a}'") != digest("f'{b} of them'")


def test_what_computes_an_effect_is_part_of_it() -> None:
    folder = Path(registration.__file__).parent
    for name in registration.HELPERS:
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        assert criterion_digest([SOURCE, text]) != criterion_digest([SOURCE, f"{text}\nx = 1\n"])
    imported = {f"{name}.py" for name in registration.HELPERS}
    shown = {"exhibits.py", "literature.py", "paper/__init__.py"}
    assert imported | shown | {"registration.py", "__init__.py"} == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.py")
    }


def test_the_commit_is_the_first_that_yields_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        line = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run([*line, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def committed(text: str) -> str:
        path.write_text(text)
        git("add", ".")
        git("commit", "-qm", "one more")
        return git("rev-parse", "HEAD")

    monkeypatch.setattr(registration, "HELPERS", ())
    path = tmp_path / "claim.py"
    path.write_text("MARGIN = 1\n")
    assert registration.registration(path).sha is None
    git("init", "-q")
    assert registration.registration(path).sha is None
    committed("MARGIN = 1\n")
    first = committed('MARGIN = 2\nTEXT = "a criterion"\n')
    committed('MARGIN = 2  # as before\nTEXT = "another wording"\n')
    found = registration.registration(path)
    assert found.sha == first
    assert found.date == git("log", "-1", "--format=%cs", first)
    path.write_text("MARGIN = 3\n")
    assert registration.registration(path).sha is None
    last = committed("MARGIN = 1\n")  # as at first, but not since then
    assert registration.registration(path).sha == last
