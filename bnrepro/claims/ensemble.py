"""§4.2.3: an ensemble of networks based on BN-x30 is better than one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import (
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
from bnrepro.evidence.exhibits import Curves, Figure, HeatMap, Table, over_seeds
from bnrepro.evidence.fig2_arms import BN_BASELINE, BN_X5, BN_X30, NETWORKS, arm
from bnrepro.evidence.runs import CHANCE, TEST, VALIDATION, Evidence

LARGER, PER_ACTIVATION = "init.scale=1.5", "model.per_activation=true"
LITTLE, MORE = "model.dropout=0.05", "model.dropout=0.1"

VARIED = {
    "larger weights": (LARGER,),
    "dropout 10 %": (MORE,),
    "per activation": (PER_ACTIVATION,),
    "dropout 5 %": (LITTLE,),
    "larger weights, dropout 5 %": (LARGER, LITTLE),
    "per activation, dropout 10 %": (PER_ACTIVATION, MORE),
}
"""The networks of the ensemble: what each has that BN-x30 has not. Each change is in two of them,
and so is either strength of dropout."""

COUNT = {"smoke": 3, "short": 3, "paper": 6}
"""How many of them: the first three have one of the paper's changes each."""

OTHERS = (BN_X30, BN_X5, BN_BASELINE)
"""Single networks that the ensemble is set beside as well."""

ERRORS = 4.9, 5.82, 7.82
"""Top-5 errors in % on ImageNet's validation set (Fig. 4): of the paper's ensemble over 144 crops
of each image, of one network over as many, and of one network with one crop."""

SPARED = 0.1
"""The share of errors that is asked for."""

Answers = dict[str, np.ndarray]
"""A run's class probabilities and labels, as `StoredRun.predictions` has them."""

Place = tuple[str, int]
"""A run: its arm, and its row among the seeds."""


def members(scale: str) -> list[str]:
    """The arms that make an ensemble."""
    return list(VARIED)[: COUNT[scale]]


def _scale(scale: str) -> Plan:
    arms = {name: arm(scale, *NETWORKS[BN_X30], *VARIED[name]) for name in members(scale)}
    others = OTHERS[:1] if scale == SMOKE else OTHERS
    return Plan(CIFAR_SEEDS[scale], arms | {name: arm(scale, *NETWORKS[name]) for name in others})


def answers(evidence: Evidence) -> dict[Place, Answers]:
    """What every run answered; of one that diverged there is nothing."""
    return {
        (name, row): run.predictions()
        for name, runs in evidence.runs.items()
        for row, (run, diverged) in enumerate(zip(runs, evidence.diverged(name), strict=True))
        if not diverged
    }


def accuracy(said: Sequence[Answers], *, geometric: bool = False) -> float:
    """Test accuracy of the mean of class probabilities; that of guessing where there are none.

    A network that diverged guesses, which is to say that every class is equally likely: that adds
    the same to every class's mean and changes no answer. So it is left out.
    """
    if not said:
        return CHANCE
    probabilities = np.stack([each["test/probabilities"] for each in said]).astype(np.float64)
    if geometric:
        probabilities = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return float((probabilities.mean(0).argmax(1) == said[0]["test/labels"]).mean())


def spared(ensemble: np.ndarray, single: np.ndarray) -> np.ndarray:
    """The share of a single network's errors that an ensemble does not make, by accuracies: (S,).

    Of no errors none are spared.
    """
    errors = 1 - single
    return np.where(errors > 0, (ensemble - single) / np.where(errors > 0, errors, 1), 0.0)


def teams(evidence: Evidence, apart: int = 0) -> list[list[Place]]:
    """An ensemble for every seed; each run is in one.

    `apart` is by how many rows the seeds of its members differ, from each to the next.
    """
    names, count = members(evidence.scale), len(evidence.seeds)
    return [
        [(name, (row + apart * number) % count) for number, name in enumerate(names)]
        for row in range(count)
    ]


def together(
    said: dict[Place, Answers], found: Sequence[Sequence[Place]], *, geometric: bool = False
) -> np.ndarray:
    """The accuracy of each ensemble: (S,)."""
    return np.array(
        [accuracy([said[p] for p in team if p in said], geometric=geometric) for team in found]
    )


def best(evidence: Evidence, found: Sequence[Sequence[Place]]) -> np.ndarray:
    """Test accuracy of the run of each ensemble whose validation accuracy is highest: (S,)."""
    chosen = [
        max(team, key=lambda place: float(evidence.final(place[0], VALIDATION)[place[1]]))
        for team in found
    ]
    return np.array([evidence.final(name)[row] for name, row in chosen])


def mean(
    evidence: Evidence, said: dict[Place, Answers], found: Sequence[Sequence[Place]]
) -> np.ndarray:
    """Mean test accuracy of the runs of each ensemble: (S,).

    Without those that diverged: to be better than these is no merit.
    """
    accuracies = [
        [evidence.final(name)[row] for name, row in t if (name, row) in said] for t in found
    ]
    return np.array([float(np.mean(each)) if each else CHANCE for each in accuracies])


def effects(
    evidence: Evidence, said: dict[Place, Answers], found: Sequence[Sequence[Place]]
) -> dict[str, np.ndarray]:
    """Both criteria's effects, of one ensemble for every seed."""
    ensemble = together(said, found)
    return {
        "best": spared(ensemble, best(evidence, found)),
        "mean": spared(ensemble, mean(evidence, said, found)),
    }


def measure(evidence: Evidence) -> Finding:
    """The ensemble of each seed; beside other networks, and put together otherwise."""
    said, found = answers(evidence), teams(evidence)
    return Finding(
        effects(evidence, said, found),
        _comparisons(evidence, said) if evidence.scale != SMOKE else (),
        (_growing(evidence, said), _alike(evidence, said), _table(evidence, said)),
        _fair(evidence, said),
        _unspecified(evidence, said),
    )


def _comparisons(evidence: Evidence, said: dict[Place, Answers]) -> tuple[PaperNumber, ...]:
    together_, alone = (
        100 * (1 - each) for each in (together(said, teams(evidence)), evidence.final(BN_X30))
    )
    papers = "the paper: top-5, on ImageNet"
    six, one, one_crop = ERRORS
    return (
        PaperNumber(f"error of the ensemble ({papers}, 144 crops of each image)", "%", six,
                   together_),
        PaperNumber(f"error of BN-x30 alone ({papers}, 144 crops)", "%", one, alone),
        PaperNumber(f"error of BN-x30 alone ({papers}, one crop)", "%", one_crop, alone),
        PaperNumber(f"the ensemble's ÷ that of BN-x30 ({papers}, 144 crops)", "times", six / one,
                   together_ / alone),
    )  # fmt: skip


def _growing(evidence: Evidence, said: dict[Place, Answers]) -> Figure:
    found = teams(evidence)
    numbers = range(1, len(found[0]) + 1)
    values = [
        [float(together(said, list(combinations(team, n))).mean()) for n in numbers]
        for team in found
    ]

    def level(accuracies: np.ndarray) -> np.ndarray:
        return np.repeat(accuracies[:, None], len(numbers), axis=1)

    lines = (
        over_seeds("mean of probabilities", numbers, np.array(values)),
        over_seeds("best single one", numbers, level(best(evidence, found))),
        over_seeds(f"{BN_X30} alone", numbers, level(evidence.final(BN_X30))),
    )
    caption = (
        "Test accuracy over the number of networks: of each seed the mean over all ensembles of so "
        "many of its networks, then the median over seeds, band from least to greatest. Beside it "
        f"the network with the highest validation accuracy, and {BN_X30}, which is not in the "
        "ensemble. A network that diverged guesses."
    )
    panel = Curves("How many networks", "networks in the ensemble", "test accuracy", lines,
                   log_x=True)  # fmt: skip
    return Figure("growing", caption, (panel,))


def _alike(evidence: Evidence, said: dict[Place, Answers]) -> Figure:
    names = members(evidence.scale)
    chosen = {place: each["test/probabilities"].argmax(1) for place, each in said.items()}

    def differ(one: str, other: str) -> float:
        shares = [
            float((chosen[one, row] != chosen[other, row]).mean())
            for row in range(len(evidence.seeds))
            if (one, row) in chosen and (other, row) in chosen
        ]
        return float(np.mean(shares)) if shares else float("nan")

    nothing = float("nan")
    values = [[nothing if a == b else differ(a, b) for b in names] for a in names]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    rows = [f"{name} ({number})" for number, name in zip(numbers, names, strict=True)]
    panel = HeatMap("How often two networks differ", "", "", numbers, rows, values)
    caption = (
        "The share of test images to which two networks of one seed answer differently, mean over "
        "seeds: what an ensemble lives on."
    )
    return Figure("alike", caption, (panel,))


def _table(evidence: Evidence, said: dict[Place, Answers]) -> Table:
    found = teams(evidence)
    rows: list[tuple[str | float | int | None, ...]] = []
    for name in evidence.runs:
        means = (float(evidence.final(name, metric).mean()) for metric in (VALIDATION, TEST))
        rows.append((name, *means, int(evidence.diverged(name).sum())))
    for name, accuracies in {
        "the ensemble": together(said, found),
        "best single one of it": best(evidence, found),
        "mean single one of it": mean(evidence, said, found),
    }.items():
        rows.append((name, None, float(accuracies.mean()), None))
    caption = (
        "Accuracies, means over seeds; the networks of the ensemble first, by what each has that "
        f"{BN_X30} has not. One that diverged guesses; the mean single one is without it."
    )
    return Table(caption, ("network", "validation", "test", "diverged"), rows)


def _fair(evidence: Evidence, said: dict[Place, Answers]) -> Check:
    others = [name for name in OTHERS if name in evidence.runs]
    candidates = [
        [*team, *((name, row) for name in others)] for row, team in enumerate(teams(evidence))
    ]
    single = best(evidence, candidates)
    choice = f"the best of the ensemble's networks, {', '.join(others)}"
    values = {"best": spared(together(said, teams(evidence)), single)}
    return Check(
        "The single network may also be one that is not in the ensemble, at a lower learning rate "
        "than the thirtyfold; chosen by validation accuracy, of the same seed. An ensemble costs "
        "as many times as much as it has networks; a single one that costs as much, being larger "
        "or trained for longer, is not among them.",
        (Variation(choice, values),),
    )


def _unspecified(evidence: Evidence, said: dict[Place, Answers]) -> Check:
    found = teams(evidence)
    ensemble = together(said, found)
    variations = [
        Variation(f"{BN_X30} itself as the single one",
                  {"best": spared(ensemble, evidence.final(BN_X30))}),
        Variation("geometric in place of arithmetic mean",
                  {"best": spared(together(said, found, geometric=True), best(evidence, found))}),
    ]  # fmt: skip
    if len(evidence.seeds) > 1:
        mixed = effects(evidence, said, teams(evidence, apart=1))
        variations.append(Variation("networks of an ensemble from different seeds", mixed))
    return Check(
        "The single network; the mean; and whether the networks of an ensemble begin with the same "
        "draw of initial weights and see the images in the same order, which the paper does not "
        "say.",
        tuple(variations),
    )


CLAIM = Claim(
    statement="The mean of the class probabilities of six networks based on BN-x30 makes fewer "
    "errors than the best of them, and than the mean one.",
    section="§4.2.3",
    paper_says="Six networks based on BN-x30, each changed by some of: larger initial weights in "
    "the convolutional layers; Dropout of 5 or 10 %, where Inception has 40 %; batch normalization "
    "per activation in the last hidden layers. The arithmetic mean of their class probabilities. "
    "Top-5 error on ImageNet's validation set 4.9 % (test set 4.82 %), over 144 crops of each "
    "image; of one network 5.82 % over as many crops, 7.82 % with one crop (Fig. 4).",
    unspecified="Which network has which of the changes, and how much larger the weights are. Here "
    "six different sets of them, three at smaller scales; 1.5 times He's deviation, which is that "
    "of all weights, the softmax's among them (§3.3: behind a normalization it changes no "
    "activation, and makes steps act as if they were 2.25 times smaller); the last module of "
    "Inception per activation. CIFAR-10 and an Inception of 106,000 parameters. The paper's "
    "ensemble answers by the mean over many crops of each image as well, the one network by one "
    "crop; here there is one image. One ensemble a seed, of networks of that seed. A network that "
    "diverges guesses, and so is left out. Errors here are top-1: of ten classes five are half.",
    criteria=(
        Criterion(
            "best",
            "the share of errors on test images that the ensemble does not make, of those that the "
            "best of its networks by validation accuracy makes, of the same seed",
            "of the errors",
            SPARED,
            "A tenth. The paper's 4.9 against 5.82 %, both over 144 crops, are 16 % fewer than "
            "those of one network, which is not said to be the best: more than half of that.",
        ),
        Criterion(
            "mean",
            "the same, of the errors that its networks make on average, without those that "
            "diverged",
            "of the errors",
            SPARED,
            "A tenth as well: whichever network one happened to have.",
        ),
    ),
    scales={scale: _scale(scale) for scale in SCALES},
    measure=measure,
    later=(
        FollowUp(
            "Lakshminarayanan et al. 2017",
            "1612.01474",
            "Confirmed, and for more than accuracy: the mean of the probabilities of networks that "
            "differ in initial weights and the order of images alone is better calibrated, and "
            "less sure of itself on images of another kind.",
        ),
        FollowUp(
            "Fort et al. 2019",
            "1912.02757",
            "Networks from different initial weights come to different functions; those found "
            "along one way of training resemble each other, and help an ensemble less.",
        ),
    ),
)
