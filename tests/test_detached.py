"""Normalization outside the gradient step: what it computes, and what §2 says comes of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnrepro.cli import main
from bnrepro.nn.batchnorm import BatchNorm1d
from bnrepro.nn.inference import batch_statistics, fold, population_statistics
from bnrepro.nn.stop_gradient import StopGradientNorm
from bnrepro.store import StoredRun


def values(seed: int, n: int = 20, units: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, units, generator=generator, dtype=torch.float64) + 5


def detached(scaling: bool, momentum: float | None = 0.1) -> StopGradientNorm:
    return StopGradientNorm(4, eps=1e-2, momentum=momentum, scaling=scaling).double()


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("scaling", [False, True])
def test_the_forward_pass_is_that_of_batch_normalization(
    scaling: bool, momentum: float | None
) -> None:
    ours = detached(scaling, momentum)
    theirs = nn.BatchNorm1d(4, eps=1e-2, momentum=momentum, affine=False).double()
    for seed in range(5):
        x = values(seed, n=10 + seed)
        expected = theirs(x) if scaling else (theirs(x), x - x.mean(0))[1]
        torch.testing.assert_close(ours(x), expected)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    ours.eval(), theirs.eval()
    x = values(9)
    torch.testing.assert_close(ours(x), theirs(x) if scaling else x - theirs.running_mean)
    torch.testing.assert_close(ours(x[:1]), ours(x)[:1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scaling", [False, True])
def test_mean_and_deviation_are_constants_to_the_gradient(scaling: bool, training: bool) -> None:
    layer = detached(scaling)
    layer(values(0))
    layer.train(training)
    x, upstream = values(1).requires_grad_(), values(2)
    (layer(x) * upstream).sum().backward()
    var = x.detach().var(0, correction=0) if training else layer.running_var
    expected = upstream / torch.sqrt(var + 1e-2) if scaling else upstream
    torch.testing.assert_close(x.grad, expected)


def test_a_batch_that_cannot_be_normalized_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 example"):
        detached(True)(values(0, n=1))
    with pytest.raises(ValueError, match="2D"):
        detached(True)(values(0).unsqueeze(2))


def test_an_empty_batch_changes_no_statistics_and_half_precision_does_not_overflow() -> None:
    layer = detached(True)
    layer(values(0, n=0))
    assert torch.equal(layer.running_mean, torch.zeros(4, dtype=torch.float64))
    layer.half()
    y = layer(400 * torch.linspace(-1.7, 1.7, 400).half().unsqueeze(1).expand(400, 4))
    assert y.dtype == torch.float16
    assert y.std() == pytest.approx(1, rel=0.01)
    assert layer.running_var.isfinite().all()


def test_a_frozen_network_normalizes_by_it_as_by_batch_normalization() -> None:
    ours = nn.Sequential(detached(True), nn.Tanh(), nn.Linear(4, 4).double(), detached(True))
    theirs = nn.Sequential(
        BatchNorm1d(4, 1e-2, affine=False).double(), nn.Tanh(), ours[2],
        BatchNorm1d(4, 1e-2, affine=False).double(),
    )  # fmt: skip
    batches = [values(seed) for seed in range(5)]
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with batch_statistics(ours), batch_statistics(theirs):
        torch.testing.assert_close(ours(batches[0]), theirs(batches[0]))
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())
    for model in (ours, theirs):
        population_statistics(model, batches)
        model.eval()
    torch.testing.assert_close(ours(batches[0]), theirs(batches[0]))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_the_layer_cannot_be_folded() -> None:
    with pytest.raises(ValueError, match="StopGradientNorm"):
        fold(nn.Linear(3, 4).double(), detached(False))


def steps_on_the_bias(norm: nn.Module, steps: int) -> tuple[Tensor, list[float], float]:
    """Plain steps on b of L = mean |norm(u + b) - t|²/2: b, the losses, and the gradient's norm."""
    u, target = values(3), values(4)
    b = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    losses = []
    for _ in range(steps):
        loss = (norm(u + b) - target).square().sum() / (2 * len(u))
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, b)
        with torch.no_grad():
            b -= 0.1 * gradient
    return b.detach(), losses, gradient.norm().item()


@pytest.mark.parametrize("scaling", [False, True])
def test_the_bias_grows_without_end_while_the_loss_stands_still(scaling: bool) -> None:
    b, losses, gradient = steps_on_the_bias(detached(scaling), 1000)
    assert max(losses) - min(losses) < 1e-11 * losses[0]
    assert b.norm() == pytest.approx(1000 * 0.1 * gradient, rel=1e-9)  # the same step each time
    assert b.norm() > 100


def test_with_batch_normalization_the_same_bias_stays_where_it_is() -> None:
    b, losses, _ = steps_on_the_bias(BatchNorm1d(4, affine=False).double(), 1000)
    assert b.norm() < 1e-11
    assert max(losses) == pytest.approx(min(losses), rel=1e-12)


def trained(folder: Path, *overrides: str) -> StoredRun:
    short = ["dataset=digits", "train.steps=200", "train.eval_every=50", "probe.every=50",
             "probe.size=100", "model.hidden=[20,15]", "optimizer.lr=0.1",
             "init=xavier"]  # fmt: skip
    assert main(["train", *short, *overrides, f"run.dir={folder}"]) == 0
    return StoredRun(folder)


@pytest.mark.parametrize("scaling", ["false", "true"])
def test_a_networks_biases_grow_outside_the_gradient_and_not_within(
    tmp_path: Path, scaling: str
) -> None:
    outside = trained(tmp_path / "outside", "norm=detached", f"norm.scaling={scaling}")
    within = trained(tmp_path / "within", "norm=batch", "norm.keep_bias=true")
    for layer in ("linear1", "linear2"):
        grown = outside.probed(f"{layer}/bias_norm")[1]
        assert grown[0] == 0
        assert grown[-1] > 1e4 * within.probed(f"{layer}/bias_norm")[1].max() > 0
    assert outside.summary()["population_test_accuracy"] is None
    assert outside.summary()["status"] == "done"


def test_a_bias_that_is_kept_before_batch_normalization_changes_next_to_nothing(
    tmp_path: Path,
) -> None:
    kept = trained(tmp_path / "kept", "norm.keep_bias=true").curve("test_loss")[1]
    dropped = trained(tmp_path / "dropped").curve("test_loss")[1]
    np.testing.assert_allclose(kept, dropped, rtol=1e-3)
