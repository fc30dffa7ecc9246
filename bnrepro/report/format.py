"""Numbers as a report shows them, by their unit, and text in Markdown."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bnrepro.evidence.claim import Claim, Criterion, Group
from bnrepro.evidence.judge import Judged, Verdict
from bnrepro.evidence.power import SEEN, probability, widest, wrong
from bnrepro.evidence.runs import median_range

FACTORS = {"doublings": 2.0, "decades": 10.0}
"""Units of effects that are logarithms of a ratio; the ratio is shown as well."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

FEW_SEEDS = 5
"""Of fewer, an interval is called all of them and not by what it covers."""


def said(value: float | str | None, unit: str = "") -> str:
    """A number as it is shown, by its unit."""
    if value is None or isinstance(value, str):
        return value or ""
    if math.isinf(value):
        return "never" if unit == "steps" and value > 0 else "∞" if value > 0 else "−∞"
    if unit == "steps":
        text = f"{value:,.0f}"
    elif unit == "accuracy":
        text = f"{value:.4f}"
    elif isinstance(value, int):
        text = str(value)
    else:
        text = _rounded(value, 4)
    return text.replace("-", "−")


def of_column(name: str) -> str:
    """The unit of a table's column, by its name: digits of accuracies are as many in every row."""
    if name == "steps":
        return name
    return "accuracy" if "accuracy" in name.lower() else ""


def numbered(seeds: Sequence[int]) -> str:
    """Seeds by their numbers, which follow one another."""
    first, last = seeds[0], seeds[-1]
    return f"seed {first}" if first == last else f"seeds {first} to {last}"


def signed(value: float, unit: str) -> str:
    """A number with its sign."""
    unit = "" if math.isinf(value) else unit  # infinitely more, not "never"
    return f"+{said(value, unit)}" if value > 0 else said(value, unit)


def plain(value: float, unit: str) -> str:
    """An effect as a reader thinks of it: a logarithm as its ratio, accuracy in points, or percent.

    A unit that names a whole, such as `of the errors`, is a share of it.
    """
    number = plain_number(value, unit)
    return number if unit in FACTORS or math.isinf(value) else f"{number} {_named(unit)}"


def plain_number(value: float, unit: str) -> str:
    """The same without a unit of words, which stands elsewhere."""
    if unit in FACTORS and math.isinf(value):
        return "×∞" if value > 0 else "×0"
    if math.isinf(value):
        return said(value)
    if unit in FACTORS:
        return _ratio(value, unit)
    if unit.startswith("of the "):
        return f"{signed(round(100 * value, 1) + 0.0, unit)} %"  # of −0.0 the sum is 0.0
    return _effect(value, unit)


def meaning(verdict: Verdict, criterion: Criterion) -> str:
    """A verdict in a sentence; where no effect is what is claimed, the margin is one to stay in."""
    if verdict is Verdict.REPRODUCED and _of_no_effect(criterion):
        return "What effect there may be is within the margin."
    return verdict.meaning


def _ratio(value: float, unit: str) -> str:
    """The ratio that a logarithm stands for, such as `×1.4`, `×1,060` or `×5.9·10⁷`."""
    return f"×{_rounded(FACTORS[unit] ** value, 3)}"


def _rounded(value: float, digits: int) -> str:
    """A number by its first digits, such as `0.02`, below a million `32,000`, or `5.9·10⁷`."""
    text = f"{value:.{digits}g}"
    exponent = text.partition("e")[2]
    return f"{float(text):,.0f}" if exponent and 0 < int(exponent) < 6 else powered(text)


def powered(number: str) -> str:
    """Python's `3.2e-06` as `3.2·10⁻⁶`, and `1e-06` as `10⁻⁶`."""
    digits, _, exponent = number.partition("e")
    if not exponent:
        return digits
    power = f"10{str(int(exponent)).translate(RAISED)}"
    return power if digits == "1" else f"{digits}·{power}"


def _effect(value: float, unit: str) -> str:
    """An effect without its unit, which `_named` says: one of accuracies is in points."""
    if unit != "accuracy" or math.isinf(value):
        return signed(value, unit)
    points = f"{100 * value:+.2f}"
    return points.replace("-", "−") if float(points) else "0"


def _named(unit: str) -> str:
    return "points" if unit == "accuracy" else unit


def plain_effect(judged: Judged) -> str:
    """The same, of a median that may be cut off."""
    summary, unit = judged.summary, judged.criterion.margin.unit
    if summary.cut_off and math.isinf(summary.shown):
        return "neither arrives"
    bound = {None: "", "at_least": "at least ", "at_most": "at most "}[summary.cut_off]
    return f"{bound}{plain(summary.shown, unit)}"


def plain_interval(judged: Judged) -> str:
    """And its interval."""
    if judged.summary.interval is None:
        return "one seed"
    return plain_between(*judged.summary.interval, judged.criterion.margin.unit)


def plain_between(low: float, high: float, unit: str) -> str:
    """Both ends of an interval, their unit once; without a lower end it goes up to the other."""
    if plain(low, unit) == (last := plain(high, unit)):
        return last
    return f"up to {last}" if low == -math.inf else f"{plain_number(low, unit)} to {last}"


def _of_no_effect(criterion: Criterion) -> bool:
    """Whether what is claimed is that there is no effect, or no harm."""
    return criterion.equivalence or criterion.margin.value < 0


def bound(criterion: Criterion) -> str:
    """A criterion's margin, without its unit; of equivalence to both sides."""
    margin = _effect(criterion.margin.value, criterion.margin.unit)
    return f"±{margin.removeprefix('+')}" if criterion.equivalence else margin


def asked_for(criterion: Criterion) -> str:
    """What the effect has to be, in words."""
    unit = criterion.margin.unit
    if criterion.equivalence:
        return f"within {bound(criterion)} {_named(unit)}"
    return f"more than {plain(criterion.margin.value, unit)}"


def expected(claim: Claim) -> str:
    """What was predicted, in words."""
    prediction, unit = claim.expected, claim.criteria[claim.primary].margin.unit
    if prediction.verdict is None and prediction.effect is None:
        return "open"
    parts = [
        prediction.verdict or "",
        *([plain(prediction.effect, unit)] if prediction.effect else []),
    ]
    known = " (known beforehand: it proves little)" if prediction.known else ""
    return f"{', '.join(filter(None, parts))}{known}"


def power(claim: Claim, seeds: int) -> str:
    """What a number of seeds can show of the primary criterion; empty for an identity, or one seed.

    Where the claim registers no spread over seeds, it is the largest at which a verdict comes.
    """
    if seeds < 2 or claim.group is Group.IDENTITY:
        return ""
    criterion = claim.criteria[claim.primary]
    unit, spread = criterion.margin.unit, criterion.spread
    cases = [
        (
            Verdict.REPRODUCED if _of_no_effect(criterion) else Verdict.NO_EFFECT,
            0.0,
            "there is no effect",
        )
    ]
    if criterion.paper is not None:
        named = f"the true effect is the paper’s ({plain(criterion.paper, unit)})"
        cases.insert(0, (Verdict.REPRODUCED, criterion.paper, named))
    elif claim.expected.effect is not None:
        named = f"the true effect is the one expected ({plain(claim.expected.effect, unit)})"
        cases.insert(0, (Verdict.REPRODUCED, claim.expected.effect, named))
    sentences = [
        f"{seeds} seeds: a true median at the margin comes out as REPRODUCED in at most "
        f"{_percent(wrong(seeds))} of cases."
    ]
    over = "" if spread is None else f" with a standard deviation of {_size(spread, unit)}"
    for verdict, at, named in cases:
        if spread is not None:
            often = f"in {_percent(probability(verdict, criterion, seeds, at, spread))} of cases"
        elif most := widest(verdict, criterion, seeds, at):
            often = (
                f"in {100 * SEEN:.0f} % of cases or more while the standard deviation over seeds "
                f"is at most {_size(most, unit)}"
            )
        else:
            often = f"in less than {100 * SEEN:.0f} % of cases"
        sentences.append(f"If {named}, the verdict is {verdict} {often}.")
    return f"{' '.join(sentences)} (Effects that are normal over seeds{over}.)"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 0.9995 else "over 99.9 %"


def _size(spread: float, unit: str) -> str:
    """A standard deviation in the unit of an effect."""
    if unit == "accuracy":
        return f"{100 * spread:.2g} points"
    if unit.startswith("of the "):
        return f"{100 * spread:.2g} % {unit}"
    return f"{spread:.2g} {unit}"


def effect(judged: Judged) -> str:
    """An effect in its unit; a logarithm also as the ratio it stands for."""
    unit, summary = judged.criterion.margin.unit, judged.summary
    if summary.cut_off == "at_most" and math.isinf(summary.shown):
        return "neither arrives"
    bound = {None: "", "at_least": "at least ", "at_most": "at most "}[summary.cut_off]
    return f"{bound}{_in_unit(summary.shown, unit)}"


def papers(criterion: Criterion) -> str:
    """What the paper has, in the same form; empty where it has no number."""
    paper = criterion.paper
    return "" if paper is None else _in_unit(paper, criterion.margin.unit)


def _in_unit(value: float, unit: str) -> str:
    ratio = ""
    if unit in FACTORS and math.isfinite(value):
        ratio = f" ({_ratio(value, unit)})"
    return f"{_effect(value, unit)} {_named(unit)}{ratio}"


def interval(judged: Judged) -> str:
    """The interval of an effect, without its unit."""
    if judged.summary.interval is None:
        return "none of one seed"
    low, high = (_effect(end, judged.criterion.margin.unit) for end in judged.summary.interval)
    return f"{low} to {high}"


def coverage(judged: Judged) -> str:
    """What the interval covers, or what it is."""
    summary = judged.summary
    if summary.coverage is None:
        return ""
    if summary.images is not None:
        return f"nominally {100 * summary.coverage:.3g} %"
    seeds = len(summary.effects)
    return f"all {seeds} seeds" if seeds < FEW_SEEDS else f"{100 * summary.coverage:.4g} %"


def spread(values: Sequence[float] | np.ndarray, unit: str) -> str:
    """Median, least and greatest of the seeds."""
    if not len(values):
        return ""
    middle, low, high = (said(value, unit) for value in median_range(values))
    return middle if low == high else f"{middle} ({low} to {high})"


def markdown(value: Any) -> Any:
    """Text with nothing in it that Markdown would take for its own; markup of a template stays."""
    from markupsafe import Markup

    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return re.sub(r"([\\`*_<>\[\]|#~])", r"\\\1", re.sub(r"\s+", " ", value))
