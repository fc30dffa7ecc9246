"""Shift of gradients and landscape against closed forms; what claims make of them."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro.config.compose import compose
from bnrepro.data import Dataset
from bnrepro.errors import ConfigError
from bnrepro.evidence.grid import Array
from bnrepro.evidence.smooth_arms import at_equal_loss, reached
from bnrepro.nn.build import build
from bnrepro.training import landscape as landscapes
from bnrepro.training.gradient_shift import LOSS, gradient_shifts, shifts_of
from bnrepro.training.landscape import along_gradient, curvature, landscape


def matrix(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(digits: Dataset, *words: str) -> tuple[nn.Module, Tensor, Tensor]:
    config = compose(["dataset=digits", "init=he", "model.hidden=[9,8,7]", *words]).config
    model = build(config, digits.image_shape, 10).double()
    return model, digits.train.images[:50].double(), digits.train.labels[:50]


# Shift of gradients


def test_the_shift_in_a_linear_network_is_that_of_the_closed_form() -> None:
    """L = ½‖W₃W₂W₁X - Y‖²: G₂ = W₃ᵀ(W₃W₂W₁X - Y)(W₁X)ᵀ, and G₂′ the same with W₁ - lr·G₁."""
    w = {f"w{n}": matrix(3, 3, seed=n) / 2 for n in (1, 2, 3)}
    x, y, lr = matrix(3, 8, seed=4), matrix(3, 8, seed=5), 0.01

    def loss(p: dict[str, Tensor]) -> Tensor:
        return (p["w3"] @ p["w2"] @ p["w1"] @ x - y).square().sum() / 2

    value, found = shifts_of(loss, w, [["w1"], ["w2"], ["w3"]], lr)
    w1, w2, w3 = w.values()

    def error(w1: Tensor, w2: Tensor) -> Tensor:
        return w3 @ w2 @ w1 @ x - y

    g1 = w2.T @ w3.T @ error(w1, w2) @ x.T
    g2 = w3.T @ error(w1, w2) @ (w1 @ x).T
    g3 = error(w1, w2) @ (w2 @ w1 @ x).T
    moved1, moved2 = w1 - lr * g1, w2 - lr * g2
    g2_new = w3.T @ error(moved1, w2) @ (moved1 @ x).T
    g3_new = error(moved1, moved2) @ (moved2 @ moved1 @ x).T
    assert value == pytest.approx(error(w1, w2).square().sum().item() / 2)
    pairs = zip(found, (g2, g3), (g2_new, g3_new), strict=True)
    for (shift, cosine, distance), old, new in pairs:
        assert distance == pytest.approx((old - new).norm().item())
        assert shift == pytest.approx(((old - new).norm() / old.norm()).item())
        assert cosine == pytest.approx(((old * new).sum() / old.norm() / new.norm()).item())
        assert shift > 1e-3


def test_a_layer_behind_one_that_does_not_move_does_not_shift() -> None:
    w = {"w1": matrix(3, 3), "w2": matrix(3, 3, seed=1)}
    x = matrix(3, 8, seed=2)
    _, [(shift, cosine, distance)] = shifts_of(
        lambda p: (p["w2"] @ p["w1"] @ x).square().sum(), w, [["w1"], ["w2"]], 0.0
    )
    assert shift == distance == 0
    assert cosine == pytest.approx(1)


@pytest.mark.parametrize("norm", ["none", "torch", "batch"])
def test_every_layer_of_a_network_as_by_hand(digits: Dataset, norm: str) -> None:
    """Layer by layer, the modules before it moved in a copy that is torch's alone."""
    model, images, labels = network(digits, f"norm={norm}", "model.dropout=0.2")
    before = copy.deepcopy(model.state_dict())
    found = gradient_shifts(model.eval(), images, labels, 0.3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())

    by_hand = copy.deepcopy(model).train()
    for module in by_hand.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    loss = cross_entropy(by_hand(images), labels)
    assert found.pop(LOSS) == pytest.approx(loss.item())
    loss.backward()
    layers = ["linear1", "linear2", "linear3", "output"]
    for place, name in enumerate(layers[1:], start=1):
        moved = copy.deepcopy(by_hand)
        prefixes = {f"{kind}{n}." for n in range(1, place + 1) for kind in ("linear", "norm")}
        with torch.no_grad():
            for (name_of, p), old in zip(
                moved.named_parameters(), by_hand.parameters(), strict=True
            ):
                if any(name_of.startswith(prefix) for prefix in prefixes):
                    p.copy_(old - 0.3 * old.grad)
        moved.zero_grad()
        cross_entropy(moved(images), labels).backward()
        old, new = by_hand.get_submodule(name).weight.grad, moved.get_submodule(name).weight.grad
        shift = (old - new).norm() / old.norm()
        assert found.pop(f"{name}/gradient_shift") == pytest.approx(shift.item(), rel=1e-5)
        distance = found.pop(f"{name}/gradient_distance")
        assert distance == pytest.approx((old - new).norm().item(), rel=1e-5)
        cosine = nn.functional.cosine_similarity(old.flatten(), new.flatten(), dim=0)
        assert found.pop(f"{name}/gradient_cosine") == pytest.approx(cosine.item(), rel=1e-5)
    assert not found


# Landscape


def quadratic(a: Tensor) -> landscapes.Loss:
    def loss(weights: Sequence[Tensor]) -> Tensor:
        [w] = weights
        return w @ a @ w / 2

    return loss


def test_a_quadratic_changes_as_its_matrix_says() -> None:
    """L = ½wᵀAw: g = Aw, and w - s·‖w‖·g/‖g‖ has the gradient g - s·‖w‖·Ag/‖g‖."""
    half = matrix(5, 5)
    a, w = half @ half.T, matrix(5, seed=1)
    changes, losses = along_gradient(quadratic(a), [w], (0.01, 0.5))
    g = a @ w
    for step, change, loss in zip((0.01, 0.5), changes, losses, strict=True):
        delta = step * w.norm() * g / g.norm()
        assert change == pytest.approx(((a @ delta).norm() / g.norm()).item())
        there = (w - delta) @ a @ (w - delta) / 2
        assert loss == pytest.approx((there - w @ a @ w / 2).item())


@pytest.mark.parametrize("sign", [1, -1])
def test_the_curvature_of_a_quadratic_is_its_largest_eigenvalue_times_the_square(sign: int) -> None:
    a, w = sign * torch.diag(torch.tensor([5.0, 1.0, 0.5]).double()), matrix(3, seed=1)
    expected = sign * 5 * w.square().sum().item()
    assert curvature(quadratic(a), [w], 50) == pytest.approx(expected)


def test_the_curvature_of_several_weights_is_that_of_the_whole() -> None:
    half, u, v = matrix(5, 5), matrix(2, seed=1), matrix(3, seed=2)
    a = half @ half.T

    def loss(weights: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(list(weights))
        return whole @ a @ whole / 2

    lengths = torch.cat([torch.full((2,), u.norm().item()), torch.full((3,), v.norm().item())])
    scaled = lengths.double()[:, None] * a * lengths.double()
    largest = torch.linalg.eigvalsh(scaled)[-1].item()
    assert curvature(loss, [u, v], 200) == pytest.approx(largest, rel=1e-6)


def test_weights_of_another_length_before_batch_normalization_change_nothing(
    digits: Dataset,
) -> None:
    found = []
    for scale in (1.0, 7.0):
        model, images, labels = network(digits, "norm=batch", "norm.eps=1e-20")
        with torch.no_grad():
            model.linear2.weight.mul_(scale)
            model.linear1.weight.mul_(1 / scale)
        found.append(landscape(model, images, labels))
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-5)


def test_without_it_they_do(digits: Dataset) -> None:
    found = []
    for scale in (1.0, 7.0):
        model, images, labels = network(digits, "norm=none")
        with torch.no_grad():
            model.linear2.weight.mul_(scale)
        found.append(landscape(model, images, labels))
    change = "landscape/gradient_change"
    assert np.abs(found[1][change] / found[0][change] - 1).max() > 0.01


def test_ours_is_torchs_to_the_second_derivative(digits: Dataset) -> None:
    ours, torchs = (landscape(*network(digits, f"norm={norm}")) for norm in ("batch", "torch"))
    for name, values in ours.items():
        np.testing.assert_allclose(torchs[name], values, rtol=1e-5)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"probe\.gradient_shift.*model=mlp"):
        compose(["model=inception", "init=he", "probe.gradient_shift=true"])
    with pytest.raises(ConfigError, match=r"probe\.landscape.*norm=whiten"):
        compose(["norm=whiten", "probe.landscape=true"])


# At equal loss


def over_steps(*rows: Sequence[float]) -> Array:
    coords = {"norm": ["none", "batch"], "step": list(range(len(rows[0])))}
    return Array([list(row) for row in rows], coords, ["norm", "step"]).expand_dims(seed=[0])


def test_values_are_read_where_the_loss_first_comes_down_to_a_level() -> None:
    loss = over_steps([2.0, 1.0, 1.5, 0.5], [2.0, 0.5, 0.4, 0.3])
    values = over_steps([10.0, 20.0, 99.0, 40.0], [1.0, 4.0, 5.0, 6.0])
    found = at_equal_loss(values, loss, (1.5, 0.6, 0.1, 2.0))
    expected = {1.5: (15.0, 2.0), 0.6: (99 - 59 * 0.9, 3.8), 0.1: (math.nan, math.nan),
                2.0: (math.nan, math.nan)}  # fmt: skip
    for level, (none, batch) in expected.items():
        at = found.sel(loss=level, seed=0)
        assert at.sel(norm="none").item() == pytest.approx(none, nan_ok=True)
        assert at.sel(norm="batch").item() == pytest.approx(batch, nan_ok=True)


def test_the_share_of_losses_that_both_come_down_to() -> None:
    loss = over_steps([2.0, 0.6], [2.0, 0.1])
    assert reached(loss).item() == pytest.approx(3 / 6)
