"""Figs. 2 and 3: with batch normalization, Inception's accuracy in many times fewer steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from bnrepro.evidence import fig2_arms
from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import (
    PAPER,
    SCALES,
    SMOKE,
    Check,
    Claim,
    Criterion,
    Finding,
    FollowUp,
    PaperNumber,
    Plan,
    Variation,
)
from bnrepro.evidence.exhibits import Bars, Cell, Curves, Figure, Line, Table, over_seeds
from bnrepro.evidence.fig2_arms import BN_BASELINE, BN_X5, BN_X30, HIGHER_LR, INCEPTION
from bnrepro.evidence.paper import fig2 as paper
from bnrepro.evidence.runs import VALIDATION, Evidence, log_ratio, median_range

TIMES: Mapping[str, tuple[float, ...]] = {
    "smoke": (1, 5),
    "short": (1, 2, 5),
    "paper": (1 / 6, 1 / 2, 1, 2, 5, 30),
}
"""The learning rates of Inception, times ×1. At a sixth of it BN-x5 has 30 times Inception's rate,
as the paper's best network has."""

NORMALIZED: Mapping[str, float] = {BN_BASELINE: 1, BN_X5: 5, BN_X30: 30}
"""The networks with batch normalization, and their learning rates, times ×1."""

TRAINED = 0.3
"""Less than a linear classifier of CIFAR-10 has: below it a network has not trained."""

CHANGED = "Inception with five changes"
LR_CHANGES = (HIGHER_LR, "faster decay")
"""The changes of §4.2.1 that Inception does not survive, or has no steps left for."""

StepsTo = Callable[[Evidence, str, np.ndarray], np.ndarray]
"""Of an arm the step (S,) at which it comes to an accuracy (S,)."""

Accuracy = Callable[[Evidence, str], np.ndarray]
"""Of an arm one accuracy a seed (S,)."""


def inception(times: float) -> str:
    """The name of Inception at so many times ×1."""
    return f"{INCEPTION} ×{times:.2g}"


def speed(network: str) -> str:
    """The name of the criterion of a network's steps."""
    return f"speed of {network}"


def accuracy(network: str) -> str:
    """The name of the criterion of a network's accuracy."""
    return f"accuracy of {network}"


def _scale(scale: str) -> Plan:
    words = {inception(t): (*fig2_arms.NETWORKS[INCEPTION], fig2_arms.lr(t)) for t in TIMES[scale]}
    words |= {network: fig2_arms.NETWORKS[network] for network in NORMALIZED}
    if scale == PAPER:
        changes = (words for name, words in fig2_arms.CHANGES.items() if name not in LR_CHANGES)
        words[CHANGED] = (*fig2_arms.NETWORKS[INCEPTION], *changes)
    return Plan(CIFAR_SEEDS[scale], {arm: fig2_arms.arm(scale, *own) for arm, own in words.items()})


def baseline(evidence: Evidence) -> float:
    """The rate, times ×1, at which Inception's mean final validation accuracy is highest."""
    named = {inception(times): times for times in TIMES[evidence.scale]}
    return named[evidence.best(named)]


def highest(evidence: Evidence, arm: str) -> np.ndarray:
    """The highest validation accuracy over training: (S,)."""
    found: np.ndarray = evidence.curves(arm, VALIDATION)[1].max(1)
    return found


def target(evidence: Evidence, arm: str) -> np.ndarray:
    """The validation accuracy that steps are counted to, where `arm` is Inception: (S,)."""
    found: np.ndarray = np.maximum(highest(evidence, arm), TRAINED)
    return found


def steps_to(evidence: Evidence, arm: str, aim: np.ndarray) -> np.ndarray:
    """The step at which validation accuracy comes to `aim` (S,): (S,), infinite where never.

    Linear between evaluations, for every arm alike. A curve that rises ever more slowly lies above
    the line, so that what is quick seems slower than it is. Of a run that diverged it is infinite.
    """
    steps, curves = evidence.curves(arm, VALIDATION)
    found = evidence.steps_to(arm, aim)
    for seed in np.flatnonzero(np.isfinite(found)):
        at = int(np.searchsorted(steps, found[seed]))
        around = slice(max(at - 1, 0), at + 1)
        found[seed] = np.interp(aim[seed], curves[seed, around], steps[around])
    return found


def speeds(
    evidence: Evidence, slow: str, aim: np.ndarray, count: StepsTo = steps_to
) -> dict[str, np.ndarray]:
    """How many times fewer steps than `slow` each network takes to an accuracy, as doublings."""
    steps = count(evidence, slow, aim)
    return {speed(name): log_ratio(steps, count(evidence, name, aim)) for name in NORMALIZED}


def accuracies(
    evidence: Evidence, lower: str, of: Accuracy = Evidence.final
) -> dict[str, np.ndarray]:
    """How much more accurate each network is than `lower`; by default on test images at the end."""
    return {accuracy(name): of(evidence, name) - of(evidence, lower) for name in NORMALIZED}


def effects(evidence: Evidence, of: str) -> dict[str, np.ndarray]:
    """Every criterion's effects, with the arm `of` as the network without batch normalization."""
    return speeds(evidence, of, target(evidence, of)) | accuracies(evidence, of)


def late_gain(steps: np.ndarray, curve: np.ndarray) -> float:
    """What a curve (P,) gains over the last tenth of its steps."""
    return float(curve[-1] - np.interp(0.9 * steps[-1], steps, curve))


def measure(evidence: Evidence) -> Finding:
    """Against Inception at its best learning rate; at others; counted otherwise."""
    times = baseline(evidence)
    found = effects(evidence, inception(times))
    figures = (_curves(evidence, times), _times_fewer(found))
    return Finding(
        found,
        _comparisons(evidence, times, found) if evidence.scale != SMOKE else (),
        (*figures, _table(evidence, times, found)),
        _fair(evidence, times),
        _unspecified(evidence, times),
    )


def _ratios(found: Mapping[str, np.ndarray], network: str) -> np.ndarray:
    ratios: np.ndarray = 2.0 ** found[speed(network)]
    return ratios


def _comparisons(
    evidence: Evidence, times: float, found: Mapping[str, np.ndarray]
) -> tuple[PaperNumber, ...]:
    best = inception(times)
    fewer = [
        PaperNumber(
            f"times fewer steps to Inception's highest accuracy, {network} "
            f"({'batch normalization alone' if network == BN_BASELINE else 'all of §4.2.1'}; "
            "the paper: ImageNet)",
            "times",
            paper.fewer(network),
            _ratios(found, network),
        )
        for network in NORMALIZED
    ]
    peak = {arm: highest(evidence, arm) for arm in (best, *NORMALIZED)}
    slow, quick = (steps_to(evidence, arm, peak[arm]) for arm in (best, BN_X30))
    gains = [
        PaperNumber(
            f"highest validation accuracy, {network} − Inception (the paper: ImageNet)",
            "accuracy",
            paper.FIG3[network].highest - paper.TARGET,
            peak[network] - peak[best],
        )
        for network in NORMALIZED
    ]
    steps, curves = evidence.curves(best, VALIDATION)
    return (
        *fewer,
        PaperNumber(
            "times fewer steps of BN-x30 to its own highest accuracy than of Inception to its own "
            "(the paper: ImageNet)",
            "times",
            paper.FIG3[INCEPTION].steps / paper.BN_X30_HIGHEST,
            2.0 ** log_ratio(slow, quick),
        ),
        *gains,
        PaperNumber(
            "Inception at ×5: part of the runs that diverged (the paper: one on ImageNet, whose "
            "parameters reached machine infinity)",
            "of all seeds",
            1.0,
            evidence.diverged(inception(5)).astype(float),
        ),
        PaperNumber(
            "how flat Inception's curve is at its end: validation accuracy gained over the last "
            "tenth of its steps (the paper: ImageNet, Fig. 2)",
            "accuracy",
            late_gain(*paper.accuracy(INCEPTION)),
            [late_gain(steps, curve) for curve in curves],
        ),
    )


def _curves(evidence: Evidence, times: float) -> Figure:
    best = inception(times)
    arms = {INCEPTION: best} | {network: network for network in NORMALIZED}
    ours = [over_seeds(name, *evidence.curves(arm, VALIDATION)) for name, arm in arms.items()]
    theirs = []
    for name in arms:
        steps, accuracies = paper.accuracy(name)
        theirs.append(Line(name, steps / 1e6, accuracies))
    panels = (
        Curves(f"Here: Inception at ×{times:.2g}, its best learning rate", "step",
               "validation accuracy", ours, levels=(float(np.median(highest(evidence, best))),)),
        Curves("The paper: ImageNet, Fig. 2", "step (millions)", "validation accuracy", theirs,
               levels=(paper.TARGET,)),
    )  # fmt: skip
    caption = (
        "Validation accuracy over training, here the median over seeds with a band from least to "
        "greatest, and in the paper; dotted: the highest that Inception comes to."
    )
    return Figure("curves", caption, panels)


def _times_fewer(found: Mapping[str, np.ndarray]) -> Figure:
    ours = [median_range(_ratios(found, network)) for network in NORMALIZED]
    theirs = [paper.fewer(network) for network in NORMALIZED]
    panel = Bars(
        "Times fewer steps",
        "steps of Inception ÷ steps",
        list(NORMALIZED),
        {"here": [middle for middle, _, _ in ours], "the paper, ImageNet": theirs},
        {
            "here": [(low, high) for _, low, high in ours],
            "the paper, ImageNet": [(times, times) for times in theirs],
        },
    )
    caption = (
        "Steps to the highest accuracy of Inception, of Inception ÷ of each network: median over "
        "seeds, line from least to greatest; 0 where it is never reached. Batch normalization "
        "alone makes BN-Baseline; the others have all changes of §4.2.1."
    )
    return Figure("times-fewer", caption, (panel,))


def _rate(evidence: Evidence, arm: str) -> float:
    return float(evidence.runs[arm][0].config()["optimizer"]["lr"])


def _middle(values: np.ndarray) -> float:
    return median_range(values)[0]


def _table(evidence: Evidence, times: float, found: Mapping[str, np.ndarray]) -> Table:
    best = inception(times)
    aim = target(evidence, best)
    rows = []
    for name, arm in {INCEPTION: best, **{network: network for network in NORMALIZED}}.items():
        theirs = paper.FIG3[name]
        ratio = _middle(_ratios(found, name)) if name in NORMALIZED else 1.0
        rows.append(
            (name, _rate(evidence, arm), _middle(steps_to(evidence, arm, aim)), ratio,
             _middle(highest(evidence, arm)), _middle(evidence.final(arm)),
             theirs.lr, theirs.steps / 1e6, paper.fewer(name), theirs.highest)
        )  # fmt: skip
    columns = (
        "network", "learning rate", "steps", "times fewer", "highest validation accuracy",
        "test accuracy at the end", "the paper: learning rate", "the paper: million steps",
        "the paper: times fewer", "the paper: highest accuracy",
    )  # fmt: skip
    caption = (
        "Fig. 3: steps to the highest validation accuracy of Inception, of the same seed. Lower "
        "medians over seeds; the paper's are of ImageNet."
    )
    return Table(caption, columns, rows)


def _fair(evidence: Evidence, times: float) -> Check:
    among = TIMES[evidence.scale]
    lrs = ", ".join(f"{_rate(evidence, inception(t)):g}" for t in among)
    text = (
        "The network without batch normalization is, in every criterion, Inception at the learning "
        f"rate of its highest mean validation accuracy among {lrs}: here ×{times:.2g}. BN-x5 and "
        "BN-x30 stay at 5 and 30 times ×1, which is BN-Baseline's."
    )
    if CHANGED not in evidence.runs:
        return Check(text, exhibits=(_rates_table(evidence), _rates_figure(evidence)))
    text += (
        " They differ from it in more than batch normalization; so it is also compared, at ×1, "
        "with those changes of §4.2.1 that are not of the learning rate: no dropout, less L2, no "
        "local response normalization, thorough shuffling, less distortion. Its own best rate "
        "may be another."
    )
    changed = Variation(CHANGED, effects(evidence, CHANGED))
    return Check(text, (changed,), (_rates_table(evidence), _rates_figure(evidence)))


def _rates_table(evidence: Evidence) -> Table:
    arms = [inception(times) for times in TIMES[evidence.scale]]
    if CHANGED in evidence.runs:
        arms.append(CHANGED)
    rows: list[tuple[Cell, ...]] = []
    for arm in (*arms, *NORMALIZED):
        found = evidence.final(arm, VALIDATION), highest(evidence, arm), evidence.final(arm)
        diverged = int(evidence.diverged(arm).sum())
        rows.append(
            (arm, _rate(evidence, arm), diverged, *(float(values.mean()) for values in found))
        )
    columns = ("network", "learning rate", "diverged", "validation accuracy", "its highest",
               "test accuracy")  # fmt: skip
    caption = (
        "Accuracies at the last step, and the highest: means over seeds. A run that diverged "
        "guesses."
    )
    return Table(caption, columns, rows)


def _rates_figure(evidence: Evidence) -> Figure:
    among = TIMES[evidence.scale]
    finals = [evidence.final(inception(times), VALIDATION) for times in among]
    lines = [over_seeds(INCEPTION, [_shown(t) for t in among], np.stack(finals, axis=1))]
    for network, times in NORMALIZED.items():
        median = float(np.median(evidence.final(network, VALIDATION)))
        lines.append(Line(network, [times], [median], points=True))
    panel = Curves(
        "each learning rate", f"learning rate, times {fig2_arms.LR:g}",
        "validation accuracy at the last step", lines, log_x=True, limits=(0.0, 1.0),
    )  # fmt: skip
    caption = (
        "Inception over the learning rate: median over seeds, band from least to greatest, "
        "guessing where it diverged; marks are the networks with batch normalization at theirs."
    )
    return Figure("rates", caption, (panel,))


def _shown(times: float) -> float:
    """As it stands in an arm's name, for the ticks of an axis."""
    return float(f"{times:.2g}")


def _unspecified(evidence: Evidence, times: float) -> Check:
    best = inception(times)
    aim, last = target(evidence, best), evidence.final(best, VALIDATION)
    found: dict[str, Mapping[str, np.ndarray]] = {}
    for other in TIMES[evidence.scale]:
        arm = inception(other)
        trains = np.isfinite(steps_to(evidence, arm, target(evidence, arm))).all()
        if trains and other != times:
            choice = f"Inception at ×{other:.2g}, of which BN-x5 has {5 / other:.3g} times the rate"
            found[choice] = effects(evidence, arm)
    found |= {
        "steps to the accuracy that Inception ends with": speeds(
            evidence, best, np.maximum(last, TRAINED)
        ),
        "steps to the first evaluation at or above Inception's highest": speeds(
            evidence, best, aim, Evidence.steps_to
        ),
        "the highest validation accuracy, as in the paper": accuracies(evidence, best, highest),
    }
    return Check(
        "Inception at the other learning rates at which it trains; and what is counted. The "
        "paper does not say how its 0.0015 was chosen. Its best network has 30 times the rate of "
        "its Inception: at that ratio to BN-x30 Inception is at ×1, to BN-x5 at ×0.17, which only "
        "the paper's scale goes over. "
        "How many times fewer the steps are depends on how well the slow network is set.",
        tuple(Variation(choice, values) for choice, values in found.items()),
    )


def _criteria() -> tuple[Criterion, ...]:
    """BN-x5 is the first, of which the paper's abstract tells."""
    found = []
    for network in (BN_X5, BN_BASELINE, BN_X30):
        theirs = paper.FIG3[network]
        times = paper.fewer(network)
        margin = math.log2(times) / 2
        found.append(
            Criterion(
                speed(network),
                "steps to the highest validation accuracy that Inception comes to at its best "
                f"learning rate (at least {TRAINED}), Inception ÷ {network}, of the same seed",
                "doublings",
                margin,
                f"A factor of {2**margin:.2g}, half the doublings of the paper's {times:.3g} "
                f"(31.0 M ÷ {theirs.steps / 1e6:.1f} M steps, Fig. 3): beyond it the effect is "
                "nearer to the paper's than to none. Another network and data set need not give "
                "the same factor.",
            )
        )
    for network in NORMALIZED:
        found.append(
            Criterion(
                accuracy(network),
                f"test accuracy at the last step, {network} − Inception at its best learning rate, "
                "of the same seed",
                "accuracy",
                0.0,
                f"Higher at all; in the paper {paper.FIG3[network].highest:.3f} against "
                f"{paper.TARGET} (Fig. 3).",
            )
        )
    return tuple(found)


CLAIM = Claim(
    statement="With batch normalization Inception comes to its accuracy in fewer steps, and goes "
    "beyond it: in less than half as many with nothing else changed, in fourteen times fewer with "
    "five times the learning rate and all changes of §4.2.1.",
    section="§4.2.1, §4.2.2, Figs. 2 and 3",
    paper_says="ImageNet; SGD with momentum in batches of 32. Inception at a learning rate of "
    "0.0015 comes to 72.2 % after 31.0 million steps. BN-Baseline, the same with batch "
    "normalization before each nonlinearity, is there after 13.3 million. BN-x5 is after 2.1 "
    "million, and BN-x30 after 2.7 million: these have 5 and 30 times the learning rate, no "
    "dropout, a fifth of the L2 weight, a decay six times as fast, no local response "
    "normalization, thorough shuffling and less photometric distortion. The highest accuracies are "
    "72.2, 72.7, 73.0 and 74.8 %. At five times its rate the parameters of Inception without batch "
    "normalization reached machine infinity.",
    unspecified="How Inception's learning rate was chosen, and its initial weights. Here all is "
    "scaled down: CIFAR-10, the paper's ten modules with about 106,000 parameters, 6,000 steps "
    "(4.3 epochs, where the paper has hundreds), a decay to a fiftieth of the rate by then. "
    f"Initial weights after He; ×1 is {fig2_arms.LR:g}, Inception's own best on validation "
    "images, and Inception is judged at its best of a grid around that. Steps to an accuracy are "
    "read off validation curves, linear between evaluations 300 steps apart. With fewer steps than "
    "it takes for Inception's curve to be flat, the factor would be another.",
    criteria=_criteria(),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Bjorck et al. 2018",
            "1806.02375",
            "At equal, small learning rates batch normalization gains little; what it allows are "
            "larger ones, and those train faster and generalize better.",
        ),
        FollowUp(
            "Santurkar et al. 2018",
            "1805.11604",
            "The speed does not come from less internal covariate shift: with noise added after "
            "the normalization a network trains about as fast. The loss is smoother.",
        ),
    ),
)
