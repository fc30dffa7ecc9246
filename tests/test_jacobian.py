"""The layer Jacobians against torch's own, taken of the network's own layers."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from bnrepro import config as c
from bnrepro.cli import main
from bnrepro.nn.build import build
from bnrepro.store import StoredRun
from bnrepro.training.jacobian import correlations, layer_jacobians, singular_values

EPS = 1e-2
NORMS = {
    "none": c.NoNorm("none"),
    "batch": c.BatchNorm("batch", EPS, 0.1, c.Placement.pre, 1),
    "torch": c.TorchNorm("torch", EPS, 0.1, c.Placement.pre, 1, keep_bias=True),
    "detached": c.DetachedNorm("detached", False, EPS, 0.1),
    "scaled": c.DetachedNorm("detached", True, EPS, 0.1),
}


def images(count: int = 40) -> Tensor:
    return torch.rand(count, 1, 4, 5, generator=torch.Generator().manual_seed(0))


def network(
    norm: str, activation: str = "sigmoid", hidden: tuple[int, ...] = (7, 5, 9)
) -> nn.Module:
    config = c.Config(
        model=c.Mlp("mlp", c.Activation(activation), 0.4, list(hidden)),
        norm=NORMS[norm],
        init=c.Init("he", 1.0),
        seed=3,
    )
    model = build(config, (1, 4, 5), 10)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # γ, β and biases that are nobody's initial values
            nn.init.uniform_(parameter, 0.5, 2.0, generator=generator)
    return model


def by_torch(model: nn.Module, activation: str, x: Tensor) -> dict[str, Tensor]:
    """The same Jacobians by automatic differentiation through the network's own layers.

    Each norm is set to the batch's statistics, and cut in two: what normalizes, and γ and β.
    """
    layers = dict(copy.deepcopy(model).eval().named_children())
    found: dict[str, Tensor] = {}
    before = None  # x̂ of the layer before (N, U), and what follows up to its nonlinearity
    h = x.flatten(1)
    for depth in (1, 2, 3):
        linear, norm = layers[f"linear{depth}"], layers.get(f"norm{depth}", nn.Identity())
        gain, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
        if not isinstance(norm, nn.Identity):
            z = linear(h).detach()
            norm.running_mean, norm.running_var = z.mean(0), z.var(0, correction=0)
            norm.weight = norm.bias = None
        if before is not None:

            def step(v: Tensor, out=before[1], linear=linear, norm=norm) -> Tensor:
                return norm(linear(out(v)).unsqueeze(0)).squeeze(0)

            found[f"linear{depth}"] = vmap(jacrev(step))(before[0])[:16]

        def out(v: Tensor, gain=gain, shift=shift, g=layers[f"{activation}{depth}"]) -> Tensor:
            return g(v if gain is None else gain * v + shift)

        before = (norm(linear(h)).detach(), out)
        h = out(before[0])
    return found


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("norm", NORMS)
def test_singular_values_agree_with_torchs(norm: str, activation: str) -> None:
    model, x = network(norm, activation).double(), images().double()
    expected = by_torch(model, activation, x)
    found = layer_jacobians(model, x)
    assert list(found) == list(expected) == ["linear2", "linear3"]
    for name, jacobians in found.items():
        torch.testing.assert_close(jacobians, expected[name], rtol=1e-10, atol=1e-12)
    values = singular_values(model, x)
    for name, units in (("linear2", 5), ("linear3", 5)):
        assert values[f"{name}/jacobian"].shape == (16, units)
        assert values[f"{name}/jacobian"].dtype == np.float32
        exact = np.linalg.svd(expected[name].detach().numpy(), compute_uv=False)
        np.testing.assert_allclose(values[f"{name}/jacobian"], exact, rtol=1e-6, atol=1e-7)


def test_a_jacobian_computed_by_hand() -> None:
    model, x = network("none", "tanh").double(), images().double()
    h = x[3].flatten()
    with torch.no_grad():
        a = model.linear1(h)
        expected = model.linear2.weight @ torch.diag(1 - torch.tanh(a) ** 2)
    torch.testing.assert_close(layer_jacobians(model, x)["linear2"][3], expected)


def test_an_orthogonal_layer_behind_an_open_relu_keeps_every_length() -> None:
    model, x = network("none", "relu", hidden=(6, 6)), images()
    with torch.no_grad():
        model.linear1.bias.fill_(100)  # every unit is open
        nn.init.orthogonal_(model.linear2.weight)
    np.testing.assert_allclose(singular_values(model, x)["linear2/jacobian"], 1, rtol=1e-6)


def test_through_mean_and_deviation_a_row_shrinks_by_what_its_own_image_moves_them() -> None:
    model, x = network("batch").double().train(), images().double()
    m = len(x)
    linear, norm, gain = model.linear2, model.norm2, model.norm1.weight
    normalized = nn.BatchNorm1d(5, EPS, affine=False).double()
    with torch.no_grad():
        before = model.norm1(model.linear1(x.flatten(1)))  # γ·x̂ + β
        z = normalized(linear(torch.sigmoid(before)))
    fixed = layer_jacobians(model, x)["linear2"]
    for image in (0, 7):

        def step(v: Tensor, image=image) -> Tensor:
            rows = before.clone().index_put((torch.tensor(image),), gain * v + model.norm1.bias)
            out = linear(torch.sigmoid(rows))
            mean, var = out.mean(0), out.var(0, correction=0)
            return ((out - mean) * torch.rsqrt(var + norm.eps))[image]

        own = jacrev(step)((before[image] - model.norm1.bias.detach()) / gain.detach())
        expected = (1 - (1 + z[image] ** 2) / m).unsqueeze(1) * fixed[image]
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_correlations_are_numpys(norm: str) -> None:
    model, x = network(norm).double(), images().double()
    h, expected = x, []
    with torch.no_grad():
        model.train()
        for name, layer in model.named_children():
            h = h if name.startswith("dropout") else layer(h)
            if name.startswith("linear"):
                of = np.corrcoef(h.numpy().T)
                expected.append(np.sqrt(np.square(of[~np.eye(len(of), dtype=bool)]).mean()))
    found = correlations(model, x)
    assert list(found) == [f"linear{depth}/correlation" for depth in (1, 2, 3)]
    np.testing.assert_allclose([*found.values()], expected, rtol=1e-6)


def test_constant_units_are_correlated_with_none_and_what_is_not_finite_is_nan() -> None:
    model, x = network("none", "relu", hidden=(2, 2)), images()
    with torch.no_grad():
        model.linear1.weight[0] = 0.0
    assert correlations(model, x)["linear1/correlation"] == 0.0
    with torch.no_grad():
        model.linear1.weight[0] = 2 * model.linear1.weight[1]
    assert correlations(model, x)["linear1/correlation"] == pytest.approx(1.0)
    x[0] = np.inf
    assert np.isnan(correlations(model, x)["linear1/correlation"])


def test_fewer_images_than_sixteen() -> None:
    assert singular_values(network("batch"), images(5))["linear2/jacobian"].shape == (5, 5)


def test_non_finite_jacobians_are_nan_and_the_others_are_measured() -> None:
    model, x = network("none", "tanh"), images()
    whole = singular_values(model, x)
    x[2] = np.nan
    broken = singular_values(model, x)
    for name, values in broken.items():
        assert np.isnan(values[2]).all()
        others = [0, 1, *range(3, 16)]
        np.testing.assert_array_equal(values[others], whole[name][others])
    with torch.no_grad():
        model.linear2.weight[0, 0] = np.inf
    assert np.isnan(singular_values(model, images())["linear2/jacobian"]).all()


@pytest.mark.parametrize("norm", NORMS)
def test_measuring_them_changes_nothing(norm: str) -> None:
    model, x = network(norm), images()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    singular_values(model, x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("norm", ["none", "batch", "detached"])
def test_measuring_jacobians_does_not_change_the_run(tmp_path: Path, norm: str) -> None:
    short = ["dataset=digits", "train.steps=40", "train.eval_every=20", "probe.every=20",
             "probe.size=50", "model.hidden=[12,8,10]", f"norm={norm}"]  # fmt: skip
    runs = {}
    for told in ("true", "false"):
        folder = tmp_path / told
        assert main(["train", *short, f"probe.jacobian={told}", f"run.dir={folder}"]) == 0
        runs[told] = StoredRun(folder)
    steps, values = runs["true"].probed("linear3/jacobian")
    assert steps.tolist() == [0, 20, 40]
    assert values.shape == (3, 16, 8)
    assert (values > 0).all()
    assert (np.diff(values, axis=-1) <= 0).all()
    for step in (0, 20, 40):
        ours, plain = runs["true"].probe(step), runs["false"].probe(step)
        correlated = {f"linear{depth}/correlation" for depth in (1, 2, 3)}
        assert set(ours) - set(plain) == {"linear2/jacobian", "linear3/jacobian", *correlated}
        assert all(np.array_equal(ours[name], plain[name]) for name in plain)
    assert (
        runs["true"].curve("train_loss")[1].tolist()
        == runs["false"].curve("train_loss")[1].tolist()
    )
