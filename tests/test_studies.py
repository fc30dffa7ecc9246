"""What is measured of a finished network, against the same worked out with torch's own layers."""

import copy
import importlib
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from alike import untimed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.data import Dataset, permutation, unseen_batches
from bnrepro.errors import ConfigError
from bnrepro.nn import build
from bnrepro.store import StoredRun
from bnrepro.training import program
from bnrepro.training.step import Step
from bnrepro.training.studies import STUDIES, measure
from bnrepro.training.studies.evaluation import batches, logits
from bnrepro.training.studies.identity_transform import EPS
from bnrepro.training.studies.scale_invariance import SCALES, STEPS

SHORT = ["dataset=digits", "train.steps=120", "train.eval_every=60", "train.batch_size=50",
         "probe.every=0", "model.hidden=[12,9]", "init=xavier", "optimizer.lr=0.3"]  # fmt: skip


def configured(*overrides: str) -> c.Config:
    return compose([*SHORT, *overrides]).config


def trained(config: c.Config, digits: Dataset, steps: int = 150) -> nn.Module:
    """A network some way into its training, in the mode it was left in."""
    model = build.build(config, digits.image_shape, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optimizer.lr)
    for step in range(steps):
        rows = permutation(7, step, len(digits.train))[:50]
        optimizer.zero_grad()
        cross_entropy(model(digits.train.images[rows]), digits.train.labels[rows]).backward()
        optimizer.step()
    return model


def numbers(node: object) -> list[float]:
    if isinstance(node, dict):
        return [n for value in node.values() for n in numbers(value)]
    if isinstance(node, list):
        return [n for value in node for n in numbers(value)]
    assert isinstance(node, int | float)
    return [node]


# How a data set is cut


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (3, 5), (5, 5), (7, 6), (9, 2), (1, 4)])
def test_batches_are_whole_and_the_remainder_joins_the_last(n: int, size: int) -> None:
    order = permutation(0, 0, n)
    found = batches(order, size)
    assert torch.equal(torch.cat(found), order)
    assert all(len(batch) == size for batch in found[:-1])
    assert len(found[-1]) == n if n < size else size <= len(found[-1]) < 2 * size


def test_logits_come_back_in_the_order_of_the_images(digits: Dataset) -> None:
    config = configured("norm=batch")
    model = trained(config, digits).double().eval()
    images = digits.test.images[:60]
    with torch.no_grad():
        expected = model(images.double())
    order = permutation(1, 2, 60)
    assert (logits(model, images, batches(order, 7)) - expected).abs().max() < 1e-12
    own = logits(model, images, [order[:20], order[20:]], own_statistics=True)
    model.train()
    with torch.no_grad():
        for rows in (order[:20], order[20:]):
            torch.testing.assert_close(own[rows], model(images[rows].double()))


def test_unseen_batches_are_whole_and_in_no_order_that_training_has() -> None:
    found = unseen_batches(3, 23, 5, 9)
    assert len(found) == 9
    assert all(len(rows) == 5 for rows in found)
    first = torch.cat(found[:4])
    assert len(first.unique()) == 20  # of one order: none twice
    for epoch in range(50):
        assert not torch.equal(permutation(3, epoch, 23)[:20], first)
    again = unseen_batches(3, 23, 5, 9)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert not torch.equal(found[0], unseen_batches(4, 23, 5, 9)[0])


# §3: the identity


def test_a_layer_set_to_the_identity_is_off_by_eps_only(digits: Dataset) -> None:
    config = configured("norm=none", "studies=[identity-transform]", "model.dropout=0.3")
    model = trained(config, digits)
    found = measure(model, digits, config)["identity-transform"]
    assert found["eps"] == EPS
    exact = copy.deepcopy(model).double().eval()
    h, x = digits.test.images.double().flatten(1), {}
    with torch.no_grad():
        plain = exact(digits.test.images.double())
        for depth in (1, 2):
            x[f"sigmoid{depth}"] = exact.get_submodule(f"linear{depth}")(h)
            h = torch.sigmoid(x[f"sigmoid{depth}"])
    assert list(found["layers"]) == list(x)
    for name, layer in found["layers"].items():
        mean, var = x[name].mean(0), x[name].var(0, correction=0)
        assert layer["max_error"] < 1e-12
        lost = (1 - torch.sqrt(var / (var + EPS))) * (x[name] - mean).abs() / var.sqrt()
        assert layer["max_error_without_eps"] == pytest.approx(lost.max().item(), rel=1e-6)
        assert layer["max_error_without_eps"] > 1e-7
        assert layer["min_variance"] == pytest.approx(var.min().item())
    right = (plain.argmax(1) == digits.test.labels).double().mean().item()
    assert found["test_accuracy"] == found["inference"]["test_accuracy"] == right
    assert found["inference"]["max_logit_change"] < 1e-12
    assert found["inference"]["predictions_changed"] == 0


def test_with_batch_statistics_the_layer_is_not_the_identity(digits: Dataset) -> None:
    config = configured("norm=none", "studies=[identity-transform]")
    model = trained(config, digits)
    found = measure(model, digits, config)["identity-transform"]["training"]
    exact = copy.deepcopy(model).double().eval()
    images = digits.train.images.double()
    moments: dict[int, list[tuple[Tensor, Tensor]]] = {1: [], 2: []}
    transformed = nn.Sequential(exact.flatten)
    with torch.no_grad():
        for rows in unseen_batches(config.seed, len(images), 50, 100):
            a = exact.linear1(images[rows].flatten(1))
            for depth, z in ((1, a), (2, exact.linear2(torch.sigmoid(a)))):
                moments[depth].append((z.mean(0), z.var(0, correction=1)))
        for depth in (1, 2):
            mean, var = (torch.stack(each).mean(0) for each in zip(*moments[depth], strict=True))
            norm = nn.BatchNorm1d(len(mean), EPS).double()
            norm.weight.copy_(torch.sqrt(var + EPS))
            norm.bias.copy_(mean)
            transformed.extend([exact.get_submodule(f"linear{depth}"), norm, nn.Sigmoid()])
        transformed.append(exact.output)
        transformed.train()
        rows = torch.arange(300).split(50)
        expected = torch.cat([transformed(digits.test.images[r].double()) for r in rows])
        plain = exact(digits.test.images.double())
    assert found["batch_size"] == 50
    change = (expected - plain).abs().max().item()
    assert found["max_logit_change"] == pytest.approx(change, rel=1e-9)
    assert change > 1e-3
    differ = (expected.argmax(1) != plain.argmax(1)).double().mean().item()
    assert found["predictions_changed"] == differ
    right = (expected.argmax(1) == digits.test.labels).double().mean().item()
    assert found["test_accuracy"] == right


def test_a_unit_that_is_constant_has_no_deviation_to_measure_by(digits: Dataset) -> None:
    config = configured("norm=none", "studies=[identity-transform]")
    model = trained(config, digits)
    with torch.no_grad():
        model.linear1.weight[3] = 0
        model.linear2.weight.zero_()
    found = measure(model, digits, config)["identity-transform"]
    assert found["layers"]["sigmoid1"]["min_variance"] == 0
    assert found["layers"]["sigmoid2"]["max_error_without_eps"] == 0
    assert all(math.isfinite(n) for n in numbers(found))
    assert found["inference"]["max_logit_change"] < 1e-9


# §3.3: the length of W


@pytest.mark.parametrize("overrides", [[], ["norm.keep_bias=true", "model.dropout=0.2"],
                                       ["norm=torch", "model.activation=relu"]])  # fmt: skip
def test_the_identities_are_exact_without_eps_and_a_negative_a_turns_the_sign(
    digits: Dataset, overrides: list[str]
) -> None:
    config = configured("studies=[scale-invariance]", *overrides)
    found = measure(trained(config, digits), digits, config)["scale-invariance"]
    assert found["a"] == list(SCALES)
    assert found["eps"]["own"] == 1e-5
    assert list(found["identities"]["tiny"]) == ["linear1", "linear2"]
    for layer in found["identities"]["tiny"].values():
        for what in ("output", "input_gradient", "weight_gradient"):
            for a, same, flipped in zip(SCALES, layer[what], layer["flipped"][what], strict=True):
                exact, other = (same, flipped) if a > 0 else (flipped, same)
                assert exact < 1e-9
                assert other == pytest.approx(2, rel=1e-9)


def test_with_eps_the_identities_have_the_predicted_error(digits: Dataset) -> None:
    config = configured("studies=[scale-invariance]", "norm.eps=1e-2")
    model = trained(config, digits)
    found = measure(model, digits, config)["scale-invariance"]["identities"]["own"]["linear1"]
    exact = copy.deepcopy(model).double()
    rows = unseen_batches(config.seed, len(digits.train), 50, 1)[0]
    u = digits.train.images[rows].double().flatten(1)
    (weight,) = (exact.linear1.weight.detach(),)
    x = u @ weight.T
    centred, var, gamma = x - x.mean(0), x.var(0, correction=0), exact.norm1.weight.detach()
    reference = gamma * centred / torch.sqrt(var + 1e-2)
    for a, deviation in zip(SCALES, found["output"], strict=True):
        scaled = gamma * a * centred / torch.sqrt(a**2 * var + 1e-2)
        expected = ((scaled - reference).norm() / reference.norm()).item()
        assert deviation == pytest.approx(expected, rel=1e-9, abs=1e-14)
    assert found["output"][0] > 0.9  # a = 0.001: ε is all there is


def test_the_compared_gradients_are_those_of_the_loss(digits: Dataset) -> None:
    """Far from a = 1 the layer itself differs: only the derivative to its output is held fixed."""
    config = configured("studies=[scale-invariance]", "norm.eps=1e-2")
    model = trained(config, digits)
    found = measure(model, digits, config)["scale-invariance"]["identities"]["own"]["linear2"]
    exact = copy.deepcopy(model).double().train()
    for module in exact.modules():
        if hasattr(module, "track_running_stats"):
            module.track_running_stats = False
    rows = unseen_batches(config.seed, len(digits.train), 50, 1)[0]
    seen: dict[str, Tensor] = {}
    exact.norm2.register_forward_hook(lambda m, i, y: (y.retain_grad(), seen.update(y=y))[0])
    cross_entropy(exact(digits.train.images[rows].double()), digits.train.labels[rows]).backward()
    upstream, whole = seen["y"].grad, exact.linear2.weight.grad
    with torch.no_grad():
        u = torch.sigmoid(
            exact.norm1(exact.linear1(exact.flatten(digits.train.images[rows].double())))
        )
    index = SCALES.index(0.1)
    weight = (0.1 * exact.linear2.weight.detach()).requires_grad_()
    exact.norm2(u @ weight.T).backward(upstream)
    expected = ((0.1 * weight.grad - whole).norm() / whole.norm()).item()
    assert found["weight_gradient"][index] == pytest.approx(expected, rel=1e-9)
    assert expected > 1e-3


def further_steps(model: nn.Module, config: c.Config, digits: Dataset) -> dict[str, float]:
    """‖W‖² after the same steps with torch's own optimizer."""
    model = copy.deepcopy(model).double()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optimizer.lr)
    for rows in unseen_batches(config.seed, len(digits.train), 50, STEPS):
        optimizer.zero_grad()
        loss = cross_entropy(model(digits.train.images[rows].double()), digits.train.labels[rows])
        loss.backward()
        optimizer.step()
    return {
        name: getattr(model, name).weight.square().sum().item() for name in ("linear1", "linear2")
    }


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_norms_grow_as_orthogonal_gradients_predict_with_batch_normalization_only(
    digits: Dataset, norm: str
) -> None:
    config = configured(f"norm={norm}", "studies=[scale-invariance]", "optimizer.momentum=0.9")
    model = trained(config, digits)
    found = measure(model, digits, config)["scale-invariance"]
    expected = further_steps(model, config, digits)
    assert (found["steps"], found["lr"], found["batch_size"]) == (STEPS, 0.3, 50)
    own = found["growth"]["own" if norm == "batch" else "none"]
    assert list(own) == ["linear1", "linear2"]
    for name, layer in own.items():
        weight = getattr(model, name).weight.detach().double()
        assert layer["before"] == pytest.approx(weight.square().sum().item())
        assert layer["after"] == pytest.approx(expected[name], rel=1e-9)
        growth = layer["after"] - layer["before"]
        predicted = layer["predicted"] - layer["before"]
        assert predicted > 0
        deviation = abs(growth - predicted)
        assert layer["growth_deviation"] == pytest.approx(deviation / predicted, rel=1e-3)
        assert layer["relative_deviation"] == pytest.approx(deviation / layer["predicted"])
    if norm == "batch":
        for layer in found["growth"]["tiny"].values():
            assert layer["growth_deviation"] < 1e-8
            assert layer["max_cosine"] < 1e-12
        for layer in own.values():  # ε's effect: there, and small
            assert 1e-12 < layer["max_cosine"] < 1e-2
            assert 1e-9 < layer["growth_deviation"] < 1e-1
    else:
        assert found["identities"] == found["eps"] == {}
        for layer in own.values():
            assert layer["growth_deviation"] > 1
            assert layer["max_cosine"] > 0.1


# §3.1: ways to infer


@pytest.mark.parametrize("overrides", [["norm=batch"], ["norm=torch", "norm.placement=post"]])
def test_each_way_to_infer_uses_the_statistics_it_names(
    digits: Dataset, overrides: list[str]
) -> None:
    config = configured(*overrides, "studies=[inference]", "norm.population_batches=7",
                        "train.batch_size=80", "model.dropout=0.2")  # fmt: skip
    model = trained(config, digits)
    found = measure(model, digits, config)["inference"]
    assert (found["batch_size"], found["population_batches"]) == (80, 7)
    exact = copy.deepcopy(model).double().eval()
    x, labels = digits.test.images.double(), digits.test.labels
    norms = [exact.norm1, exact.norm2]

    def score(outputs: Tensor) -> dict[str, float]:
        right = (outputs.argmax(1) == labels).double().mean().item()
        return {"test_accuracy": right, "test_loss": cross_entropy(outputs, labels).item()}

    with torch.no_grad():
        moving = exact(x)
        for norm in norms:
            norm.train()
        cut = [exact(rows) for rows in (x[:80], x[80:160], x[160:])]  # the last has 140
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for rows in unseen_batches(config.seed, len(digits.train), 80, 7):
            exact(digits.train.images[rows].double())
        for norm in norms:
            norm.eval()
        population = exact(x)
    expected = {"algorithm2": population, "moving_averages": moving}
    expected["batch_statistics"] = torch.cat(cut)
    for mode, outputs in expected.items():
        assert found["modes"][mode] == pytest.approx(score(outputs), rel=1e-9), mode
    change = (population.softmax(1) - moving.softmax(1)).abs()
    assert found["probability_change"]["mean"] == pytest.approx(change.mean().item(), rel=1e-6)
    assert found["probability_change"]["max"] == pytest.approx(change.max().item(), rel=1e-6)
    assert change.max() > 1e-4


def test_a_prediction_depends_on_its_batch_with_batch_statistics_only(digits: Dataset) -> None:
    config = configured("norm=batch", "studies=[inference]")
    found = measure(trained(config, digits), digits, config)["inference"]
    assert found["determinism"]["algorithm2"] < 1e-12
    assert found["determinism"]["moving_averages"] < 1e-12
    assert found["determinism"]["batch_statistics"] > 1e-3
    sizes = found["by_batch_size"]
    assert sizes["batch_sizes"] == [2, 8, 32, 128, 512]
    assert sizes["test_accuracy"][0] < sizes["test_accuracy"][2]
    large = configured("norm=batch", "studies=[inference]", "train.batch_size=300")
    whole = measure(trained(config, digits), digits, large)
    modes = whole["inference"]["modes"]  # 512 are more than there are: one batch of all 300
    assert sizes["test_accuracy"][4] == modes["batch_statistics"]["test_accuracy"]


@pytest.mark.parametrize("norm", ["batch", "torch"])
def test_the_biased_variances_are_the_unbiased_ones_less_their_share(
    digits: Dataset, norm: str
) -> None:
    words = (f"norm={norm}", "studies=[variance-estimate]", "norm.population_batches=9")
    config = configured(*words, "train.batch_size=4")
    model = trained(config, digits)
    found = measure(model, digits, config)["variance-estimate"]
    exact = copy.deepcopy(model).double().eval()
    h, batches_of_4 = digits.test.images.double(), unseen_batches(0, len(digits.train), 4, 9)
    rows = [digits.train.images[batch].double() for batch in batches_of_4]
    for factor, named in ((4 / 3, "unbiased"), (1, "biased")):
        network = copy.deepcopy(exact)
        for norm_layer, before in ((network.norm1, 2), (network.norm2, 5)):
            inputs = []
            for batch in rows:  # each layer by the statistics of the batch itself
                own = copy.deepcopy(exact)
                own.norm1.train()
                with torch.no_grad():
                    inputs.append(nn.Sequential(*list(own)[:before])(batch))
            norm_layer.running_mean = torch.stack([x.mean(0) for x in inputs]).mean(0)
            variances = torch.stack([x.var(0, correction=0) for x in inputs]).mean(0)
            norm_layer.running_var = factor * variances
        with torch.no_grad():
            loss = cross_entropy(network(h), digits.test.labels).item()
        assert found[named]["test_loss"] == pytest.approx(loss, rel=1e-4), named
    assert found["batch_size"] == 4
    assert abs(found["unbiased"]["test_loss"] / found["biased"]["test_loss"] - 1) > 1e-3


WAYS = {
    "alone": ["train", "train.compile=false"],
    "compiled": ["train", "train.compile=true"],
    "stacked": ["sweep", "seed=0,1", "--stack", "2"],
}


@pytest.mark.parametrize("way", WAYS)
def test_algorithm_2_at_every_evaluation_changes_nothing_else(tmp_path: Path, way: str) -> None:
    if way == "compiled" and not program.can_compile(torch.device("cpu")):
        pytest.skip("needs a C++ compiler")
    command, *words = WAYS[way]

    def run(name: str, *more: str) -> StoredRun:
        folder = tmp_path / name
        place = f"{'run' if command == 'train' else 'sweep'}.dir={folder}"
        assert main([command, *SHORT, *words, "tensorboard=false", *more, place]) == 0
        return StoredRun(min([*folder.glob("*/summary.json"), folder / "summary.json"]).parent)

    def summary(of: StoredRun) -> dict[str, Any]:
        return {**(of.summary() or {}), "wall_seconds": 0}

    with_it, without = run("with", "train.eval_population=true"), run("without")
    split = "population_validation_accuracy", "population_test_accuracy"
    lines = [{k: v for k, v in row.items() if k not in split} for row in untimed(with_it)]
    assert lines == untimed(without)
    assert summary(with_it) == summary(without)
    steps, accuracies = with_it.curve("population_test_accuracy")
    assert steps.tolist() == [0, 60, 120]
    assert accuracies[-1] == summary(without)["population_test_accuracy"]
    # Half-way it is what a run has that ends there.
    assert accuracies[1] == summary(run("half", "train.steps=60"))["population_test_accuracy"]
    assert len(with_it.curve("population_validation_accuracy")[0]) == 3


# §2: a bias that is normalized away


@pytest.mark.parametrize("norm", [["norm=detached"], ["norm=detached", "norm.scaling=true"],
                                  ["norm=batch", "norm.keep_bias=true"]])  # fmt: skip
def test_a_bias_that_drifted_changes_no_loss(digits: Dataset, norm: list[str]) -> None:
    config = configured(*norm, "studies=[bias-drift]")
    model = trained(config, digits)
    with torch.no_grad():  # as far as no gradient takes it where the mean has one
        model.linear1.bias += torch.linspace(-30, 40, 12)
        model.linear2.bias += 50
    found = measure(model, digits, config)["bias-drift"]
    assert found["change"] < 1e-9
    both = torch.cat([model.linear1.bias, model.linear2.bias]).double()
    assert found["drift"] == pytest.approx(both.norm().item(), rel=1e-9)
    [rows] = unseen_batches(0, len(digits.train), 50, 1)
    model.double().train()
    with torch.no_grad():
        logits = model(digits.train.images[rows].double())
    loss = cross_entropy(logits, digits.train.labels[rows]).item()
    assert found["loss"] == pytest.approx(loss, rel=1e-9)
    # Behind the last bias stands no norm: it is no part of what drifts.
    with torch.no_grad():
        model.output.bias += torch.arange(10.0)
    moved = measure(model, digits, config)["bias-drift"]
    assert moved["drift"] == found["drift"]
    assert moved["loss"] != pytest.approx(loss, rel=1e-3)
    assert moved["change"] < 1e-9


# Seconds of a step


@pytest.mark.parametrize("norm", ["batch", "torch"])
def test_a_step_is_timed_with_the_norm_and_without_it(
    norm: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        """A step that sleeps, three times as long with a norm."""

        def __init__(self, model: nn.Module, *_: object) -> None:
            normalized = any(hasattr(module, "running_mean") for module in model.modules())
            self._pause = 0.003 if normalized else 0.001

        def __call__(self, step: Step) -> None:
            assert len(step.batch) == 50
            time.sleep(self._pause)

    module = importlib.import_module("bnrepro.training.studies.step_seconds")
    for name, value in (("EagerStep", Slow), ("TURNS", 3), ("STEPS", 10)):
        monkeypatch.setattr(module, name, value)
    config = configured(f"norm={norm}", "studies=[step-seconds]")
    generator = torch.get_rng_state()
    found = measure(nn.Identity(), digits, config)["step-seconds"]
    assert torch.equal(torch.get_rng_state(), generator)
    assert {name: len(turns) for name, turns in found["seconds"].items()} == {norm: 3, "none": 3}
    assert min(found["seconds"][norm]) >= 0.003
    assert min(found["seconds"]["none"]) >= 0.001
    assert 0 <= found["share"] < 0.5  # asleep, it is not running


def test_steps_that_are_timed_are_those_of_the_run(digits: Dataset) -> None:
    config = configured("norm=batch", "studies=[step-seconds]")
    found = measure(nn.Identity(), digits, config)["step-seconds"]
    assert all(second > 0 for turns in found["seconds"].values() for second in turns)
    assert 0 < found["share"] < 1.5


# All of them


def test_the_configuration_lists_the_studies_there_are() -> None:
    assert tuple(STUDIES) == c.STUDIES


@pytest.mark.parametrize(
    ("norm", "asked"),
    [
        ("none", ["identity-transform", "scale-invariance"]),
        ("batch", ["scale-invariance", "inference", "amplification", "variance-estimate"]),
        ("detached", ["bias-drift"]),
        ("torch", ["inference"]),
    ],
)
def test_studies_change_nothing_and_repeat(digits: Dataset, norm: str, asked: list[str]) -> None:
    config = configured(f"norm={norm}", f"studies=[{','.join(asked)}]", "model.dropout=0.1")
    model = trained(config, digits)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    found = measure(model, digits, config)
    assert list(found) == asked
    assert json.loads(json.dumps(found)) == found
    assert all(math.isfinite(n) for n in numbers(found))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert [m.training for m in model.modules()] == modes
    assert measure(model, digits, config) == found
    assert measure(model, digits, configured(f"norm={norm}")) == {}


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["studies=[inferense]"], "unknown study 'inferense': did you mean 'inference'?"),
        (["studies=[identity-transform]"], "norm=none"),
        (["studies=[inference]", "norm=none"], "norm=batch"),
        (["studies=[inference]", "norm=detached"], "norm=batch"),
        (["studies=[scale-invariance]", "norm=detached"], "norm.placement=pre"),
        (["studies=[scale-invariance]", "norm.placement=post"], "norm.placement=pre"),
        (["studies=[identity-transform]", "norm=none", "train.batch_size=1"], "2 or more"),
        (["studies=inference"], "studies"),
        (["studies=[variance-estimate]", "norm=none"], "norm=batch"),
        (["studies=[bias-drift]"], "norm=detached or norm.keep_bias=true"),
        (["studies=[bias-drift]", "norm=none"], "norm=detached or norm.keep_bias=true"),
        (["studies=[bias-drift]", "norm.keep_bias=true", "norm.placement=post"], "norm=detached"),
        (["train.eval_population=true", "norm=none"], "false without norm=batch"),
        (["train.eval_population=true", "norm=detached"], "false without norm=batch"),
    ],
)
def test_a_study_that_the_network_does_not_suit_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    assert told in str(error.value)


def test_studies_are_in_the_summary_and_do_not_change_the_run(tmp_path: Path) -> None:
    summaries = {}
    for name, asked in (("with", "[inference,scale-invariance]"), ("again", "[inference]"),
                        ("without", "[]")):  # fmt: skip
        line = ["train", *SHORT, f"studies={asked}", f"run.dir={tmp_path / name}"]
        assert main(line) == 0
        summaries[name] = StoredRun(tmp_path / name).summary()
    studies = [summaries[name].pop("studies") for name in ("with", "again", "without")]
    assert set(studies[0]) == {"inference", "scale-invariance"}
    assert studies[0]["inference"] == studies[1]["inference"]
    assert studies[2] == {}
    accuracy = summaries["with"]["population_test_accuracy"]
    found = studies[0]["inference"]["modes"]
    assert found["algorithm2"]["test_accuracy"] == pytest.approx(accuracy, abs=1 / 300 + 1e-9)
    accuracy = summaries["with"]["test_accuracy"]
    assert found["moving_averages"]["test_accuracy"] == pytest.approx(accuracy, abs=1 / 300 + 1e-9)
    for summary in summaries.values():
        del summary["wall_seconds"]
    assert summaries["with"] == summaries["again"] == summaries["without"]


def test_a_diverged_run_has_no_studies(tmp_path: Path) -> None:
    wild = ["norm=none", "model.activation=relu", "optimizer.lr=1e12"]
    line = ["train", *SHORT, *wild, "studies=[identity-transform]", f"run.dir={tmp_path}"]
    assert main(line) == 0
    summary = StoredRun(tmp_path).summary()
    assert summary["status"] == "diverged"
    assert summary["studies"] is None
