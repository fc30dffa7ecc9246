"""Short runs of every kind compute what they always did, or the results number is another."""

import json
from pathlib import Path
from typing import Any

import golden
import pytest

from bnrepro.config import RESULTS_NUMBER
from bnrepro.training import optim

STORED: dict[str, Any] = json.loads(golden.FILE.read_text())


@pytest.mark.parametrize("kind", golden.KINDS)
def test_runs_compute_what_their_results_number_says(kind: str, tmp_path: Path) -> None:
    found = golden.computed(tmp_path, golden.KINDS[kind])
    assert golden.unlike(found, STORED["kinds"][kind]) == [], (
        "runs have other numbers: if they are meant to, raise config.RESULTS_NUMBER "
        "and run python tests/golden.py"
    )


def test_the_stored_numbers_are_those_of_the_results_number() -> None:
    assert STORED["results"] == RESULTS_NUMBER
    assert set(STORED["kinds"]) == set(golden.KINDS)


def test_a_wrong_sign_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = optim.Sgd.step
    monkeypatch.setattr(optim.Sgd, "step", lambda self, lr: step(self, -lr))
    found = golden.computed(tmp_path, golden.KINDS["batch"])
    assert "train_loss" in golden.unlike(found, STORED["kinds"]["batch"])
