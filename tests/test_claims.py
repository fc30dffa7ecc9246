"""Every claim, over runs that nobody trained: planted effects, none, and runs taken away."""

import dataclasses
from pathlib import Path

import pytest
from planting import evidence, plant_of

from bnrepro import claims
from bnrepro.evidence.claim import SCALES, SHORT, SMOKE, Claim, Group
from bnrepro.evidence.judge import Verdict, judge
from bnrepro.evidence.runs import Evidence
from bnrepro.store import StoredRun

IDS = claims.ids()


def mixed(holding: Evidence, other: Evidence) -> Evidence:
    """Every second seed's runs from where the claim does not hold."""
    runs = {
        arm: tuple(
            one if seed % 2 == 0 else another
            for seed, one, another in zip(holding.seeds, there, other.runs[arm], strict=True)
        )
        for arm, there in holding.runs.items()
    }
    return dataclasses.replace(holding, runs=runs)


@pytest.mark.parametrize("name", IDS)
def test_planted_runs_that_hold_or_fail_get_the_right_verdict(name: str, tmp_path: Path) -> None:
    claim, plant = claims.load(name), plant_of(name)
    holding, other = (
        evidence(claim, plant, SHORT, tmp_path / str(holds), lambda seed, holds=holds: holds)
        for holds in (True, False)
    )
    for runs, verdicts in (
        (holding, {Verdict.REPRODUCED}),
        (other, {Verdict.NO_EFFECT, Verdict.OPPOSITE}),
        (mixed(holding, other), {Verdict.INCONCLUSIVE, Verdict.SAME_DIRECTION}),
    ):
        found = judge(claim, runs)
        assert found.finding is not None
        effects = {name: judged.summary.effects for name, judged in found.criteria.items()}
        assert found.verdict in verdicts, (effects, found.controls)
        assert found.present == found.asked > 0
    found = judge(claim, holding)
    secondary = {name: judged.verdict for name, judged in found.criteria.items()}
    assert set(secondary.values()) == {Verdict.REPRODUCED}, secondary
    lose_a_run(claim, holding, next(iter(holding.runs)), 0)


def lose_a_run(claim: Claim, runs: Evidence, arm: str, seed: int) -> None:
    """Without one run the claim is incomplete."""
    of_arm = runs.runs[arm]
    left = (*of_arm[:seed], StoredRun(Path("nowhere")), *of_arm[seed + 1 :])
    found = judge(claim, dataclasses.replace(runs, runs={**runs.runs, arm: left}))
    assert found.verdict == Verdict.INCOMPLETE, arm
    assert (found.present, found.asked) == (runs.asked - 1, runs.asked)


@pytest.mark.reliability
@pytest.mark.parametrize("name", IDS)
def test_without_a_run_of_any_arm_a_claim_is_incomplete(name: str, tmp_path: Path) -> None:
    claim = claims.load(name)
    runs = evidence(claim, plant_of(name), SHORT, tmp_path, lambda seed: True)
    for number, arm in enumerate(runs.runs):
        lose_a_run(claim, runs, arm, number % len(runs.seeds))  # another seed of each arm


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
            assert value.strip() == value, field.name
            assert value or field.name in ("why", "to_settle"), field.name
    assert claim.controls or claim.group is Group.IDENTITY  # true before any run
    assert claim.criteria
    for criterion in claim.criteria.values():
        assert criterion.reason
        assert criterion.margin.value or criterion.width, "indifference is stated at a margin of 0"


def test_every_planted_file_belongs_to_a_claim() -> None:
    there = {path.stem.replace("_", "-") for path in Path(__file__).parent.glob("planted/[!_]*.py")}
    assert there == set(IDS)
