"""Norms of later papers: against torch's layers, closed forms, and what their papers state."""

import math
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from alike import assert_same_run
from conftest import wait_for_step
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.errors import ConfigError
from bnrepro.nn.build import build
from bnrepro.nn.deviations import L1Norm, LinfNorm
from bnrepro.nn.dynamic_tanh import DynamicTanh
from bnrepro.nn.group_norm import GroupNorm
from bnrepro.nn.inference import batch_statistics, fold, population_statistics
from bnrepro.nn.noisy import NoisyBatchNorm
from bnrepro.nn.whitening import Whitening, inverse_root
from bnrepro.store import StoredRun
from bnrepro.training import program

NAMES = ("noisy", "layer", "group", "dyt", "l1", "linf", "whiten")
OVER_BATCH = ("noisy", "l1", "linf", "whiten")

SHAPES = {"units": (20, 6), "maps": (5, 6, 3, 2)}


def values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator, dtype=torch.float64) + 5


def learned(layer: nn.Module) -> nn.Module:
    """The layer in float64, with γ and β that are not 1 and 0."""
    layer = layer.double()
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 2, len(layer.weight)))
        layer.bias.copy_(torch.linspace(-1, 1, len(layer.bias)))
    return layer


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    """γ·x + β of each feature of x (N, C, ...)."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    return x * layer.weight.view(shape) + layer.bias.view(shape)


LAYERS = {
    "layer": lambda: GroupNorm(1, 6, 1e-3),
    "group": lambda: GroupNorm(3, 6, 1e-3),
    "dyt": lambda: DynamicTanh(6, 0.5),
    "l1": lambda: L1Norm(6, 1e-3, 0.3),
    "linf": lambda: LinfNorm(6, 1e-3, 0.3),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm_is_its_formula(groups: int, shape: tuple[int, ...]) -> None:
    layer, x = learned(GroupNorm(groups, 6, 1e-3)), values(*shape)
    expected = torch.empty_like(x)
    for image in range(len(x)):
        for group in range(groups):
            part = slice(group * 6 // groups, (group + 1) * 6 // groups)
            of = x[image, part]
            deviation = torch.sqrt(((of - of.mean()) ** 2).mean() + 1e-3)
            expected[image, part] = (of - of.mean()) / deviation
    torch.testing.assert_close(layer(x), affine(layer, expected))
    torch.testing.assert_close(layer.eval()(x), affine(layer, expected))


def test_group_norm_of_one_group_is_torchs_layer_norm() -> None:
    ours, theirs, x = learned(GroupNorm(1, 6, 1e-3)), nn.LayerNorm(6, 1e-3).double(), values(9, 6)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_dynamic_tanh_is_its_formula(shape: tuple[int, ...]) -> None:
    layer, x = learned(DynamicTanh(6, 0.7)), values(*shape)
    torch.testing.assert_close(layer(x), affine(layer, torch.tanh(0.7 * x)))
    assert {name for name, _ in layer.named_parameters()} == {"alpha", "weight", "bias"}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("kind", [L1Norm, LinfNorm])
def test_other_deviations_are_their_formulas_and_are_averaged(
    kind: type[nn.Module], shape: tuple[int, ...]
) -> None:
    layer = learned(kind(6, 1e-3, 0.3))
    mean_average, square_average = torch.zeros(6).double(), torch.ones(6).double()
    for seed in range(3):
        x = values(*shape, seed=seed)
        rows = x.movedim(1, -1).reshape(-1, 6).numpy()
        m, mean = len(rows), rows.mean(0)
        deviation = (
            np.sqrt(np.pi / 2) * np.abs(rows - mean).mean(0) if kind is L1Norm
            else np.abs(rows - mean).max(0)
            * (1 + np.sqrt(np.pi * np.log(4))) / np.sqrt(8 * np.log(m))
        )  # fmt: skip
        expected = torch.from_numpy((rows - mean) / np.sqrt(deviation**2 + 1e-3))
        found = layer(x)
        assert found.shape == x.shape
        torch.testing.assert_close(
            found.movedim(1, -1).reshape(-1, 6), affine(layer, expected), rtol=1e-9, atol=1e-9
        )
        mean_average = 0.7 * mean_average + 0.3 * torch.from_numpy(mean)
        square_average = 0.7 * square_average + 0.3 * torch.from_numpy(deviation**2)
    torch.testing.assert_close(layer.running_mean, mean_average)
    torch.testing.assert_close(layer.running_var, square_average)
    layer.eval()
    x = values(*shape, seed=9).movedim(1, -1)
    inferred = (x - mean_average) / torch.sqrt(square_average + 1e-3) * layer.weight + layer.bias
    torch.testing.assert_close(layer(x.movedim(-1, 1)), inferred.movedim(-1, 1))


@pytest.mark.parametrize(("kind", "times"), [(L1Norm, 1.0), (LinfNorm, 1.38)])
def test_other_deviations_of_what_is_normal(kind: type[nn.Module], times: float) -> None:
    x = torch.randn(60, 4000, generator=torch.Generator().manual_seed(0)).double()
    deviations = kind(4000, 1e-3, 0.1).double().deviation((x - x.mean(0)).abs())
    assert deviations.mean().item() == pytest.approx(times, rel=0.02)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_are_those_of_the_function(name: str, shape: tuple[int, ...]) -> None:
    layer = learned(LAYERS[name]())
    x = values(*shape).requires_grad_()
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, *of: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(layer, dict(zip(names, of, strict=True)), (x,))
        return found

    assert gradcheck(function, (x, *parameters))
    assert gradgradcheck(function, (x, *parameters))


# Whitening


@pytest.mark.parametrize("shape", [(20, 6), (5, 6, 3, 2)])
def test_a_whitened_batch_has_the_identity_for_its_covariance(shape: tuple[int, ...]) -> None:
    layer = Whitening(6, 1e-12, 0.1).double()
    y = layer(values(*shape) @ values(shape[-1], shape[-1], seed=1))
    rows = y.movedim(1, -1).reshape(-1, 6)
    torch.testing.assert_close(rows.mean(0), torch.zeros(6).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(6).double(), rtol=0, atol=1e-6)


def test_whitening_one_feature_is_batch_normalization_and_its_derivative() -> None:
    ours = learned(Whitening(1, 1e-3, 0.3))
    theirs = nn.BatchNorm1d(1, 1e-3, 0.3).double()
    theirs.load_state_dict({**ours.state_dict(), "running_var": torch.ones(1)})
    x, upstream, gradients = values(9, 1), values(9, 1, seed=2), []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        gradients.append(torch.autograd.grad(y, leaf, upstream)[0])
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(ours.running_var.view(1), theirs.running_var)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_whitening_rotates_as_little_as_can_be() -> None:
    """Cov^(-½) is symmetric: against features that are not correlated it is a scaling alone."""
    z = values(4000, 3) @ torch.diag(torch.tensor([1.0, 10.0, 0.1]).double())
    centred = z - z.mean(0)
    axes, _ = torch.linalg.qr(centred)  # exactly uncorrelated
    y = Whitening(3, 1e-12, 0.1).double()(axes * torch.tensor([1.0, 20.0, 300.0]))
    torch.testing.assert_close(y, axes * math.sqrt(4000), rtol=1e-6, atol=1e-6)


def test_the_inverse_root_and_its_derivative() -> None:
    half = values(5, 5)
    a = half @ half.T / 50
    root = inverse_root(a, 1e-2)
    eye = torch.eye(5).double()
    torch.testing.assert_close(root @ root @ (a + 1e-2 * eye), eye)

    def of_symmetric(half: Tensor) -> Tensor:
        return inverse_root(half @ half.T, 1e-2)

    assert gradcheck(of_symmetric, values(5, 5).requires_grad_())
    for same in (eye, torch.diag(torch.tensor([0.0, 0.0, 1.0, 1.0, 4.0])).double()):
        found = torch.autograd.functional.jacobian(lambda s: inverse_root(s, 1e-2), same)
        assert found.isfinite().all(), "where eigenvalues are equal"
    of_equals = torch.autograd.functional.jacobian(lambda s: inverse_root(s, 0.0), 4 * eye)
    change = torch.einsum("ijkl,kl->ij", of_equals, eye)
    torch.testing.assert_close(change, -(4**-1.5) / 2 * eye)  # of λ^(-½)
    assert inverse_root(torch.full((2, 2), math.nan), 1e-2).isnan().all()


def test_whitening_through_the_whole_layer() -> None:
    layer, upstream = learned(Whitening(4, 1e-2, 0.1)), values(7, 4, seed=3)
    assert gradcheck(lambda x: (layer(x) * upstream).sum(), values(7, 4).requires_grad_())
    few = values(3, 4).requires_grad_()  # of a covariance of rank 2
    assert gradcheck(lambda x: (layer(x) * upstream[:3]).sum(), few, atol=1e-4)
    with pytest.raises(RuntimeError, match="once only"):
        gradgradcheck(layer, values(7, 4).requires_grad_())


@pytest.mark.parametrize("shape", [(20, 6), (5, 6, 3, 2)])
def test_whitening_infers_by_moving_averages_and_by_the_populations(shape: tuple[int, ...]) -> None:
    layer = learned(Whitening(6, 1e-3, 0.3))
    mean, covariance = torch.zeros(6).double(), torch.eye(6).double()
    batches = [values(*shape, seed=seed) for seed in range(3)]
    for x in batches:
        layer(x)
        rows = x.movedim(1, -1).reshape(-1, 6)
        mean = 0.7 * mean + 0.3 * rows.mean(0)
        covariance = 0.7 * covariance + 0.3 * rows.T.cov()
    torch.testing.assert_close(layer.running_mean, mean)
    torch.testing.assert_close(layer.running_var, covariance)
    root = torch.linalg.inv(torch.linalg.cholesky(covariance + 1e-3 * torch.eye(6)))
    x = batches[0].movedim(1, -1).reshape(-1, 6)
    y = layer.eval()(x)
    inferred = (y - layer.bias) / layer.weight
    expected = (x - mean) @ root.T  # another root of it: the same lengths and angles
    torch.testing.assert_close(inferred @ inferred.T, expected @ expected.T)
    population_statistics(layer, batches)
    rows = [x.movedim(1, -1).reshape(-1, 6) for x in batches]
    averages = torch.stack([x.mean(0) for x in rows]), torch.stack([x.T.cov() for x in rows])
    torch.testing.assert_close(layer.running_mean, averages[0].mean(0))
    torch.testing.assert_close(layer.running_var, averages[1].mean(0))


# Noise


def noise_of(layer: NoisyBatchNorm, seed: int) -> tuple[Tensor, Tensor]:
    """Of each unit the slope and the intercept of what comes out over what BN puts out."""
    x = values(4000, 6, seed=seed)
    clean = nn.functional.batch_norm(x, None, None, training=True, eps=1e-5)
    torch.manual_seed(seed)
    y = layer(x)
    slopes = ((y - y.mean(0)) * clean).mean(0)
    return slopes.detach(), y.mean(0).detach()


def test_noise_is_drawn_again_in_every_step_within_its_bounds() -> None:
    layer = NoisyBatchNorm(6, 1e-5, 0.1).double()
    drawn = [noise_of(layer, seed) for seed in range(100)]
    scales, shifts = (torch.stack(of) for of in zip(*drawn, strict=True))
    for found, low, high in ((scales, 1.0, 1.25), (shifts, -0.5, 0.5)):
        width = high - low
        assert found.min() > low - 0.02
        assert found.max() < high + 0.02
        assert found.mean().item() == pytest.approx((low + high) / 2, abs=0.05 * width)
        assert found.std().item() == pytest.approx(width / math.sqrt(12), rel=0.1)
    assert len({tuple(row.tolist()) for row in shifts}) == 100


def test_every_value_has_noise_of_its_own() -> None:
    layer = NoisyBatchNorm(1, 1e-5, 0.1).double()
    x = values(100_000, 1)
    clean = nn.functional.batch_norm(x, None, None, training=True, eps=1e-5)
    torch.manual_seed(0)
    y = layer(x)
    torch.manual_seed(0)
    scale = 1 + 0.25 * torch.rand(2, 1, dtype=torch.float64)[1]
    rest = y - scale * clean
    near, far = clean.abs() < 0.1, clean.abs() > 2
    # Deviation 0.1 ÷ √3 of what is uniform in ±0.1, and 0.1·|x| of the scale.
    assert rest[near].std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    expected = (0.01 / 3 + 0.01 * clean[far].square().mean()).sqrt().item()
    assert rest[far].std().item() == pytest.approx(expected, rel=0.05)


def test_noise_has_its_mean_in_inference_and_batch_normalization_underneath() -> None:
    ours, theirs = learned(NoisyBatchNorm(6, 1e-5, 0.3)), nn.BatchNorm1d(6, 1e-5, 0.3).double()
    theirs.load_state_dict(ours.state_dict())
    for seed in range(3):
        ours(values(9, 6, seed=seed)), theirs(values(9, 6, seed=seed))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    x = values(9, 6, seed=7)
    torch.testing.assert_close(ours.eval()(x), 1.125 * theirs.eval()(x))


def test_looking_at_a_noisy_network_draws_nothing_from_the_generator() -> None:
    layer = NoisyBatchNorm(6, 1e-5, 0.3)
    torch.manual_seed(3)
    with batch_statistics(layer):
        seen = layer(values(9, 6).float())
    torch.testing.assert_close(layer(values(9, 6).float()), seen)  # what the next step draws
    assert not torch.equal(layer(values(9, 6).float()), seen)


# All of them, as options


def test_none_of_them_can_be_folded() -> None:
    for layer in (NoisyBatchNorm(4, 1e-5, 0.1), L1Norm(4, 1e-5, 0.1), Whitening(4, 1e-5, 0.1)):
        with pytest.raises(ValueError, match=type(layer).__name__):
            fold(nn.Linear(3, 4), layer)


@pytest.mark.parametrize("name", OVER_BATCH)
def test_one_image_cannot_be_trained_on_over_a_batch(name: str) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        compose([f"norm={name}", "train.batch_size=1"])
    model = build(compose([f"norm={name}"]).config, (1, 8, 8), 10)
    with pytest.raises(ValueError, match="than 1 value"):
        model(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("name", ["layer", "group", "dyt"])
def test_one_image_can_be_trained_on_by_itself(name: str, tmp_path: Path) -> None:
    words = [f"norm={name}", "dataset=digits", "train.batch_size=1", "train.steps=3",
             "probe.every=0", "tensorboard=false", f"run.dir={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_before_has_a_bias_where_the_norm_would_not_cancel_it(name: str) -> None:
    model = build(compose([f"norm={name}"]).config, (1, 8, 8), 10)
    assert (model.linear1.bias is not None) == (name in ("layer", "group", "dyt"))
    x = torch.randn(30, 1, 8, 8)
    torch.manual_seed(0)
    before = model(x)
    model.linear1.bias = nn.Parameter(torch.linspace(-1, 1, 100))
    torch.manual_seed(0)
    same = torch.allclose(model(x), before, atol=1e-4)
    assert same == (name in OVER_BATCH)


@pytest.mark.parametrize("name", NAMES)
def test_placement_is_chosen(name: str) -> None:
    model = build(compose([f"norm={name}", "norm.placement=post"]).config, (1, 8, 8), 10)
    order = [name for name, _ in model.named_children()]
    assert order[1:4] == ["linear1", "sigmoid1", "norm1"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["norm.groups=3"], "a divisor of 100, 100, 100 with model=mlp"),
        (["norm.groups=100"], "less than the units of a layer"),
        (["norm.groups=8", "model=inception", "init=he"], "a divisor of 4 with model=inception"),
        (["norm.groups=0"], "1 or more"),
        (["norm.momentum=0.1"], "no setting 'norm.momentum'"),
        (["probe.jacobian=true"], "of another kind or place"),
        (["studies=[inference]"], "norm=batch"),
        (["studies=[bias-drift]"], "norm=detached"),
        (["train.eval_population=true"], "false without norm=batch"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(["norm=group", *overrides])
    assert told in str(error.value)


def test_groups_that_do_not_divide_are_refused_by_the_layer_too() -> None:
    with pytest.raises(ConfigError, match="must divide"):
        build(
            c.Config(
                model=c.Mlp("mlp", c.Activation.relu, 0.0, [6]), init=c.Init("he", 1.0), seed=0,
                norm=c.GroupNorm("group", c.Placement.pre, 1e-5, 4),
            ), (1, 2, 2), 10,
        )  # fmt: skip


SHORT = ("dataset=digits", "train.steps=120", "train.eval_every=60", "train.log_every=10",
         "train.checkpoint_every=40", "probe.every=60", "probe.size=50", "model.hidden=[20,16]",
         "init=xavier", "optimizer.lr=0.3", "tensorboard=false", "dataset.limit=1260")  # fmt: skip
INCEPTION = ("dataset=digits", "model=inception", "init=he", "model.width=0.0625",
             "train.steps=4", "train.eval_every=4", "dataset.limit=240", "probe.every=4",
             "probe.size=30", "optimizer.lr=0.01", "tensorboard=false")  # fmt: skip


def trained(folder: Path, *words: str) -> StoredRun:
    assert main(["train", *words, f"run.dir={folder}"]) == 0
    return StoredRun(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_learns_with_it_and_looking_at_it_changes_nothing(
    name: str, tmp_path: Path
) -> None:
    words = (*SHORT, f"norm={name}", "model.activation=relu")
    run = trained(tmp_path / "run", *words)
    assert run.summary()["test_accuracy"] > 0.6
    unseen = trained(tmp_path / "unseen", *words, "probe.every=0")
    assert run.curve("train_loss")[1].tolist() == unseen.curve("train_loss")[1].tolist()
    assert run.curve("test_loss")[1].tolist() == unseen.curve("test_loss")[1].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_convolutional_network_trains_with_it(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path, *INCEPTION, f"norm={name}", "model.per_activation=true")
    losses = run.curve("train_loss")[1]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("name", ["noisy", "whiten", "l1"])
def test_it_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    words = (*SHORT, f"norm={name}", "model.dropout=0.1", "train.steps=600")
    whole = trained(tmp_path / "whole", *words)
    folder = tmp_path / "cut"
    process = forked.Command("train", *words, f"run.dir={folder}")
    wait_for_step(folder, 100)
    process.kill()
    process.wait()
    resumed = trained(folder, *words)
    assert resumed.manifest()["resumes"]
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(not program.can_compile(torch.device("cpu")), reason="needs a C++ compiler")
@pytest.mark.reliability
def test_compiled_it_computes_the_same(name: str, tmp_path: Path) -> None:
    # At a higher rate roundings grow to other runs within some tens of steps.
    words = (*SHORT, f"norm={name}", "train.steps=60", "optimizer.lr=0.03")
    plain = trained(tmp_path / "plain", *words, "train.compile=false")
    compiled = trained(tmp_path / "compiled", *words, "train.compile=true")
    assert compiled.manifest()["compiled"] is True
    losses = (run.curve("train_loss")[1] for run in (plain, compiled))
    np.testing.assert_allclose(next(losses), next(losses), rtol=1e-3)
    a, b = (run.curve("test_loss")[1] for run in (plain, compiled))
    np.testing.assert_allclose(a, b, rtol=1e-2)


def test_a_network_that_diverges_is_a_result(tmp_path: Path) -> None:
    words = (*SHORT, "norm=whiten", "optimizer.lr=1e30", "model.activation=relu")
    assert trained(tmp_path, *words).summary()["status"] == "diverged"
