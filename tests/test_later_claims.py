"""What claims of later papers are made of: studies, restrictions and effects, by closed forms."""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn.functional import cross_entropy

from bnrepro import claims
from bnrepro import config as c
from bnrepro.claims import (
    depth_limits,
    effective_learning_rate,
    gradient_shift,
    landscape,
    large_steps,
    noisy_bn,
)
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.data import Dataset, unseen_batches
from bnrepro.errors import ConfigError
from bnrepro.evidence.claim import Group
from bnrepro.evidence.grid import Array
from bnrepro.evidence.judge import Verdict, judged
from bnrepro.nn.build import build
from bnrepro.nn.inference import population_statistics
from bnrepro.store import StoredRun
from bnrepro.sweeps.stacks import common
from bnrepro.training.loop import score
from bnrepro.training.optim import Adagrad, Adam, Sgd
from bnrepro.training.restriction import decayed, trained
from bnrepro.training.studies import measure
from bnrepro.training.studies.depth import rank
from bnrepro.training.studies.precise_statistics import IMAGES

LATER = ("noisy-bn", "batch-free-norms", "whitening", "gradient-shift", "landscape",
         "depth-limits", "large-steps", "precise-statistics", "effective-learning-rate",
         "only-bn")  # fmt: skip
SEEDS = {"seed": range(30, 40)}
NOISE = np.linspace(-0.05, 0.05, 10)


def configured(*words: str) -> c.Config:
    return compose(["dataset=digits", "model.hidden=[20,16]", "init=he", *words]).config


def network(digits: Dataset, *words: str) -> tuple[nn.Module, c.Config]:
    config = configured(*words)
    return build(config, digits.image_shape, 10), config


def verdict(claim: str, criterion: str, effect: Array) -> Verdict:
    return judged(claims.load(claim).criteria[criterion], effect).verdict


@pytest.mark.parametrize("name", LATER)
def test_claims_of_later_papers_have_seeds_of_their_own(name: str) -> None:
    claim = claims.load(name)
    assert claim.first_seed == 30
    assert claim.group is Group.LATER


# Studies


def test_the_rank_of_what_is_known() -> None:
    orthogonal, _ = torch.linalg.qr(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    assert rank(orthogonal) == pytest.approx(5)
    assert rank(orthogonal.T) == pytest.approx(5)
    assert rank(torch.ones(20, 5)) == pytest.approx(1)
    assert rank(orthogonal @ torch.diag(torch.tensor([3.0, 1, 0, 0, 0]))) == pytest.approx(
        (9 + 1) ** 2 / (81 + 1)
    )
    assert rank(torch.zeros(3, 2)) == 0


@pytest.mark.parametrize("norm", ["none", "torch"])
def test_gradients_and_ranks_of_every_layer_as_by_hand(digits: Dataset, norm: str) -> None:
    model, config = network(digits, f"norm={norm}", "studies=[depth]", "model.activation=relu")
    found = measure(model, digits, config)["depth"]
    assert found["start"] == found["end"]  # not trained
    by_hand = build(config, digits.image_shape, 10).double().train()
    images, labels = digits.train.images[:1000].double(), digits.train.labels[:1000]
    h, ranks = images, []
    for layer in by_hand:
        h = layer(h)
        if isinstance(layer, nn.ReLU):
            values = torch.linalg.eigvalsh(h.T @ h / len(h))
            ranks.append((values.sum() ** 2 / values.square().sum()).item())
    cross_entropy(h, labels).backward()
    weights = [layer.weight for layer in by_hand if isinstance(layer, nn.Linear)]
    squares = [weight.grad.square().sum().item() for weight in weights]
    assert found["start"]["gradient"] == pytest.approx(squares)
    assert found["start"]["rank"] == pytest.approx(ranks)
    assert found["images"] == 1000


def test_precise_statistics_are_those_of_algorithm_2(digits: Dataset) -> None:
    words = ("studies=[precise-statistics]", "train.batch_size=50", "optimizer.lr=0.5")
    model, config = network(digits, *words)
    model.train()
    for _ in range(3):  # averages that are off
        model(digits.train.images[:50])
    found = measure(model, digits, config)["precise-statistics"]
    model.eval()
    assert found["images"] == [150, 300, 1000, 3000, 10_000]
    assert found["moving_averages"]["test"] == score(model, digits.test)[0]
    for place, count in enumerate(-(-images // 50) for images in IMAGES):
        rows = unseen_batches(config.seed, len(digits.train), 50, count)
        population_statistics(model, [digits.train.images[row] for row in rows])
        assert found["test"][place] == score(model, digits.test)[0]
        assert found["validation"][place] == score(model, digits.validation)[0]


def test_whitening_is_timed_against_batch_normalization_at_every_width(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("bnrepro.training.studies.whitening_seconds")
    seen = []

    def timed(
        configs: Mapping[str, c.Config], data: Dataset, steps: Sequence[object], turns: int
    ) -> tuple[dict[str, list[float]], float]:
        of = configs["whiten"]
        seen.append((of.model.hidden, of.train.batch_size, len(steps)))
        assert configs["batch"] == replace(of, norm=configs["batch"].norm)
        return {"whiten": [2.0 * of.model.hidden[0]] * turns, "batch": [1.0] * turns}, 0.9

    monkeypatch.setattr(module, "timed", timed)
    config = configured("norm=whiten", "studies=[whitening-seconds]")
    found = measure(nn.Identity(), digits, config)["whitening-seconds"]
    assert [hidden for hidden, _, _ in seen] == [[w, w] for w in (64, 128, 256, 512, 1024)]
    assert [size for _, size, _ in seen] == [128, 256, 512, 1024, len(digits.train)]
    assert found["widths"] == [64, 128, 256, 512, 1024]
    assert [turns[0] for turns in found["seconds"]["whiten"]] == [128, 256, 512, 1024, 2048]


def test_whitening_takes_longer_the_wider_it_is(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("bnrepro.training.studies.whitening_seconds")
    monkeypatch.setattr(module, "WIDTHS", (8, 256))
    config = configured("norm=whiten", "studies=[whitening-seconds]")
    seconds = measure(nn.Identity(), digits, config)["whitening-seconds"]["seconds"]
    narrow, wide = (np.median(turns) for turns in seconds["whiten"])
    assert wide > 3 * narrow
    assert wide > np.median(seconds["batch"][1])


# Restrictions


def test_of_the_norms_alone_nothing_else_is_trained(digits: Dataset) -> None:
    model, _ = network(digits, "norm=batch")
    masks = trained(model, c.Trained.norms, 0)
    for (name, p), mask in zip(model.named_parameters(), masks, strict=True):
        assert mask.shape == p.shape
        assert (mask == float(name.startswith("norm"))).all(), name
    assert trained(model, c.Trained.all, 0) == []


def test_as_many_weights_are_drawn_two_into_each_unit(digits: Dataset) -> None:
    model, _ = network(digits, "norm=batch")
    masks = trained(model, c.Trained.random, 3)
    names = [name for name, _ in model.named_parameters()]
    counts = {name: mask.sum().item() for name, mask in zip(names, masks, strict=True)}
    assert counts == dict.fromkeys(names, 0) | {"linear1.weight": 40, "linear2.weight": 32}
    assert sum(counts.values()) == sum(m.sum() for m in trained(model, c.Trained.norms, 0))
    first = masks[names.index("linear1.weight")]
    assert first.unique().tolist() == [0, 1]
    assert (first.sum(1) == 2).all()
    same, other = (trained(model, c.Trained.random, seed) for seed in (3, 4))
    assert all(torch.equal(a, b) for a, b in zip(masks, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(masks, other, strict=True))


def test_weights_before_a_norm_alone_decay(digits: Dataset) -> None:
    model, _ = network(digits, "norm=batch")
    masks = decayed(model, c.Decayed.normalized)
    ones = [
        name for (name, _), mask in zip(model.named_parameters(), masks, strict=True) if mask.any()
    ]
    assert ones == ["linear1.weight", "linear2.weight"]
    assert all(mask.unique().numel() == 1 for mask in masks)
    assert decayed(model, c.Decayed.all) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Sgd(c.Sgd("sgd", 1.0, 0.1, 0.9), p),
        lambda p: Adam(c.Adam("adam", 1.0, 0.1), p),
        lambda p: Adagrad(c.Adagrad("adagrad", 1.0, 0.1), p),
    ],
)
def test_a_restricted_optimizer_changes_what_it_may_as_an_unrestricted_one(make) -> None:
    free, held = (nn.Parameter(torch.arange(1.0, 5.0)) for _ in range(2))
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])
    ours, all_of_it = make([held]), make([free])
    ours.restrict([mask], [])
    for step in range(5):
        for p in (held, free):
            p.grad = torch.tensor([1.0, -2.0, 3.0, -4.0]) * (step + 1)
        ours.step(0.1), all_of_it.step(0.1)
    assert torch.equal(held[mask == 0], torch.tensor([2.0, 4.0]))
    assert torch.equal(held[mask == 1], free[mask == 1])


def test_decay_is_restricted_and_nothing_else() -> None:
    decays, stays, plain = (nn.Parameter(torch.full((3,), 2.0)) for _ in range(3))
    ours, none = (
        Sgd(c.Sgd("sgd", 1.0, 0.1, 0.0), [decays, stays]),
        Sgd(c.Sgd("sgd", 1.0, 0.0, 0.0), [plain]),
    )
    ours.restrict([], [torch.ones(3), torch.zeros(3)])
    for p in (decays, stays, plain):
        p.grad = torch.ones(3)
    ours.step(0.5), none.step(0.5)
    assert torch.equal(stays, plain)
    torch.testing.assert_close(decays.detach(), torch.full((3,), 2 - 0.5 * (1 + 0.2)))


SHORT = ("dataset=digits", "train.steps=60", "train.eval_every=60", "train.log_every=10",
         "train.checkpoint_every=20", "probe.every=60", "probe.size=50", "model.hidden=[20,16]",
         "init=he", "model.activation=relu", "tensorboard=false")  # fmt: skip


def run(folder: Path, *words: str) -> StoredRun:
    assert main(["train", *SHORT, *words, f"run.dir={folder}"]) == 0
    return StoredRun(folder)


@pytest.mark.parametrize("which", ["norms", "random"])
def test_what_is_not_trained_stays_through_a_whole_run(which: str, tmp_path: Path) -> None:
    held = run(tmp_path, f"train.parameters={which}", "optimizer.lr=0.3")
    norms = {layer: held.probed(f"{layer}/weight_norm")[1] for layer in ("linear1", "output")}
    assert (norms["linear1"][0] == norms["linear1"][1]) == (which == "norms")
    assert norms["output"][0] == norms["output"][1]
    loss = held.curve("train_loss")[1]
    assert loss[-1] < loss[0] - 0.05


def test_weights_that_decay_shrink_and_the_last_layer_does_not(tmp_path: Path) -> None:
    words = ("optimizer.weight_decay=0.5", "optimizer.lr=0.1", "train.decayed=normalized")
    norms = {
        layer: run(tmp_path, *words).probed(f"{layer}/weight_norm")[1]
        for layer in ("linear1", "output")
    }
    assert norms["linear1"][-1] < 0.5 * norms["linear1"][0]
    assert norms["output"][-1] > 0.9 * norms["output"][0]


@pytest.mark.reliability
def test_restrictions_are_the_same_compiled(tmp_path: Path) -> None:
    words = ("train.parameters=random", "optimizer.weight_decay=0.01",
             "train.decayed=normalized", "optimizer.momentum=0.5")  # fmt: skip
    plain, compiled = (
        run(tmp_path / name, *words, f"train.compile={name}") for name in ("false", "true")
    )
    losses = [each.curve("train_loss")[1] for each in (plain, compiled)]
    np.testing.assert_allclose(*losses, rtol=1e-3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train.parameters=norms", "norm=none"], "train.parameters"),
        (["train.parameters=random", "norm.placement=post"], "norm before"),
        (["train.decayed=normalized", "model=inception"], "model=mlp"),
        (["studies=[whitening-seconds]"], "norm=whiten"),
        (["studies=[precise-statistics]", "norm=group"], "norm=batch"),
    ],
)
def test_what_cannot_be_restricted_or_studied_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(words)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "word",
    ["train.parameters=norms", "train.decayed=normalized", *(
        f"norm={name}" for name in ("noisy", "layer", "group", "dyt", "l1", "linf", "whiten"))],
)  # fmt: skip
def test_what_a_stack_does_not_know_trains_alone(word: str) -> None:
    assert common(compose(["train.compile=false"]).config) is not None
    assert common(compose(["train.compile=false", word]).config) is None


# Effects


def test_growth_is_read_off_the_layers_between() -> None:
    numbers = np.arange(1, 25)
    exact = Array(1.467**-numbers, {"layer": numbers}, ["layer"])
    assert depth_limits.growth(exact).item() == pytest.approx(1.467)
    off = exact.copy()
    off[:6], off[-1] = 1e9, 1e-9  # neither counts
    assert depth_limits.growth(off).item() == pytest.approx(1.467)
    assert math.isnan(depth_limits.growth(exact.where(exact.layer != 9)).item())
    assert pytest.approx(1.467, abs=5e-4) == depth_limits.PREDICTED


@pytest.mark.parametrize(
    ("grown", "expected"),
    [
        (1.467 + NOISE / 5, Verdict.REPRODUCED),
        (1.6 + NOISE / 5, Verdict.OPPOSITE),
        (1.467 + 0.05 + NOISE, Verdict.INCONCLUSIVE),
    ],
)
def test_growth_is_judged_by_equivalence(grown: np.ndarray, expected: Verdict) -> None:
    numbers = np.arange(1, 25)
    rows = [[g**-numbers for g in grown], [g**-numbers for g in grown]]
    coords = {"norm": ["none", "batch"], **SEEDS, "layer": numbers}
    gradient = Array(rows, coords, ["norm", "seed", "layer"])
    start = xr.Dataset({"gradient": gradient, "rank": gradient}).expand_dims(width=[1000])
    accuracy = Array(
        np.full((2, 2, 1, 10), 0.95),
        {"norm": ["none", "batch"], "depth": [8, 16], "lr": [0.1], **SEEDS},
        ["norm", "depth", "lr", "seed"],
    )
    found = depth_limits.effects(start, accuracy)
    assert verdict("depth-limits", "growth", found["growth"]) == expected
    assert verdict("depth-limits", "deepest", found["deepest"]) == Verdict.INCONCLUSIVE


def test_accuracy_by_the_product_alone_ranges_across_and_not_along() -> None:
    products, lrs = np.array([0.001, 0.01, 0.1]), np.array([0.1, 1.0])
    coords = {"product": products, "lr": lrs, **SEEDS}
    by_product = 0.9 - 0.02 * np.arange(3)[:, None, None] + np.zeros((3, 2, 10))
    by_lr = 0.004 * np.arange(2)[None, :, None]
    accuracy = Array(by_product + by_lr, coords, ["product", "lr", "seed"])
    across, along = effective_learning_rate.ranges(accuracy)
    assert across.to_numpy() == pytest.approx(0.04)
    assert along.to_numpy() == pytest.approx(0.004)
    length = Array(
        lrs[None, :, None, None] ** 0.5 + np.zeros((3, 2, 10, 3)),
        {**coords, "layer": [1, 2, 3]},
        ["product", "lr", "seed", "layer"],
    )
    found = effective_learning_rate.effects(accuracy, length)
    name = "effective-learning-rate"
    assert verdict(name, "product", found["product"]) == Verdict.REPRODUCED
    assert verdict(name, "length", found["length"]) == Verdict.REPRODUCED
    turned = accuracy.rename(product="lr", lr="product")
    assert (
        verdict(name, "product", effective_learning_rate.effects(turned, length)["product"])
        == Verdict.OPPOSITE
    )


@pytest.mark.parametrize(
    ("own", "same", "expected"),
    [
        (0.02, 0.002, Verdict.REPRODUCED),
        (0.02, 0.010, Verdict.NO_EFFECT),
        (0.02, 0.019, Verdict.OPPOSITE),
    ],
)
def test_larger_steps_are_judged_by_half_of_the_gain(
    own: float, same: float, expected: Verdict
) -> None:
    sizes, lrs = [16, 1024], [0.1, 1.0]
    values = np.full((2, 2, 2, 10), 0.9) + NOISE / 1000
    values[1, :, 0] += same
    values[1, :, 1] += own
    test = Array(values, {"norm": ["none", "batch"], "size": sizes, "lr": lrs, **SEEDS},
                 ["norm", "size", "lr", "seed"])  # fmt: skip
    lr = Array([[0.1, 0.1], [0.1, 1.0]], {"norm": ["none", "batch"], "size": sizes},
               ["norm", "size"])  # fmt: skip
    found = large_steps.effects(test, lr)
    assert verdict("large-steps", "larger steps", found["larger steps"]) == expected
    assert large_steps.rates(lr).item() == pytest.approx(math.log2(10))


def watched(what: Mapping[str, tuple[float, float]], **more: Sequence[object]) -> xr.Dataset:
    """Probes in which the loss halves and each value is the same throughout, (none, batch)."""
    losses = 3 * 0.5 ** np.arange(6)
    shape = tuple(len(of) for of in more.values())
    coords = {"norm": ["none", "batch"], **{k: list(v) for k, v in more.items()}, **SEEDS,
              "step": range(6)}  # fmt: skip
    dims = list(coords)
    arrays = {
        name: Array(np.stack([np.full((*shape, 10, 6), value) for value in both]), coords, dims)
        for name, both in what.items()
    }
    loss = Array(
        np.broadcast_to(losses, (2, 10, 6)).copy(),
        {key: coords[key] for key in ("norm", "seed", "step")},
        ["norm", "seed", "step"],
    )
    return xr.Dataset({**arrays, "loss": loss})


@pytest.mark.parametrize(
    ("doubled", "expected"), [(0.0, Verdict.REPRODUCED), (-1.0, Verdict.OPPOSITE)]
)
def test_gradients_that_shift_less_are_against_the_claim(doubled: float, expected: Verdict) -> None:
    runs = watched(
        dict.fromkeys(("shift", "distance"), (-2.0, -2.0 + doubled)) | {"cosine": (0.8, 0.8)},
        layer=("a", "b"),
    )
    found = gradient_shift.effects(runs)
    for name in ("shift", "distance", "equal step"):
        assert verdict("gradient-shift", name, found[name]) == expected
    assert verdict("gradient-shift", "angle", found["angle"]) == Verdict.REPRODUCED
    lost = runs.where((runs.norm == "none") | (runs.step == 0))
    found = gradient_shift.effects(lost)
    assert verdict("gradient-shift", "shift", found["shift"]) == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("batch", "expected"),
    [(0.25, Verdict.REPRODUCED), (1.02, Verdict.NO_EFFECT), (2.0, Verdict.OPPOSITE)],
)
def test_a_gradient_that_changes_less_is_for_the_claim(batch: float, expected: Verdict) -> None:
    values = dict.fromkeys(("range", "curvature"), (1.0, batch))
    gradient = watched({"gradient": (1.0, batch)}, at=(0.01, 0.1))
    runs = gradient.merge(watched(values), compat="equals")
    for name, effect in landscape.effects(runs).items():
        assert verdict("landscape", name, effect) == expected, name


def test_noise_that_costs_a_quarter_is_at_the_margin() -> None:
    steps = np.arange(0, 4001, 10)

    def curve(first: float) -> np.ndarray:
        return np.broadcast_to(np.where(steps >= first, 0.95, 0.5), (10, len(steps)))

    def found(noisy: float) -> Verdict:
        rows = np.stack([curve(4000), curve(1000), curve(noisy)])
        array = Array(rows, {"norm": list(noisy_bn.ARMS), **SEEDS, "step": steps},
                      ["norm", "seed", "step"])  # fmt: skip
        last = array.isel(step=-1, drop=True)
        runs = xr.Dataset({"curve": array, "test": last, "diverged": last < 0})
        return verdict("noisy-bn", "speed", noisy_bn.effects(runs)["speed"])

    assert [found(n) for n in (900, 1240, 1260, 3000)] == [
        Verdict.REPRODUCED, Verdict.REPRODUCED, Verdict.OPPOSITE, Verdict.OPPOSITE,
    ]  # fmt: skip
