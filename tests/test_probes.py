"""What is measured inside a network, against NumPy, SciPy and sums by hand; and that measuring
leaves everything as it was."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kurtosis, skew, wasserstein_distance
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.batchnorm import BatchNorm1d
from bnrepro.nn.build import build
from bnrepro.training.probes import (
    BINS,
    SAMPLES,
    SLOPE,
    SLOPES,
    Probe,
    by_unit,
    histogram,
    percentiles,
    shift,
    standardized_moments,
)

numerics = settings(deadline=None, max_examples=60, derandomize=True)

UNITS, IMAGES = 6, 80
finite = st.floats(-1e3, 1e3, width=32)


def samples(units: int = 3) -> st.SearchStrategy[np.ndarray]:
    size = st.integers(1, 70)
    return size.flatmap(lambda n: hnp.arrays(np.float32, (units, n), elements=finite))


def pairs() -> st.SearchStrategy[np.ndarray]:
    size = st.integers(2, 50)
    return size.flatmap(lambda n: hnp.arrays(np.float32, (2, 3, n), elements=finite))


def images(seed: int = 0, count: int = IMAGES) -> Tensor:
    return torch.rand(count, 1, 4, 5, generator=torch.Generator().manual_seed(seed))


def network(
    norm: str = "batch", activation: str = "sigmoid", dropout: float = 0.4, placement: str = "pre"
) -> nn.Module:
    kinds = {"batch": c.BatchNorm, "torch": c.TorchNorm}
    config = c.Config(
        model=c.Mlp("mlp", c.Activation(activation), dropout, [UNITS, 5]),
        norm=kinds[norm](norm, 1e-5, 0.1, c.Placement(placement), 1)
        if norm in kinds
        else c.NoNorm("none"),
        init=c.Init("he", 1.0),
        seed=7,
    )
    return build(config, (1, 4, 5), 10)


def step(model: nn.Module, seed: int) -> None:
    """One training step, so that there are gradients and other weights."""
    torch.manual_seed(seed)
    model.train()
    model.zero_grad()
    nn.functional.cross_entropy(model(images(seed)), torch.arange(IMAGES) % 10).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.5 * parameter.grad


# The formulas on arrays


@numerics
@given(samples())
def test_percentiles_are_numpys(values: np.ndarray) -> None:
    rows = np.sort(values, axis=1)
    expected = np.percentile(rows.astype(np.float64), [15, 50, 85], axis=1).T
    np.testing.assert_allclose(percentiles(rows), expected, rtol=1e-5, atol=1e-4)


@numerics
@given(pairs())
def test_movement_is_the_wasserstein_distance_in_units_of_the_spread(values: np.ndarray) -> None:
    old, new = np.sort(values, axis=-1)
    found = shift(old, new)
    for a, b, got in zip(old.astype(np.float64), new.astype(np.float64), found, strict=True):
        spread = np.sqrt((a.std() ** 2 + b.std() ** 2) / 2)
        if spread > 1e-3 * max(np.abs(a).max(), np.abs(b).max()):  # else float32 has no digits left
            assert got == pytest.approx(wasserstein_distance(a, b) / spread, rel=1e-3, abs=1e-5)


@numerics
@given(samples())
def test_equal_distributions_have_moved_by_zero(values: np.ndarray) -> None:
    rows = np.sort(values, axis=1)
    assert (shift(rows, rows.copy()) == 0).all()


def test_a_shift_by_one_standard_deviation_has_moved_by_one() -> None:
    rows = np.sort(np.random.default_rng(0).normal(size=(2, 1000)), axis=1).astype(np.float32)
    shifted = rows + np.float32(1) * rows.std(1, keepdims=True)
    np.testing.assert_allclose(shift(rows, shifted), [1, 1], rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7, 1e-20, 1e20])
def test_a_constant_unit_has_moved_by_nothing_or_by_infinity(constant: float) -> None:
    rows = np.full((1, 500), constant, np.float32)
    assert shift(rows, rows.copy()) == 0
    assert shift(rows, rows + np.float32(abs(constant) + 1)) == np.inf


def test_movement_computed_by_hand() -> None:
    old, new = np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 1, 1, 5]], np.float32)
    # Distance (1 + 1 + 1 + 3)/4; variances 1 and 3.
    np.testing.assert_allclose(shift(old, new), [1.5 / np.sqrt(2)], rtol=1e-6)


def test_one_row_for_every_unit() -> None:
    flat = torch.arange(12.0).view(4, 3)  # (N, U)
    assert torch.equal(by_unit(flat), flat.T)
    maps = torch.arange(48.0).view(2, 3, 2, 4)  # (N, U, H, W)
    rows = by_unit(maps)
    assert rows.shape == (3, 16)
    for unit in range(3):
        assert torch.equal(rows[unit], maps[:, unit].reshape(-1))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 10])
def test_many_values_are_subsampled_evenly(count: int) -> None:
    side = 32  # count * 1024 values of a unit
    maps = torch.arange(2.0 * count * side * side).view(count, 2, side, side)
    rows = by_unit(maps)
    every = -(-count * side * side // SAMPLES)
    assert rows.shape[1] <= SAMPLES
    assert torch.equal(rows[1], maps[:, 1].reshape(-1)[::every])


@pytest.mark.parametrize(
    ("kind", "steepest", "slope"),
    [
        (nn.Sigmoid, 0.25, lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
        (nn.Tanh, 1.0, lambda x: 1 - np.tanh(x) ** 2),
        (nn.ReLU, 1.0, lambda x: np.where(x > 0, 1.0, 0.0)),
    ],
)
def test_slopes_are_relative_to_the_steepest(kind, steepest, slope) -> None:
    x = np.linspace(-12, 12, 97)
    np.testing.assert_allclose(SLOPES[kind](x), slope(x) / steepest, rtol=1e-6, atol=1e-12)
    far = SLOPES[kind](np.array([-1e30, 1e30], np.float32))
    assert far[0] < 1e-10
    assert far[1] == (1 if kind is nn.ReLU else pytest.approx(0, abs=1e-10))


# A layer whose inputs are known: the images themselves


class Bare(nn.Sequential):
    """A nonlinearity behind a flattening, so that a pixel is a unit's input."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.add_module("flatten", nn.Flatten())
        self.add_module("act", kind())


def measure(inputs: object, kind: type[nn.Module] = nn.Sigmoid) -> dict[str, np.ndarray]:
    """Measurements of units whose inputs are the columns of (N, U)."""
    values = torch.as_tensor(np.asarray(inputs, np.float32))
    found = Probe(Bare(kind), values[:, None, None, :]).measure()
    return {name.removeprefix("act/"): value for name, value in found.items()}


def test_a_units_numbers_are_numpys() -> None:
    values = np.random.default_rng(1).normal(2, 3, (90, 4)).astype(np.float32)
    found = measure(values)
    np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], values.std(0), rtol=1e-5)
    expected = np.percentile(values, [15, 50, 85], axis=0).T
    np.testing.assert_allclose(found["percentiles"], expected, rtol=1e-5)


def test_saturation_computed_by_hand() -> None:
    # 4 σ(x) (1 - σ(x)) = .05 at x = ±4.357; 1 - tanh² = .05 at ±2.178.
    sigmoid = [[0, 4.3, 4.4], [1, -4.3, -4.4], [2, 4.4, 50], [-3, -9, -5]]
    np.testing.assert_array_equal(measure(sigmoid)["saturated"], [0, 0.5, 1])
    tanh = [[0, 2.1, 2.2], [1, -2.1, -2.2], [2, 2.2, 50], [-2, -9, -5]]
    np.testing.assert_array_equal(measure(tanh, nn.Tanh)["saturated"], [0, 0.5, 1])
    relu = [[1, 0, -1], [2, 1, 0], [3, -2, -5], [4, 5, -1]]
    np.testing.assert_array_equal(measure(relu, nn.ReLU)["saturated"], [0, 0.5, 1])
    assert SLOPE == 0.05


@numerics
@given(hnp.arrays(np.float32, (40, 3), elements=finite))
def test_a_histogram_counts_every_value_in_its_bin(values: np.ndarray) -> None:
    found = measure(values)
    counts, edges = found["counts"], found["edges"]
    assert (len(counts), len(edges)) == (BINS, BINS + 1)
    assert counts.sum() == values.size
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= values.min()
    assert edges[-1] >= values.max()
    below = [(values < edge).sum() for edge in edges[:-1]]
    np.testing.assert_array_equal(counts, np.diff([*below, values.size]))


@pytest.mark.parametrize(
    ("values", "counted"),
    [
        ([[0.3, 0.3], [0.3, np.nextafter(np.float32(0.3), np.float32(1))]], 4),  # one ulp apart
        ([[-3e38, 1], [3e38, 2]], 4),  # the difference is beyond float32
        ([[1e-45, 0], [0, 0]], 4),
        ([[np.nan, 1], [2, 3]], 3),
        ([[np.inf, 1], [-np.inf, 3]], 2),
        ([[np.inf, 1], [np.inf, 3]], 2),
        ([[np.nan, np.nan], [np.nan, np.nan]], 0),
    ],
)
@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_odd_and_non_finite_inputs_are_measured_without_complaint(
    values: list[list[float]], counted: int, kind: type[nn.Module]
) -> None:
    inputs = torch.tensor(values)[:, None, None, :]
    probe = Probe(Bare(kind), inputs)
    for _ in range(2):  # the second has something to compare with
        found = probe.measure()
        assert found["act/counts"].sum() == counted
        assert (np.diff(found["act/edges"]) > 0).all()
    sound = np.isfinite(values).all(0)
    assert np.isfinite(found["act/percentiles"][sound]).all()
    assert (found["act/shift"][sound] == 0).all()


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_moments_on_both_sides_are_scipys(kind: type[nn.Module]) -> None:
    values = np.random.default_rng(2).gamma([1.0, 3.0, 9.0], size=(200, 3)) - [0.5, 3.0, 12.0]
    inputs = torch.from_numpy(values.astype(np.float32))
    outputs = kind()(inputs).double().numpy()
    probe = Probe(Bare(kind), inputs[:, None, None, :], moments=True)
    found = {name.removeprefix("act/"): measured for name, measured in probe.measure().items()}
    for prefix, expected in (("", inputs.double().numpy()), ("output_", outputs)):
        np.testing.assert_allclose(found[f"{prefix}skewness"], skew(expected), rtol=1e-4)
        np.testing.assert_allclose(found[f"{prefix}kurtosis"], kurtosis(expected), rtol=1e-4)
    np.testing.assert_allclose(found["output_zeros"], (outputs == 0).mean(0))
    assert bool(found["output_zeros"].any()) == (kind is nn.ReLU)


def test_moments_are_those_of_known_shapes_whatever_their_place_and_scale() -> None:
    coin, one_of_five = np.tile([0.0, 1.0], 50), np.tile([0.0, 0.0, 0.0, 0.0, 1.0], 20)
    rows = np.stack([coin, one_of_five, 1e-12 + 1e-13 * coin, 1e30 - 3e29 * one_of_five])
    third, fourth = standardized_moments(rows)
    # Of a coin of p: (1 - 2p)/√(p(1-p)) and (1 - 6p(1-p))/(p(1-p)).
    np.testing.assert_allclose(third, [0, 1.5, 0, -1.5], atol=1e-6)
    np.testing.assert_allclose(fourth, [-2, 0.25, -2, 0.25], atol=1e-6)
    assert np.isnan(standardized_moments(np.full((1, 7), 0.1))).all()


def test_moments_are_measured_only_where_asked_for_and_move_nothing() -> None:
    plain = Probe(network(), images()).measure()
    more = Probe(network(), images(), moments=True).measure()
    assert {name.partition("/")[2] for name in more.keys() - plain.keys()} == {
        "skewness", "kurtosis", "output_skewness", "output_kurtosis", "output_zeros"
    }  # fmt: skip
    for name, values in plain.items():
        np.testing.assert_array_equal(more[name], values)


# What is measured of a network


@pytest.mark.parametrize("norm", ["none", "batch", "torch"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_the_input_of_every_nonlinearity_by_a_forward_pass_by_hand(
    norm: str, activation: str
) -> None:
    model = network(norm, activation, dropout=0.4)
    step(model, 1)  # γ, β, and the running averages are no longer what they were at first
    x = images()
    found = Probe(model, x).measure()
    h = x.flatten(1).double()
    for depth in (1, 2):
        linear = getattr(model, f"linear{depth}")
        h = h @ linear.weight.double().T
        if norm == "none":
            h = h + linear.bias.double()
        else:
            layer = getattr(model, f"norm{depth}")
            h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
            h = h * layer.weight.double() + layer.bias.double()
        inputs = h.detach().numpy()  # (N, U)
        name = f"{activation}{depth}"
        expected = np.percentile(inputs, [15, 50, 85], axis=0).T
        np.testing.assert_allclose(found[f"{name}/percentiles"], expected, atol=1e-4)
        np.testing.assert_allclose(found[f"{name}/mean"], inputs.mean(0), atol=1e-5)
        np.testing.assert_allclose(found[f"{name}/std"], inputs.std(0), rtol=1e-4)
        assert found[f"{name}/counts"].sum() == inputs.size
        np.testing.assert_allclose(found[f"{name}/edges"][[0, -1]],
                                   [inputs.min(), inputs.max()], atol=1e-4)  # fmt: skip
        h = {"sigmoid": torch.sigmoid, "relu": torch.relu, "tanh": torch.tanh}[activation](h)


def test_with_the_norm_behind_the_nonlinearity_it_is_not_normalized() -> None:
    model = network("batch", placement="post")
    x = images()
    with torch.no_grad():
        expected = model.linear1(x.flatten(1)).numpy()
    found = Probe(model, x).measure()
    np.testing.assert_allclose(found["sigmoid1/mean"], expected.mean(0), atol=1e-6)
    np.testing.assert_allclose(found["sigmoid1/std"], expected.std(0), rtol=1e-5)


def test_the_norms_of_weights_and_gradients() -> None:
    model = network()
    before = Probe(model, images()).measure()
    assert not any("gradient" in name for name in before)
    step(model, 2)
    found = Probe(model, images()).measure()
    for name in ("linear1", "linear2", "output"):
        weight = getattr(model, name).weight
        for what, tensor in (("weight", weight.detach()), ("gradient", weight.grad)):
            expected = np.sqrt((tensor.double().numpy() ** 2).sum())
            assert found[f"{name}/{what}_norm"] == pytest.approx(expected, rel=1e-5)
            assert found[f"{name}/{what}_norm"].shape == ()


def test_the_norm_of_every_bias_there_is() -> None:
    for norm, names in (("batch", ["output"]), ("none", ["linear1", "linear2", "output"])):
        model = network(norm)
        step(model, 2)
        found = Probe(model, images()).measure()
        assert [key for key in found if key.endswith("bias_norm")] == [
            f"{name}/bias_norm" for name in names
        ]
        for name in names:
            bias = getattr(model, name).bias.detach().double().numpy()
            assert np.abs(bias).max() > 0
            assert found[f"{name}/bias_norm"] == pytest.approx(np.sqrt((bias**2).sum()), rel=1e-5)
            assert found[f"{name}/bias_norm"].shape == ()


def test_convolutions_are_measured_over_all_places() -> None:
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 3, 2))
    model.add_module("relu", nn.ReLU())
    x = images()
    with torch.no_grad():
        maps = model.conv(x).numpy()  # (N, 3, 3, 4)
    found = Probe(model, x).measure()
    np.testing.assert_allclose(found["relu/mean"], maps.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found["relu/saturated"], (maps <= 0).mean((0, 2, 3)), rtol=1e-6)
    assert found["relu/counts"].sum() == maps.size
    assert found["conv/weight_norm"] == pytest.approx(model.conv.weight.norm().item())


# A probe's memory


def test_shift_compares_with_the_last_probe_and_shift_total_with_the_first() -> None:
    model = network(norm="none", dropout=0.0)
    x = images()
    probe, inputs, found = Probe(model, x), [], []
    for seed in range(4):
        with torch.no_grad():
            h = model.linear1(x.flatten(1))
        inputs.append(np.sort(h.numpy().T, axis=1))
        found.append(probe.measure())
        step(model, seed)
    assert (found[0]["sigmoid1/shift"] == 0).all()
    for index in (1, 2, 3):
        for what, other in (("shift", index - 1), ("shift_total", 0)):
            expected = [
                wasserstein_distance(a, b) / np.sqrt((a.var() + b.var()) / 2)
                for a, b in zip(inputs[other], inputs[index], strict=True)
            ]
            np.testing.assert_allclose(found[index][f"sigmoid1/{what}"], expected, rtol=1e-4)
    assert not np.allclose(found[3]["sigmoid1/shift"], found[3]["sigmoid1/shift_total"])


def test_a_restored_probe_continues_as_if_never_interrupted() -> None:
    model = network()
    whole = Probe(model, images())
    whole.measure()
    step(model, 1)
    whole.measure()
    interrupted = Probe(model, images())
    interrupted.restore(whole.state())
    step(model, 2)
    expected, found = whole.measure(), interrupted.measure()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    fresh = Probe(model, images()).measure()
    assert not np.array_equal(fresh["sigmoid1/shift"], expected["sigmoid1/shift"])


def test_kept_arrays_do_not_change_with_later_probes() -> None:
    model = network()
    probe = Probe(model, images())
    probe.measure()
    state = probe.state()
    kept = {when: {name: t.clone() for name, t in state[when].items()} for when in state}
    step(model, 1)
    probe.measure()
    for when, inputs in kept.items():
        for name, tensor in inputs.items():
            assert torch.equal(state[when][name], tensor)


# Measuring changes nothing


@pytest.mark.parametrize("norm", ["none", "batch", "torch"])
@pytest.mark.parametrize("training", [True, False])
def test_measuring_changes_nothing(norm: str, training: bool) -> None:
    model = network(norm)
    step(model, 3)
    model.train(training)
    model.dropout1.eval()  # a mode that is not its parent's must come back as well
    x = images()
    probe = Probe(model, x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    generators = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    pixels = x.clone()
    for _ in range(2):
        probe.measure()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(torch.equal(gradients[name], p.grad) for name, p in model.named_parameters())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tobytes() == generators[1]
    assert torch.equal(x, pixels)
    assert torch.is_grad_enabled()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_a_pass_that_fails_leaves_no_hook_and_no_mode_behind() -> None:
    model = network()
    model.train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Probe(model, torch.zeros(5, 1, 3, 3)).measure()
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert all(m.training for m in model.modules())
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, BatchNorm1d))


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-40, -1e30, 3e38])
def test_the_histogram_of_a_constant_has_it_in_one_bin(value: float) -> None:
    counts, edges = histogram(np.full(7, value, np.float32))
    assert counts.max() == counts.sum() == 7
    assert edges[0] < np.float32(value) < edges[-1]
    assert (np.diff(edges) > 0).all()
