"""Every row of `reliability.py` in its quick form; without --quick, that script is the full one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("reliability.py")
FIGURES = {
    "kills": r"1\d kills of",
    "commits": "old or new each time, no temporary file left",
    "steps": "45 resumes, 0 ULP off",
    "damage": "100 truncations and 1000 single bits .* all detected, the one before used each time",
    "configs": r"30\d random configurations and overrides: 0 tracebacks",
    "race": "1 winner, 23 exits 4",
    "sweep": "killed 2 times: every other member completed exactly once, the same rows",
    "commands": r"100 random command lines .* no traceback, no 70, no hang",
    "hostile": "20 folders that mean harm",
    "calls": "4 kills and 4 errors|needs strace",
}


@pytest.mark.parametrize("row", FIGURES)
def test_it_survives(row: str) -> None:
    line = [sys.executable, str(SCRIPT), row, "--quick"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(FIGURES[row], done.stdout), done.stdout


def test_every_row_is_tested() -> None:
    line = [sys.executable, str(SCRIPT), "none"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert f"choose from {', '.join(FIGURES)}" in done.stderr
