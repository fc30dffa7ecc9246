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
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, Plan
from bnrepro.evidence.grid import Array, best, grid, steps_to
from bnrepro.evidence.judge import Verdict, against, judge, together
from bnrepro.evidence.runs import CHANCE, Evidence
from bnrepro.evidence.stats import summary
from bnrepro.store import StoredRun

YES, NO, OPEN = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.INCONCLUSIVE
PARTLY, NEVER = Verdict.INCOMPLETE, Verdict.NOT_JUDGED
CONFIG = {"train": {"steps": 100, "eval_every": 10}}


def claim(effects: dict[str, Sequence[float]], margin: float = 1.0, **more: object) -> Claim:
    """A claim with one arm whose effects are what they are said to be."""
    return Claim(
        statement="It holds.", section="§0", paper_says="This.", unspecified="That.",
        criteria={n: Criterion("a − b", Margin(margin, "unit"), "why") for n in effects},
        scales={scale: Plan(n, {"a": ()}) for scale, n in {"smoke": 1, "paper": 5}.items()},
        measure=lambda evidence: Finding(
            {name: values[: len(evidence.seeds)] for name, values in effects.items()}, **more
        ),
    )  # fmt: skip


def runs(folder: Path, count: int, scale: str = "paper") -> Evidence:
    made = tuple(write(folder / str(n), CONFIG, learning(CONFIG, 0.9, 10)) for n in range(count))
    return Evidence(scale, tuple(range(count)), {"a": made})


@pytest.mark.parametrize(
    ("effects", "margin", "verdict"),
    [
        ([1.1, 1.2, 1.3, 1.4, 1.5], 1.0, YES),
        ([1.0, 1.2, 1.3, 1.4, 1.5], 1.0, OPEN),  # the margin itself is not beyond it
        ([0.9, 1.2, 1.3, 1.4, 1.5], 1.0, OPEN),
        ([0.5, 0.6, 0.7, 0.8, 1.1], 1.0, OPEN),
        ([0.5, 0.6, 0.7, 0.8, 1.0], 1.0, NO),
        ([-5.0, 0.0, 0.0, 0.5, 0.9], 1.0, NO),
        ([math.inf] * 5, 1.0, YES),
        ([math.inf, 2.0, 3.0, 4.0, 5.0], 1.0, YES),
        ([-math.inf, 2.0, 3.0, 4.0, 5.0], 1.0, OPEN),
        ([-math.inf] * 5, 1.0, NO),
        ([0.0] * 5, 0.0, NO),  # nothing there
        ([-0.001] * 5, -0.005, YES),  # a margin below nothing: no worse than so much
        ([0.3], 0.0, PARTLY),  # one seed has no interval
    ],
)
def test_the_verdict_follows_from_where_the_interval_lies(
    effects: list[float], margin: float, verdict: Verdict
) -> None:
    assert against(summary(effects), margin) == verdict


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([YES], YES), ([YES, YES], YES), ([YES, OPEN], OPEN), ([YES, NO], NO), ([OPEN, NO], NO),
        ([NO, PARTLY], PARTLY), ([YES, NEVER], NEVER),
    ],
)  # fmt: skip
def test_the_verdict_of_several_criteria_is_the_worst_of_theirs(
    verdicts: list[Verdict], verdict: Verdict
) -> None:
    assert together(verdicts) == verdict == together(verdicts[::-1])


def test_a_claim_is_judged_by_all_its_criteria(tmp_path: Path) -> None:
    good, bad = [2.0, 3.0, 4.0, 5.0, 6.0], [0.0, 0.1, 0.2, 0.3, 0.4]
    whole = runs(tmp_path, 5)
    assert judge(claim({"a": good}), whole).verdict == YES
    assert judge(claim({"a": good, "b": bad}), whole).verdict == NO
    assert judge(claim({"a": good, "b": good}), whole).verdict == YES
    found = judge(claim({"a": good, "b": [0.5, 2.0, 3.0, 0.1, 9.0]}), whole)
    assert found.verdict == OPEN
    assert [judged.verdict for judged in found.criteria.values()] == [YES, OPEN]
    assert (found.present, found.asked) == (5, 5)


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
    one = claim({"a": [2.0] * 5}, fair=check, unspecified=check)
    found = judge(one, runs(tmp_path, 5))
    assert found.verdict == YES  # a variation does not decide
    for judged in (found.fair, found.unspecified):
        assert {choice: j["a"].verdict for choice, j in judged.items()} == {
            "other": NO,
            "same": YES,
        }


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
    return Evidence("paper", tuple(range(len(made))), {"a": made})


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


def test_the_best_is_chosen_by_the_mean_over_seeds_and_of_equals_the_first() -> None:
    validation = Array(
        [[0.8, 0.7], [0.5, 1.0], [0.75, 0.75]], {"lr": [0.1, 1.0, 3.0]}, ["lr", "seed"]
    )
    assert best(validation).item() == 0.1


def test_a_run_that_does_not_exist_has_no_result(tmp_path: Path) -> None:
    found = Evidence("paper", (0,), {"a": (StoredRun(tmp_path / "nowhere"),)})
    assert (found.present, found.asked) == (0, 1)
