"""The judge: where an interval lies, what several criteria come to, and what is not judged."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planting import Planted, learning, write

from bnrepro import claims
from bnrepro.errors import ConfigError, UnreadableError
from bnrepro.evidence import controls
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, Plan
from bnrepro.evidence.grid import Array, best, grid, steps_to, times_fewer
from bnrepro.evidence.judge import Controlled, Verdict, judge, judged
from bnrepro.evidence.runs import CHANCE, Evidence, seeds
from bnrepro.evidence.stats import order_statistic
from bnrepro.store import StoredRun

YES, SAME, NONE = Verdict.REPRODUCED, Verdict.SAME_DIRECTION, Verdict.NO_EFFECT
OTHER, OPEN = Verdict.OPPOSITE, Verdict.INCONCLUSIVE
PARTLY, NEVER, UNTESTED = Verdict.INCOMPLETE, Verdict.NOT_JUDGED, Verdict.NOT_TESTABLE
CONFIG = {"train": {"steps": 100, "eval_every": 10}}


def claim(
    effects: dict[str, Sequence[float]],
    margin: float = 1.0,
    indifference: float | None = None,
    **more: Any,
) -> Claim:
    """A claim with one arm whose effects are what they are said to be."""
    return Claim(
        statement="It holds.", section="§0", paper_says="This.", unspecified="That.",
        criteria={
            name: Criterion("a − b", Margin(margin, "unit"), "why", indifference)
            for name in effects
        },
        scales={scale: Plan(n, {"a": ()}) for scale, n in {"smoke": 1, "paper": 5}.items()},
        measure=lambda evidence: Finding(
            {name: values[: len(evidence.seeds)] for name, values in effects.items()}, **more
        ),
    )  # fmt: skip


def runs(folder: Path, count: int, scale: str = "paper") -> Evidence:
    made = tuple(write(folder / str(n), CONFIG, learning(CONFIG, 0.9, 10)) for n in range(count))
    return Evidence(scale, seeds(count), {"a": made})


def least_and_most(*bounds: tuple[float, float]) -> Array:
    coords = {"bound": ["least", "greatest"], "seed": range(len(bounds))}
    return Array(np.transpose(bounds), coords, ["bound", "seed"])


INF = math.inf
DIFFERENCE = Criterion("a − b", Margin(1.0, "unit"), "why")
ANY = Criterion("a − b", Margin(0.0, "unit"), "why", indifference=0.1)
NO_WORSE = Criterion("a − b", Margin(-0.5, "unit"), "why")
EQUAL = Criterion("a − b", Margin(0.5, "unit"), "why", equivalence=True)


@pytest.mark.parametrize(
    ("criterion", "effects", "verdict"),
    [
        (DIFFERENCE, [1.1, 1.2, 1.3, 1.4, 1.5], YES),
        (DIFFERENCE, [1.0, 1.2, 1.3, 1.4, 1.5], SAME),  # the margin itself is not beyond it
        (DIFFERENCE, [0.1, 1.2, 1.3, 1.4, 1.5], SAME),
        (DIFFERENCE, [0.0, 1.2, 1.3, 1.4, 1.5], OPEN),
        (DIFFERENCE, [0.1, 0.2, 0.3, 0.4, 0.49], NONE),  # less than half the margin
        (DIFFERENCE, [0.1, 0.2, 0.3, 0.4, 0.5], SAME),
        (DIFFERENCE, [-0.49, 0.0, 0.0, 0.1, 0.2], NONE),
        (DIFFERENCE, [-0.5, 0.0, 0.0, 0.1, 0.2], OPEN),
        (DIFFERENCE, [-0.9, -0.8, -0.7, -0.6, -0.1], OTHER),
        (DIFFERENCE, [-0.9, -0.8, -0.7, -0.6, 0.0], OPEN),
        (DIFFERENCE, [0.0] * 5, NONE),
        (DIFFERENCE, [INF] * 5, YES),
        (DIFFERENCE, [INF, 2.0, 3.0, 4.0, 5.0], YES),
        (DIFFERENCE, [-INF, 2.0, 3.0, 4.0, 5.0], OPEN),
        (DIFFERENCE, [-INF] * 5, OTHER),
        (DIFFERENCE, least_and_most(*[(1.5, INF)] * 5), YES),  # at least so much is enough
        (DIFFERENCE, least_and_most(*[(0.5, INF)] * 5), SAME),  # how much more, nobody knows
        (DIFFERENCE, least_and_most(*[(-INF, 0.5)] * 5), OPEN),
        (DIFFERENCE, least_and_most(*[(-INF, -0.5)] * 5), OTHER),
        (DIFFERENCE, least_and_most(*[(-INF, INF)] * 5), OPEN),  # neither arrives
        (ANY, [0.01, 0.2, 0.3, 0.4, 0.5], YES),
        (ANY, [0.0, 0.2, 0.3, 0.4, 0.5], OPEN),
        (ANY, [0.0, 0.02, 0.03, 0.04, 0.05], NONE),
        (NO_WORSE, [-0.4, 0.0, 0.0, 0.1, 0.2], YES),
        (NO_WORSE, [-0.5, 0.0, 0.0, 0.1, 0.2], OPEN),
        (NO_WORSE, [-0.9, -0.8, -0.7, -0.6, -0.51], OTHER),
        (NO_WORSE, [-0.9, -0.8, -0.7, -0.6, -0.5], OPEN),
        (EQUAL, [-0.4, 0.0, 0.0, 0.1, 0.4], YES),
        (EQUAL, [-0.4, 0.0, 0.0, 0.1, 0.5], OPEN),
        (EQUAL, [0.6, 0.7, 0.7, 0.8, 0.9], OTHER),
        (EQUAL, [-0.9, -0.8, -0.7, -0.6, -0.51], OTHER),
        (EQUAL, [-0.9, -0.8, -0.7, -0.6, -0.5], OPEN),
        (DIFFERENCE, [3.0], PARTLY),  # one seed has no interval
    ],
)
def test_the_verdict_follows_from_where_the_interval_lies(
    criterion: Criterion, effects: Any, verdict: Verdict
) -> None:
    assert judged(criterion, effects).verdict == verdict


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_claim_at_its_margin_is_reproduced_no_more_often_than_is_printed(seeds: int) -> None:
    """10,000 of them, whose true median is the margin."""
    rng, count = np.random.default_rng(seeds), 10_000
    verdicts = [judged(DIFFERENCE, 1 + rng.standard_normal(seeds)).verdict for _ in range(count)]
    allowed = (1 - order_statistic(seeds)[1]) / 2  # on this side of the margin
    error = math.sqrt(allowed * (1 - allowed) / count)
    assert verdicts.count(YES) / count <= allowed + 3 * error
    assert verdicts.count(YES) / count >= allowed - 3 * error  # and the interval is no wider


def test_the_primary_criterion_is_the_first_and_its_verdict_the_claims(tmp_path: Path) -> None:
    good, bad = [2.0, 3.0, 4.0, 5.0, 6.0], [-2.0, -3.0, -4.0, -5.0, -6.0]
    whole = runs(tmp_path, 5)
    found = judge(claim({"a": good, "b": bad}), whole)
    assert found.verdict == YES
    assert [judged.verdict for judged in found.criteria.values()] == [YES, OTHER]
    assert judge(claim({"b": bad, "a": good}), whole).verdict == OTHER
    assert (found.present, found.asked) == (5, 5)


def test_where_a_control_fails_a_claim_is_not_testable_either_way(tmp_path: Path) -> None:
    whole = runs(tmp_path, 5)
    for effects in ([2.0] * 5, [-2.0] * 5):
        one = replace(
            claim({"a": effects}, controls={"pays": Array([0.004])}),
            controls={"pays": controls.exists("what dropout gains", 0.005)},
        )
        found = judge(one, whole)
        assert found.verdict == UNTESTED
        text = "what dropout gains is at least 0.005 in the median"
        assert found.controls == {"pays": Controlled(text, holds=False, seen="0.004")}
        assert found.criteria["a"].verdict != UNTESTED  # what it would have been
        held = replace(one, controls={"pays": controls.exists("what dropout gains", 0.003)})
        assert judge(held, whole).verdict == found.criteria["a"].verdict
    assert judge(one, runs(tmp_path / "s", 3)).verdict == PARTLY


def test_a_control_that_is_not_measured_or_not_named_is_a_bug(tmp_path: Path) -> None:
    trains = {"trains": controls.trains("each arm")}
    unnamed = claim({"a": [2.0] * 5}, controls={"trains": Array(0.9)})
    unmeasured = replace(claim({"a": [2.0] * 5}), controls=trains)
    whole = runs(tmp_path, 5)
    assert judge(replace(unnamed, controls=trains), whole).verdict == YES
    for one in (unnamed, unmeasured):
        with pytest.raises(AssertionError, match="every control"):
            judge(one, whole)


def test_an_accuracy_within_the_noise_of_its_test_images_is_no_difference(tmp_path: Path) -> None:
    """All five seeds agree, and on other images they might not."""
    whole, effects = runs(tmp_path, 5), [0.001, 0.0011, 0.0012, 0.0013, 0.0014]
    noise = np.random.default_rng(0).normal(0, 0.002, 1000)
    drawn = Array(np.array(effects)[:, None] + noise, dims=["seed", "draw"])
    one = claim({"a": effects}, margin=0.0, indifference=0.0005)
    assert judge(one, whole).verdict == YES
    one = claim({"a": effects}, margin=0.0, indifference=0.0005, redrawn={"a": drawn})
    assert judge(one, whole).verdict == OPEN


def test_a_missing_run_is_named_and_nothing_is_measured(tmp_path: Path) -> None:
    whole = runs(tmp_path, 5)
    (tmp_path / "3" / "summary.json").unlink()
    found = judge(claim({"a": [2.0] * 5}), whole)
    assert (found.verdict, found.present, found.asked) == (PARTLY, 4, 5)
    assert found.finding is None


def cut(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "metrics emptied": lambda run: (run / "metrics.jsonl").write_text(""),
    "metrics gone": lambda run: (run / "metrics.jsonl").unlink(),
    "last line gone": lambda run: cut(run / "metrics.jsonl"),
    "metrics of zeros": lambda run: (run / "metrics.jsonl").write_bytes(bytes(1000)),
    "summary of another": lambda run: (run / "summary.json").write_text(
        '{"status": "done", "steps": 100, "test_accuracy": 0.5}'
    ),
    "a probe gone": lambda run: (run / "probes" / "000000050.npz").unlink(),
    "probes gone": lambda run: shutil.rmtree(run / "probes"),
    "configuration gone": lambda run: (run / "config.yaml").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("diverged_at", [None, 95])
def test_a_finished_run_with_a_missing_file_is_not_judged(
    tmp_path: Path, damage: str, diverged_at: int | None
) -> None:
    config = {**CONFIG, "probe": {"every": 50}}
    probes = {step: {"a": np.zeros(1)} for step in range(0, diverged_at or 101, 50)}
    steps = list(range(0, diverged_at or 101, 10))
    planted = Planted({"test_accuracy": (steps, [0.9] * len(steps))}, probes, {}, diverged_at)
    found = stored(tmp_path, *([planted] * 5), config=config)
    assert (found.present, found.asked) == (5, 5)
    DAMAGE[damage](tmp_path / "3")
    again = replace(found)
    if damage != "summary of another" or diverged_at is None:
        assert judge(claim({"a": [2.0] * 5}), again).present == 4
        assert judge(claim({"a": [2.0] * 5}), again).verdict == PARTLY


def test_a_missing_number_of_a_finished_run_is_named_and_not_counted_as_guessing(
    tmp_path: Path,
) -> None:
    found = stored(tmp_path, curve([0.1, 0.5]))
    with pytest.raises(UnreadableError, match="no train_loss_inference"):
        found.final("a", "train_loss_inference")


@pytest.mark.parametrize("state", ["running", "failed", "interrupted"])
def test_an_unfinished_run_does_not_count(tmp_path: Path, state: str) -> None:
    whole = runs(tmp_path, 5)
    path = tmp_path / "2" / "summary.json"
    path.write_text(json.dumps({"status": state}))
    assert judge(claim({"a": [2.0] * 5}), whole).verdict == PARTLY


def test_fewer_seeds_than_the_claim_asks_for_are_measured_and_not_judged(tmp_path: Path) -> None:
    found = judge(claim({"a": [2.0] * 5}), runs(tmp_path, 3))
    assert (found.verdict, found.present, found.asked) == (PARTLY, 3, 5)
    assert found.criteria["a"].summary.interval == (2.0, 2.0)


def test_more_seeds_are_judged(tmp_path: Path) -> None:
    found = judge(claim({"a": [2.0] * 7}), runs(tmp_path, 7))
    assert (found.verdict, found.present, found.asked) == (YES, 7, 7)


def test_an_arm_that_nobody_ran_makes_it_incomplete(tmp_path: Path) -> None:
    one = claim({"a": [2.0] * 5})
    more = replace(one, scales={**one.scales, "paper": Plan(5, {"a": (), "b": ()})})
    found = judge(more, runs(tmp_path, 5))
    assert (found.verdict, found.present, found.asked) == (PARTLY, 5, 10)


def test_smoke_is_never_judged_even_with_more_runs(tmp_path: Path) -> None:
    assert judge(claim({"a": [2.0] * 5}), runs(tmp_path, 5, "smoke")).verdict == NEVER


def test_variations_are_judged_by_the_same_margin(tmp_path: Path) -> None:
    check = Check("?", {"other": {"a": [0.5] * 5}, "same": {"a": [3.0] * 5}})
    one = claim({"a": [2.0] * 5}, tuned=check, unspecified=check)
    found = judge(one, runs(tmp_path, 5))
    assert found.verdict == YES  # a variation does not decide
    for choices in (found.tuned, found.unspecified):
        verdicts = {choice: of["a"].verdict for choice, of in choices.items()}
        assert verdicts == {"other": SAME, "same": YES}


def test_an_effect_without_a_criterion_is_a_bug(tmp_path: Path) -> None:
    one = replace(claim({"a": [2.0] * 5}), measure=lambda _: Finding({"a": [2.0] * 5, "b": [1.0]}))
    with pytest.raises(AssertionError):
        judge(one, runs(tmp_path, 5))


def test_the_distance_is_that_of_the_median() -> None:
    assert PaperNumber("x", "steps", 100.0, [90.0, 130.0, 120.0]).off == 20.0
    assert PaperNumber("x", "steps", 100.0, [math.inf] * 3).off == math.inf
    assert PaperNumber("curve", "accuracy", distance=0.01).off == 0.01
    assert PaperNumber("x", "steps").off is None


def test_claims_are_found_in_their_folder() -> None:
    folder = Path(claims.__path__[0])
    files = {path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")}
    assert set(claims.ids()) == files
    assert "faster-training" in files


def test_an_unknown_claim_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'faster-training'"):
        claims.load("fast-training")


# What a measure asks of its runs


def stored(folder: Path, *planted: Planted, config: dict[str, Any] = CONFIG) -> Evidence:
    made = tuple(write(folder / str(n), config, one) for n, one in enumerate(planted))
    return Evidence("paper", seeds(len(made)), {"a": made})


def curve(values: Sequence[float], diverged_at: int | None = None) -> Planted:
    steps = (range(0, 10 * len(values), 10), values)
    return Planted({"validation_accuracy": steps, "test_accuracy": steps}, diverged_at=diverged_at)


def test_a_diverged_run_counts_as_guessing_and_never_reaches_a_target(tmp_path: Path) -> None:
    found = stored(tmp_path, curve([0.1, 0.5, 0.9]), curve([0.1, 0.95], 17), curve([0.1, 0.2, 0.3]))
    assert found.diverged("a").tolist() == [False, True, False]
    assert found.final("a").tolist() == [0.9, CHANCE, 0.3]
    assert found.final("a", diverged=0.0).tolist() == [0.9, 0.0, 0.3]
    curves = grid(arm={"a": ()}).curves(replace(found, runs={"arm=a": found.runs["a"]}))
    assert curves.step.to_numpy().tolist() == [0, 10, 20]
    assert curves.sel(arm="a").to_numpy().tolist() == [
        [0.1, 0.5, 0.9], [0.1, 0.95, CHANCE], [0.1, 0.2, 0.3],
    ]  # fmt: skip


def test_the_first_step_at_a_target_is_one_of_a_run_that_ended() -> None:
    steps, seeds = {"step": [0, 10, 20]}, {"seed": [0, 1, 2]}
    values = [[0.1, 0.5, 0.9], [0.1, 0.95, CHANCE], [0.1, 0.2, 0.3]]
    curves = Array(values, seeds | steps, ["seed", "step"])
    diverged = Array([False, True, False], seeds, ["seed"])
    assert steps_to(curves, 0.5, diverged).to_numpy().tolist() == [10, np.inf, np.inf]
    targets = Array([0.9, 0.9, 0.1], seeds, ["seed"])
    assert steps_to(curves, targets, diverged).to_numpy().tolist() == [20, np.inf, 0]


def test_a_ratio_of_steps_is_cut_off_where_a_run_ends_before_it_arrives() -> None:
    """After 199 steps, so that what never arrives takes 200 at the least."""
    steps = {
        name: Array(values, {"seed": range(5)}, ["seed"])
        for name, values in {
            "slow": [80.0, np.inf, 100.0, np.inf, 25.0],
            "quick": [20.0, 50.0, np.inf, np.inf, 100.0],
        }.items()
    }
    found = times_fewer(steps["slow"], steps["quick"], 200)
    assert found.sel(bound="least").to_numpy().tolist() == [2, 2, -np.inf, -np.inf, -2]
    assert found.sel(bound="greatest").to_numpy().tolist() == [2, np.inf, -1, np.inf, -2]


def test_what_never_arrives_is_slower_than_what_arrives_at_the_very_last_step() -> None:
    seeds = {"seed": range(5)}
    last, never = (Array([steps] * 5, seeds, ["seed"]) for steps in (200.0, np.inf))
    assert judged(DIFFERENCE, times_fewer(last, never, 201)).verdict == OTHER
    assert judged(DIFFERENCE, times_fewer(never, last, 201)).verdict == SAME
    assert judged(DIFFERENCE, times_fewer(last, last, 201)).verdict == NONE
    assert judged(DIFFERENCE, times_fewer(never, never, 201)).verdict == OPEN


def test_the_best_is_chosen_by_the_mean_over_seeds_and_of_equals_the_first() -> None:
    validation = Array(
        [[0.8, 0.7], [0.5, 1.0], [0.75, 0.75]], {"lr": [0.1, 1.0, 3.0]}, ["lr", "seed"]
    )
    assert best(validation).item() == 0.1


def test_a_run_that_does_not_exist_has_no_result(tmp_path: Path) -> None:
    found = Evidence("paper", (0,), {"a": (StoredRun(tmp_path / "nowhere"),)})
    assert (found.present, found.asked) == (0, 1)
