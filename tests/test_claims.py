"""Every claim, over runs that nobody trained: planted effects, none, and runs taken away."""

import dataclasses
from pathlib import Path

import pytest
from planting import evidence, plant_of

from bnrepro import claims
from bnrepro.claim import SCALES, SHORT, SMOKE, Verdict, judge

IDS = claims.ids()


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize(
    ("holds", "verdict"),
    [
        (lambda seed: True, Verdict.REPRODUCED),
        (lambda seed: False, Verdict.NOT_REPRODUCED),
        (lambda seed: seed % 2 == 0, Verdict.INCONCLUSIVE),
    ],
)
def test_a_planted_effect_none_and_one_of_some_seeds(
    name: str, holds, verdict: Verdict, tmp_path: Path
) -> None:
    claim = claims.load(name)
    found = judge(claim, evidence(claim, plant_of(name), SHORT, tmp_path, holds))
    effects = {judged.criterion.name: judged.summary.effects for judged in found.criteria}
    assert found.verdict == verdict, effects
    assert found.present == found.asked > 0


@pytest.mark.parametrize("name", IDS)
def test_any_run_taken_away_makes_it_incomplete(name: str, tmp_path: Path) -> None:
    claim = claims.load(name)
    whole = evidence(claim, plant_of(name), SHORT, tmp_path, lambda seed: True)
    for arm, runs in whole.runs.items():
        for run in runs:
            taken = run.folder.rename(tmp_path / "elsewhere")
            found = judge(claim, whole)
            assert found.verdict == Verdict.INCOMPLETE, (arm, run)
            assert (found.present, found.asked) == (whole.asked - 1, whole.asked)
            taken.rename(run.folder)


@pytest.mark.parametrize("name", IDS)
def test_smoke_is_measured_and_never_judged(name: str, tmp_path: Path) -> None:
    claim = claims.load(name)
    found = judge(claim, evidence(claim, plant_of(name), SMOKE, tmp_path, lambda seed: True))
    assert found.verdict == Verdict.NOT_JUDGED
    assert found.finding is not None


@pytest.mark.parametrize("name", IDS)
def test_a_claim_is_complete(name: str) -> None:
    claim = claims.load(name)
    assert set(claim.scales) == set(SCALES)
    plan = claim.scales["paper"]
    dear = all("experiment=cifar10-inception" in plan.words(arm) for arm in plan.arms)
    assert claim.scales["paper"].seeds >= (3 if dear else 5)
    assert claim.scales["short"].seeds >= 3
    for field in dataclasses.fields(claim):
        if isinstance(value := getattr(claim, field.name), str):
            assert value.strip() == value != "", field.name
    assert claim.criteria
    assert len({c.name for c in claim.criteria}) == len(claim.criteria)
    assert all(c.reason for c in claim.criteria)


def test_every_planted_file_belongs_to_a_claim() -> None:
    there = {path.stem.replace("_", "-") for path in Path(__file__).parent.glob("planted/[!_]*.py")}
    assert there == set(IDS)
