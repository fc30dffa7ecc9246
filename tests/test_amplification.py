"""The study of amplification against changes worked out by hand and by torch's own layers."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.config.compose import compose
from bnrepro.data import Dataset, permutation
from bnrepro.nn.build import build
from bnrepro.training.studies import measure
from bnrepro.training.studies.amplification import CHANGE, DIRECTIONS, IMAGES

SHORT = ["dataset=digits", "train.steps=10", "probe.every=0", "init=he", "optimizer.lr=0.3",
         "model.activation=relu", "studies=[amplification]"]  # fmt: skip


def configured(*overrides: str) -> c.Config:
    return compose([*SHORT, *overrides]).config


def trained(config: c.Config, digits: Dataset) -> nn.Module:
    model = build(config, digits.image_shape, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optimizer.lr)
    for step in range(50):
        rows = permutation(7, step, len(digits.train))[:50]
        optimizer.zero_grad()
        cross_entropy(model(digits.train.images[rows]), digits.train.labels[rows]).backward()
        optimizer.step()
    return model


def by_torch(model: nn.Module, digits: Dataset, seed: int) -> dict[str, Tensor]:
    """The same of a fully connected network whose norms are torch's, one layer after the other."""
    model = copy.deepcopy(model).double().train()
    images, labels = digits.train.images[:IMAGES].double(), digits.train.labels[:IMAGES]
    weights = [layer.weight for layer in model if isinstance(layer, nn.Linear)]
    original = weights[0].detach().clone()
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(DIRECTIONS, *original.shape, generator=generator, dtype=torch.float64)

    def passed() -> tuple[list[Tensor], Tensor]:
        inputs, h = [], images
        for layer in model:
            if isinstance(layer, nn.ReLU):
                inputs.append(h)
            h = layer(h)
        gradients = torch.autograd.grad(cross_entropy(h, labels), weights)
        return inputs, torch.cat([gradient.flatten() for gradient in gradients])

    before, gradient = passed()
    rows: dict[str, list[Tensor]] = {"into": [], "spread": [], "out": [], "gradient": []}
    for direction in directions:
        with torch.no_grad():
            length = original.pow(2).sum().sqrt() / direction.pow(2).sum().sqrt()
            weights[0].copy_(original + CHANGE * length * direction)
        after, changed = passed()
        pairs = list(zip(before, after, strict=True))
        of = {
            "into": [((b - a).pow(2).sum() / a.pow(2).sum()) for a, b in pairs],
            "spread": [
                (b - a).pow(2).sum() / (a.var(0, correction=0).sum() * len(a)) for a, b in pairs
            ],
            "out": [(b.relu() - a.relu()).pow(2).sum() / a.relu().pow(2).sum() for a, b in pairs],
            "gradient": [(changed - gradient).pow(2).sum() / gradient.pow(2).sum()],
        }
        for name, values in of.items():
            rows[name].append(torch.stack(values).detach())
    return {name: torch.stack(of_name).mean(0).sqrt() for name, of_name in rows.items()}


@pytest.mark.parametrize("norm", ["none", "torch"])
def test_every_layer_as_by_hand(norm: str, digits: Dataset) -> None:
    config = configured(f"norm={norm}", "model.hidden=[12,9,7]", "seed=5")
    model = trained(config, digits)
    found = measure(model, digits, config)["amplification"]
    networks = {"start": build(config, digits.image_shape, 10), "end": model}
    for when, network in networks.items():
        for name, expected in by_torch(network, digits, 5).items():
            values = torch.tensor(found[when][name], dtype=torch.float64).reshape(expected.shape)
            torch.testing.assert_close(values, expected, rtol=1e-9, atol=0.0)
    assert found["start"] != found["end"]
    assert found["images"] == IMAGES


def test_ours_is_torchs(digits: Dataset) -> None:
    ours, torchs = (
        measure(build(of, digits.image_shape, 10), digits, of)["amplification"]
        for of in (configured(f"norm={norm}", "seed=2") for norm in ("batch", "torch"))
    )
    for name in ("into", "spread", "out", "gradient"):
        assert ours["end"][name] == pytest.approx(torchs["end"][name], rel=1e-9)
    assert ours["start"] == ours["end"]  # of a network that is not trained


def test_the_first_layer_changes_as_much_as_its_weights_and_twice_the_norm_changes_nothing(
    digits: Dataset,
) -> None:
    for scale in (1.0, 2.0):
        config = configured("norm=none", f"init.scale={scale}", "model.hidden=[400]", "seed=1")
        found = measure(build(config, digits.image_shape, 10), digits, config)["amplification"]
        assert found["end"]["into"] == pytest.approx([CHANGE], rel=0.1)  # random directions


def test_a_dead_network_changes_nothing(digits: Dataset) -> None:
    config = configured("norm=none", "model.hidden=[12,9]")
    model = build(config, digits.image_shape, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        next(model.parameters()).fill_(-1.0)
    found = measure(model, digits, config)["amplification"]["end"]
    assert found["into"][0] > 0
    assert found["out"] == [0.0, 0.0]
    assert found["into"][1] == found["gradient"] == 0.0
