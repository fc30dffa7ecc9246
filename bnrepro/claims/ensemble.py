"""§4.2.3: an ensemble of networks based on BN-x30 is better than one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import xarray as xr

from bnrepro.evidence.arms import CIFAR_SEEDS
from bnrepro.evidence.claim import Check, Claim, Criterion, Finding, Margin, PaperNumber, plans
from bnrepro.evidence.exhibits import Curves, Figure, HeatMap, Table, over_seeds
from bnrepro.evidence.fig2_arms import BN_BASELINE, BN_X5, BN_X30, NETWORKS, arm
from bnrepro.evidence.grid import Array, Grid, grid, table
from bnrepro.evidence.runs import CHANCE, Evidence

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


def members(scale: str) -> list[str]:
    """The networks that make an ensemble."""
    return list(VARIED)[: COUNT[scale]]


def others(scale: str) -> Sequence[str]:
    """Those that are set beside it."""
    return OTHERS[:1] if scale == "smoke" else OTHERS


def networks(scale: str) -> Grid:
    """All of them."""
    words = {name: (*NETWORKS[BN_X30], *VARIED[name]) for name in members(scale)}
    words |= {name: NETWORKS[name] for name in others(scale)}
    return grid(network={name: arm(scale, *own) for name, own in words.items()})


def accuracy(answers: Sequence[Answers], *, geometric: bool = False) -> float:
    """Test accuracy of the mean of class probabilities; that of guessing where there are none.

    A network that diverged guesses, which is to say that every class is equally likely: that adds
    the same to every class's mean and changes no answer. So it is left out.
    """
    if not answers:
        return CHANCE
    probabilities = np.stack([each["test/probabilities"] for each in answers]).astype(np.float64)
    if geometric:
        probabilities = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return float((probabilities.mean(0).argmax(1) == answers[0]["test/labels"]).mean())


def spared(ensemble: Array, single: Array) -> Array:
    """The share of a single network's errors that an ensemble does not make, by accuracies.

    Of no errors none are spared.
    """
    errors = 1 - single
    share: Array = ((ensemble - single) / errors.where(errors > 0, 1)).where(errors > 0, 0.0)
    return share


def best(runs: xr.Dataset) -> Array:
    """Test accuracy of the network whose validation accuracy is highest: (seed,)."""
    return runs["test"].sel(network=runs.validation.idxmax("network"))


class Teams:
    """An ensemble for every seed; each run is in one.

    Args:
        runs: of its networks, as `Grid.runs` makes them.
        answers: of those that did not diverge, by network and row among the seeds.
        apart: by how many rows the seeds of its members differ, from each to the next.
    """

    def __init__(
        self, runs: xr.Dataset, answers: Mapping[tuple[str, int], Answers], apart: int = 0
    ) -> None:
        names, count = runs.network.to_numpy().tolist(), runs.sizes["seed"]
        self.answers: list[dict[str, Answers]] = []  # without those that diverged
        for row in range(count):
            team = [(name, (row + apart * number) % count) for number, name in enumerate(names)]
            self.answers.append({at[0]: answers[at] for at in team if at in answers})
        moved = (runs.isel(network=[n]).roll(seed=-apart * n) for n in range(len(names)))
        self.runs: xr.Dataset = xr.concat(list(moved), "network")

    def together(self, *, geometric: bool = False) -> Array:
        """The accuracy of each ensemble: (seed,)."""
        found = [accuracy(list(team.values()), geometric=geometric) for team in self.answers]
        return Array(found, {"seed": self.runs.seed})

    def best(self) -> Array:
        """Test accuracy of the run of each whose validation accuracy is highest: (seed,)."""
        return best(self.runs)

    def mean(self) -> Array:
        """Mean test accuracy of the runs of each: (seed,).

        Without those that diverged: to be better than these is no merit.
        """
        test = self.runs["test"].where(~self.runs.diverged)
        return test.mean("network").fillna(CHANCE)

    def effects(self) -> dict[str, Array]:
        """Both criteria's effects."""
        ensemble = self.together()
        return {"best": spared(ensemble, self.best()), "mean": spared(ensemble, self.mean())}


def measure(evidence: Evidence) -> Finding:
    """The ensemble of each seed; beside other networks, and put together otherwise."""
    of, names = networks(evidence.scale), members(evidence.scale)
    runs = of.runs(evidence)
    mine = runs[["test", "validation", "diverged"]].sel(network=names)
    answers = {
        (name, row): run.predictions()
        for name in names
        for row, run in enumerate(evidence.runs[of.arm(name)])
        if not mine.diverged.sel(network=name)[row]
    }
    teams = Teams(mine, answers)
    ensemble = teams.together()
    alone = runs.test.sel(network=BN_X30)
    single, beside = best(runs), ", ".join(others(evidence.scale))
    choices = {
        f"{BN_X30} itself as the single one": {"best": spared(ensemble, alone)},
        "geometric in place of arithmetic mean": {
            "best": spared(teams.together(geometric=True), teams.best())
        },
    }
    if len(evidence.seeds) > 1:
        mixed = Teams(mine, answers, apart=1).effects()
        choices["networks of an ensemble from different seeds"] = mixed
    return Finding(
        teams.effects(),
        _comparisons(ensemble, alone) if evidence.scale != "smoke" else (),
        (_growing(teams, alone), _alike(teams), _table(teams, runs)),
        Check(
            "The single network may also be one that is not in the ensemble, at a lower learning "
            "rate than the thirtyfold; chosen by validation accuracy, of the same seed. An "
            "ensemble costs as many times as much as it has networks; a single one that costs as "
            "much, being larger or trained for longer, is not among them.",
            {f"the best of the ensemble's networks, {beside}": {"best": spared(ensemble, single)}},
        ),
        Check(
            "The single network; the mean; and whether the networks of an ensemble begin with the "
            "same draw of initial weights and see the images in the same order, which the paper "
            "does not say.",
            choices,
        ),
    )


def _comparisons(ensemble: Array, alone: Array) -> tuple[PaperNumber, ...]:
    together, single = (100 * (1 - each.to_numpy()) for each in (ensemble, alone))
    papers = "the paper: top-5, on ImageNet"
    six, one, one_crop = ERRORS
    return (
        PaperNumber(f"error of the ensemble ({papers}, 144 crops of each image)", "%", six,
                    together),
        PaperNumber(f"error of BN-x30 alone ({papers}, 144 crops)", "%", one, single),
        PaperNumber(f"error of BN-x30 alone ({papers}, one crop)", "%", one_crop, single),
        PaperNumber(f"the ensemble's ÷ that of BN-x30 ({papers}, 144 crops)", "times", six / one,
                    together / single),
    )  # fmt: skip


def _growing(teams: Teams, alone: Array) -> Figure:
    numbers = range(1, teams.runs.sizes["network"] + 1)

    def mean(team: dict[str, Answers], number: int) -> float:
        """Over all ensembles of so many of the networks."""
        chosen = combinations(teams.runs.network.to_numpy().tolist(), number)
        return float(np.mean([accuracy([team[n] for n in of if n in team]) for of in chosen]))

    def level(accuracies: Array) -> np.ndarray:
        return np.repeat(accuracies.to_numpy()[:, None], len(numbers), axis=1)

    values = np.array([[mean(team, number) for number in numbers] for team in teams.answers])
    lines = (
        over_seeds("mean of probabilities", numbers, values),
        over_seeds("best single one", numbers, level(teams.best())),
        over_seeds(f"{BN_X30} alone", numbers, level(alone)),
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


def _alike(teams: Teams) -> Figure:
    names = teams.runs.network.to_numpy().tolist()
    chosen = [
        {name: each["test/probabilities"].argmax(1) for name, each in team.items()}
        for team in teams.answers
    ]

    def differ(a: str, b: str) -> float:
        shares = [float((of[a] != of[b]).mean()) for of in chosen if a in of and b in of]
        return float(np.mean(shares)) if shares and a != b else float("nan")

    values = [[differ(a, b) for b in names] for a in names]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    rows = [f"{name} ({number})" for number, name in zip(numbers, names, strict=True)]
    panel = HeatMap("How often two networks differ", "", "", numbers, rows, values)
    caption = (
        "The share of test images to which two networks of one seed answer differently, mean over "
        "seeds: what an ensemble lives on."
    )
    return Figure("alike", caption, (panel,))


def _table(teams: Teams, runs: xr.Dataset) -> Table:
    single = table(
        "Accuracies, means over seeds; the networks of the ensemble first, by what each has that "
        f"{BN_X30} has not. One that diverged guesses; the mean single one is without it.",
        ("network",),
        {
            "validation": runs.validation, "test": runs.test,
            "diverged": runs.diverged.sum("seed"),
        },
    )  # fmt: skip
    more = {
        "the ensemble": teams.together(),
        "best single one of it": teams.best(),
        "mean single one of it": teams.mean(),
    }
    rows = [(name, None, float(accuracies.mean()), None) for name, accuracies in more.items()]
    return replace(single, rows=[*single.rows, *rows])


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
    criteria={
        "best": Criterion(
            "the share of errors on test images that the ensemble does not make, of those that the "
            "best of its networks by validation accuracy makes, of the same seed",
            Margin(SPARED, "of the errors"),
            "A tenth. The paper's 4.9 against 5.82 %, both over 144 crops, are 16 % fewer than "
            "those of one network, which is not said to be the best: more than half of that.",
        ),
        "mean": Criterion(
            "the same, of the errors that its networks make on average, without those that "
            "diverged",
            Margin(SPARED, "of the errors"),
            "A tenth as well: whichever network one happened to have.",
        ),
    },
    scales=plans(lambda scale: networks(scale).arms(), CIFAR_SEEDS),
    measure=measure,
    later={
        "Lakshminarayanan et al. 2017": "Confirmed, and for more than accuracy: the mean of the "
        "probabilities of networks that differ in initial weights and the order of images alone "
        "is better calibrated, and less sure of itself on images of another kind.",
        "Fort et al. 2019": "Networks from different initial weights come to different functions; "
        "those found along one way of training resemble each other, and help an ensemble less.",
    },
)
