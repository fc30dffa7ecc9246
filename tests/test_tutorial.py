"""The tutorial, from its first command to its last, and README's first, as they stand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command, wait_for
from documents import blocks, commands, words
from test_dashboard import answer, served

TUTORIAL = ROOT / "docs" / "tutorial.md"


def steps() -> list[list[str]]:
    """The tutorial's commands, one by one."""
    lines = [line for block in blocks(TUTORIAL) for line in block.splitlines()]
    assert all(line.startswith("bnrepro ") for line in lines)
    return [words(line) for line in lines]


@pytest.mark.timeout(600)
def test_the_tutorial(
    tmp_path: Path,
    command: Command,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    [(path, claim)] = re.findall(r"^`([\w./]+)`:\n\n```python\n(.*?)^```", text, re.M | re.S)
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(claim)
    said = {}
    for step in steps():
        if step[0] == "tensorboard":
            with served(tmp_path / step[1]) as port:
                wait_for(lambda: len(json.loads(answer(port, "/data/runs").read())) == 2)
            continue
        done = command(*step)
        assert done.returncode == 0, (step, done.stderr)
        said[" ".join(step[:2])] = done.stdout
    assert "with-bn" in said["runs runs"]
    assert "without-bn" in said["runs runs"]
    assert "Repeat it:" in said["runs runs/with-bn"]
    assert "norm.name" in said["compare runs/with-bn"]
    assert (tmp_path / "rates" / "sweep.png").is_file()
    found = json.loads((tmp_path / "verdict" / "results.json").read_text())["claims"]
    assert found["higher-rates"]["verdict"] == "REPRODUCED"
    assert (tmp_path / "verdict" / "report.html").is_file()

    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(TUTORIAL, "python"):
        exec(block, scope)
    assert len(scope["table"]) == 12
    assert "batch" in capfd.readouterr().out


def test_readme_leads_from_its_first_command_to_a_picture(tmp_path: Path, command: Command) -> None:
    first = next(line for line in commands(ROOT / "README.md") if line.startswith("bnrepro sweep"))
    assert f"pip install . && {first}\n" in blocks(ROOT / "README.md")[0]
    done = command(*words(first), "train.steps=60")  # as many as show that it works
    assert done.returncode == 0, done.stderr
    drawn = re.search(r"^draw it: (bnrepro .*)$", done.stdout, re.M)
    assert drawn is not None
    assert re.search(r"^look inside: bnrepro tensorboard /", done.stdout, re.M)
    assert command(*words(drawn[1])).returncode == 0
    assert len(list((tmp_path / "outputs").glob("*/sweep.png"))) == 1
