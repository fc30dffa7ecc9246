"""The networks: which layers stand where, what their first weights are, what a gradient reaches."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import BatchNorm1d
from bnrepro.nn.build import biased, build, nonlinearities, weighted
from bnrepro.nn.stop_gradient import StopGradientNorm

PRE, POST = c.Placement.pre, c.Placement.post
KINDS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def batch(placement: c.Placement = PRE, kind: type[c.BatchNorm] = c.BatchNorm) -> c.BatchNorm:
    name = "torch" if kind is c.TorchNorm else "batch"
    return kind(name, eps=1e-3, momentum=0.25, placement=placement, population_batches=1)


def detached(scaling: bool = False) -> c.DetachedNorm:
    return c.DetachedNorm("detached", scaling, 1e-3, 0.25)


def keeping(placement: c.Placement = PRE) -> c.BatchNorm:
    return dataclasses.replace(batch(placement), keep_bias=True)


def network(
    norm: c.Norm | None = None,
    *,
    hidden: tuple[int, ...] = (7, 5),
    activation: str = "sigmoid",
    dropout: float = 0.0,
    init: c.Init | None = None,
    seed: int = 0,
    shape: tuple[int, int, int] = (1, 3, 4),
) -> nn.Module:
    config = c.Config(
        model=c.Mlp("mlp", c.Activation(activation), dropout, list(hidden)),
        norm=norm or c.NoNorm("none"),
        init=init or c.Init("gaussian", 0.1),
        seed=seed,
    )
    return build(config, shape, 10)


def order(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]


@pytest.mark.parametrize(
    ("norm", "dropout", "expected"),
    [
        (None, 0.0, "linear1 sigmoid1 linear2 sigmoid2"),
        (batch(PRE), 0.0, "linear1 norm1 sigmoid1 linear2 norm2 sigmoid2"),
        (batch(POST), 0.0, "linear1 sigmoid1 norm1 linear2 sigmoid2 norm2"),
        (detached(), 0.0, "linear1 norm1 sigmoid1 linear2 norm2 sigmoid2"),
        (None, 0.5, "linear1 sigmoid1 dropout1 linear2 sigmoid2 dropout2"),
        (batch(PRE), 0.5, "linear1 norm1 sigmoid1 dropout1 linear2 norm2 sigmoid2 dropout2"),
        (batch(POST), 0.5, "linear1 sigmoid1 norm1 dropout1 linear2 sigmoid2 norm2 dropout2"),
    ],
)
def test_the_order_of_the_layers(norm: c.Norm | None, dropout: float, expected: str) -> None:
    model = network(norm, dropout=dropout)
    assert order(model) == ["flatten", *expected.split(), "output"]


def test_dropout_has_the_probability_asked_for() -> None:
    model = network(hidden=(400,), activation="tanh", dropout=0.3)
    assert model.dropout1.p == 0.3


@pytest.mark.parametrize(
    ("norm", "has_bias"),
    [
        (None, True), (batch(PRE), False), (batch(POST), True), (keeping(PRE), True),
        (keeping(POST), True), (detached(), True),
    ],
)  # fmt: skip
def test_a_bias_is_left_out_only_where_the_norm_behind_it_would_cancel_it(
    norm: c.Norm | None, has_bias: bool
) -> None:
    model = network(norm)
    assert (model.linear1.bias is not None) == has_bias
    assert (model.linear2.bias is not None) == has_bias
    assert model.output.bias is not None
    layers = ["linear1", "linear2", "output"] if has_bias else ["output"]
    assert [name for name, _ in biased(model)] == layers
    assert all(bias is model.get_submodule(name).bias for name, bias in biased(model))


def test_a_bias_before_a_norm_would_indeed_have_been_cancelled() -> None:
    model = network(batch(PRE)).double()
    x = torch.randn(20, 1, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    without = model(x)
    model.linear1.bias = nn.Parameter(torch.linspace(-1, 1, 7).double())
    torch.testing.assert_close(model(x), without, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [c.BatchNorm, c.TorchNorm])
def test_the_norm_is_ours_or_torchs_with_the_configured_numbers(kind: type[c.BatchNorm]) -> None:
    model = network(batch(kind=kind))
    expected = nn.BatchNorm1d if kind is c.TorchNorm else BatchNorm1d
    for layer, width in ((model.norm1, 7), (model.norm2, 5)):
        assert type(layer) is expected
        assert (layer.num_features, layer.eps, layer.momentum) == (width, 1e-3, 0.25)


@pytest.mark.parametrize("kind", [c.BatchNorm, c.TorchNorm])
def test_without_affine_a_norm_has_nothing_to_learn(kind: type[c.BatchNorm]) -> None:
    model = network(dataclasses.replace(batch(kind=kind), affine=False))
    names = {name for name, _ in model.named_parameters()}
    assert names == {"linear1.weight", "linear2.weight", "output.weight", "output.bias"}


def test_a_norm_of_groups_has_their_size() -> None:
    model = network(dataclasses.replace(batch(), ghost_size=4))
    assert (model.norm1.ghost_size, model.norm2.ghost_size) == (4, 4)


@pytest.mark.parametrize("scaling", [False, True])
def test_the_norm_outside_the_gradient_has_the_configured_numbers(scaling: bool) -> None:
    model = network(detached(scaling))
    for layer, width in ((model.norm1, 7), (model.norm2, 5)):
        assert type(layer) is StopGradientNorm
        assert (layer.num_features, layer.eps, layer.momentum) == (width, 1e-3, 0.25)
        assert layer.scaling is scaling


@pytest.mark.parametrize("activation", KINDS)
def test_the_nonlinearities_by_name_and_in_order(activation: str) -> None:
    model = network(batch(), activation=activation, hidden=(4, 3, 2))
    found = list(nonlinearities(model))
    assert [name for name, _ in found] == [f"{activation}{depth}" for depth in (1, 2, 3)]
    assert all(type(module) is KINDS[activation] for _, module in found)


def test_the_network_computed_by_hand() -> None:
    model = network(activation="tanh", init=c.Init("gaussian", 1.0)).double()
    x = torch.linspace(-1, 1, 24).double().view(2, 1, 3, 4)
    h = x.reshape(2, 12)
    for layer in (model.linear1, model.linear2):
        h = torch.tanh(h @ layer.weight.T + layer.bias)
    torch.testing.assert_close(model(x), h @ model.output.weight.T + model.output.bias)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for _, weight in weighted(model)]


def test_the_layers_with_weights_in_order() -> None:
    assert [name for name, _ in weighted(network(batch()))] == ["linear1", "linear2", "output"]


@pytest.mark.parametrize("name", ["gaussian", "xavier", "he", "shifted"])
@pytest.mark.parametrize(
    "norm",
    [batch(PRE), batch(POST), batch(PRE, c.TorchNorm), keeping(), detached()],
    ids=["pre", "post", "torch", "keeping", "detached"],
)
def test_the_same_seed_gives_the_same_weights_whatever_the_norm(norm: c.Norm, name: str) -> None:
    init = c.Init(name, 0.7)
    torch.manual_seed(1)  # the global generator has no say in it
    plain = weights(network(init=init, seed=3))
    torch.manual_seed(2)
    normalized = weights(network(norm, init=init, seed=3, dropout=0.5))
    assert all(torch.equal(a, b) for a, b in zip(plain, normalized, strict=True))
    other = weights(network(norm, init=init, seed=4))
    assert not any(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("gaussian", lambda i, o: 1.0),
        ("xavier", lambda i, o: math.sqrt(2 / (i + o))),
        ("he", lambda i, o: math.sqrt(2 / i)),
    ],
)
def test_the_first_weights_are_gaussian_with_the_deviation_of_the_rule(name, deviation) -> None:
    model = network(init=c.Init(name, 0.3), hidden=(200, 300), shape=(1, 20, 20), seed=5)
    for layer, (i, o) in ((model.linear1, (400, 200)), (model.linear2, (200, 300))):
        expected = 0.3 * deviation(i, o)
        values = layer.weight.detach().double().flatten() / expected
        n = len(values)
        # Four standard errors of a mean, of a variance, and of a fourth moment of Gaussians.
        assert abs(values.mean()) < 4 / math.sqrt(n)
        assert abs(values.var() - 1) < 4 * math.sqrt(2 / n)
        assert abs((values**4).mean() - 3) < 4 * math.sqrt(96 / n)
        assert torch.equal(layer.bias, torch.zeros(o))
    assert torch.equal(model.output.bias, torch.zeros(10))


def test_from_shifted_weights_sigmoids_begin_as_units_of_mean_0_and_slope_1() -> None:
    init = c.ShiftedInit("shifted", 0.8)
    model = network(init=init, hidden=(30, 20), shape=(1, 6, 6), seed=5).double()
    x = torch.randn(50, 1, 6, 6, dtype=torch.float64)
    xavier = weights(network(init=c.Init("xavier", 0.8), hidden=(30, 20), shape=(1, 6, 6), seed=5))
    h = x.flatten(1) * 4  # the images are as they are: their weights are four times Xavier's
    for weight in xavier[:-1]:
        h = 4 * torch.sigmoid(h @ weight.double().T) - 2
    assert torch.allclose(model(x), h @ xavier[-1].double().T, rtol=0, atol=1e-5)


def test_a_scale_of_zero_gives_zeros() -> None:
    assert all(not weight.any() for weight in weights(network(init=c.Init("gaussian", 0.0))))


@pytest.mark.parametrize("activation", KINDS)
@pytest.mark.parametrize("norm", [None, batch(PRE), batch(POST)], ids=["none", "pre", "post"])
def test_a_gradient_reaches_every_parameter(norm: c.Norm | None, activation: str) -> None:
    model = network(norm, activation=activation, init=c.Init("he", 1.0), hidden=(30, 20))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 1, 3, 4, generator=generator)
    labels = torch.randint(10, (16,), generator=generator)
    nn.functional.cross_entropy(model(x), labels).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, name


def test_placement_after_the_nonlinearity_normalizes_what_leaves_it() -> None:
    model = network(batch(POST), hidden=(6,), init=c.Init("gaussian", 1.0))
    seen = []
    model.output.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model(torch.randn(50, 1, 3, 4, generator=torch.Generator().manual_seed(0)))
    (h,) = seen
    torch.testing.assert_close(h.mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    assert (h.var(0, correction=0) < 1).all()
    assert (h.var(0, correction=0) > 0.9).all()
