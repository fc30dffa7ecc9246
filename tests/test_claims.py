"""Every claim, over runs that nobody trained: planted effects, none, and runs taken away."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
from planting import Config, Plant, Planted, arms_of, at_once, evidence, learning, plant_of

from bnrepro import claims
from bnrepro.claims.stable_distributions import of_paper
from bnrepro.evidence import paper
from bnrepro.evidence.arms import FIRST_OF_CHOICE
from bnrepro.evidence.claim import SCALES, SHORT, SMOKE, Claim, Group
from bnrepro.evidence.judge import Verdict, judge
from bnrepro.evidence.movement import drifts
from bnrepro.evidence.paper import fig2
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


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("name", IDS)
def test_a_claim_is_judged_though_arms_diverge_at_once(
    name: str, every: int, tmp_path: Path
) -> None:
    claim, plant = claims.load(name), plant_of(name)
    lost = [*arms_of(claim, SHORT)][::every]

    def losing(arm: str, config: Config, seed: int, holds: bool) -> Planted:
        planted = plant(arm, config, seed, holds)
        return at_once(planted) if arm in lost else planted

    found = judge(claim, evidence(claim, losing, SHORT, tmp_path, lambda seed: True))
    assert found.present == found.asked
    if every == 1:
        assert found.verdict not in {Verdict.REPRODUCED, Verdict.SAME_DIRECTION}


@pytest.mark.reliability
@pytest.mark.parametrize("name", IDS)
def test_without_a_run_of_any_arm_a_claim_is_incomplete(name: str, tmp_path: Path) -> None:
    claim = claims.load(name)
    runs = evidence(claim, plant_of(name), SHORT, tmp_path, lambda seed: True)
    for number, arm in enumerate(runs.runs):
        lose_a_run(claim, runs, arm, number % len(runs.seeds))  # another seed of each arm


def slow_to_learn(config: Config, final: float) -> Planted:
    """A run that comes to its highest accuracy at the very last step."""
    return learning(config, final, config["train"]["steps"])


def with_bn_never(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Without BN a network arrives at the end; with it none ever does."""
    return slow_to_learn(config, 0.5 if config["norm"]["name"] == "none" else 0.4)


def only_with_bn(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Without BN a network never comes to the .9 that is asked for."""
    return slow_to_learn(config, 0.9 if config["norm"]["name"] == "batch" else 0.8)


@pytest.mark.parametrize(
    ("name", "plant", "criterion", "verdict"),
    [
        ("bn-baseline", with_bn_never, "speed", Verdict.OPPOSITE),
        ("faster-training", only_with_bn, "speed", Verdict.SAME_DIRECTION),
    ],
)
def test_an_arrival_at_the_last_step_is_earlier_than_none(
    name: str, plant: Plant, criterion: str, verdict: Verdict, tmp_path: Path
) -> None:
    found = judge(claims.load(name), evidence(claims.load(name), plant, SHORT, tmp_path, bool))
    judged = found.criteria[criterion]
    assert judged.verdict == verdict, judged.summary
    assert max(map(abs, sum(judged.summary.bounds, ()))) == math.inf
    assert min(map(abs, sum(judged.summary.bounds, ()))) < 0.01


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
    few = dear or claim.first_seed == FIRST_OF_CHOICE
    assert claim.scales["paper"].seeds >= (5 if few else 10)
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


def test_notes_are_the_paragraphs_of_a_claims_file_after_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text('"""What is asked.\n\nWhat was\nseen.\n\nAnd more.\n"""\n')
    monkeypatch.setattr(claims, "source", lambda name: claims.Source("me", file, dict))
    assert claims.notes("mine") == ["What was seen.", "And more."]
    file.write_text("CLAIM = None\n")
    assert claims.notes("mine") == []
    monkeypatch.setattr(claims, "source", lambda name: claims.Source("me", None, dict))
    assert claims.notes("mine") == []


FORMS = {
    "doublings": lambda number: {f"{2**number:.2g}", f"{2**number:.3g}"},
    "accuracy": lambda number: {f"{number:.3f}"[1:], f"{number:.4f}"[1:]},
    "of the errors": lambda number: {f"{100 * number:.1f} %"},
}
"""How a text may have the paper's number, by the unit of the criterion."""


@pytest.mark.parametrize("name", IDS)
def test_the_papers_numbers_stand_in_the_claims_text(name: str) -> None:
    claim = claims.load(name)
    for criterion in claim.criteria.values():
        if criterion.paper is not None:
            text = f"{claim.paper_says} {criterion.reason}"
            forms = map(re.escape, FORMS[criterion.margin.unit](criterion.paper))
            assert re.search(rf"(?<![\d.])0?({'|'.join(forms)})(?!\d)", text), criterion


def test_numbers_read_off_the_papers_curves_are_those_of_the_curves() -> None:
    def of(claim: str, criterion: str) -> float:
        number = claims.load(claim).criteria[criterion].paper
        assert number is not None
        return number

    none, batch = (paper.accuracy(norm) for norm in ("none", "batch"))
    slow, quick = (paper.first_step(*curve) or math.nan for curve in (none, batch))
    assert 2 ** of("faster-training", "speed") == pytest.approx(slow / quick, rel=0.01)
    gained = batch[1][-1] - none[1][-1]
    assert of("faster-training", "accuracy") == pytest.approx(gained, abs=1e-4)
    for criterion, begin in (("after the start", 0.1), ("drift", 0.01)):
        moved = (drifts([of_paper(norm)], begin).item() for norm in ("none", "batch"))
        times = 2 ** of("stable-distributions", criterion)
        assert times == pytest.approx(next(moved) / next(moved), rel=0.01)
    baseline, x5 = (fig2.accuracy(network) for network in ("BN-Baseline", "BN-x5"))
    highest = baseline[1].max()
    slow, quick = (paper.first_step(*curve, highest) or math.nan for curve in (baseline, x5))
    times = 2 ** of("accelerations", "together")
    assert times == pytest.approx(slow / quick, rel=0.05)


def test_every_planted_file_belongs_to_a_claim() -> None:
    there = {path.stem.replace("_", "-") for path in Path(__file__).parent.glob("planted/[!_]*.py")}
    assert there == set(IDS)
