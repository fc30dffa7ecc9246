"""Our optimizers against torch's, step by step."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bnrepro import config as c
from bnrepro.training.optim import Adagrad, Adam, Optimizer, Sgd


def sgd_of(parameters: list[nn.Parameter], momentum: float, weight_decay: float) -> Sgd:
    return Sgd(c.Sgd("sgd", 1.0, weight_decay, momentum), parameters)


def assert_same_steps(
    of_ours: Callable[[list[nn.Parameter]], Optimizer],
    of_torchs: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    steps: int,
) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    ours = [nn.Parameter(drawn(3, 4)), nn.Parameter(drawn(5))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimizer, reference = of_ours(ours), of_torchs(theirs)
    for step in range(steps):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = drawn(*p.shape)
            q.grad = p.grad.clone()
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        optimizer.step(0.1 / (step + 1))
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_steps_are_torchs(momentum: float, weight_decay: float) -> None:
    assert_same_steps(
        lambda parameters: sgd_of(parameters, momentum, weight_decay),
        lambda parameters: torch.optim.SGD(
            parameters, lr=1.0, momentum=momentum, weight_decay=weight_decay
        ),
        steps=20,
    )


def test_the_steps_of_adam_are_torchs() -> None:
    assert_same_steps(
        lambda parameters: Adam(c.Adam("adam", 1.0, 0.01), parameters),
        lambda parameters: torch.optim.Adam(parameters, weight_decay=0.01),
        steps=50,
    )


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_steps_of_adagrad_are_torchs(weight_decay: float) -> None:
    assert_same_steps(
        lambda parameters: Adagrad(c.Adagrad("adagrad", 1.0, weight_decay), parameters),
        lambda parameters: torch.optim.Adagrad(parameters, weight_decay=weight_decay),
        steps=50,
    )


def test_a_restored_optimizer_takes_the_same_steps() -> None:
    def stepped(sgd: Sgd, parameter: torch.Tensor, count: int) -> None:
        for _ in range(count):
            parameter.grad = parameter.detach() * 2
            sgd.step(0.1)

    whole = torch.ones(3, requires_grad=True)
    stepped(sgd_of([whole], 0.9, 0), whole, 6)
    half = torch.ones(3, requires_grad=True)
    first = sgd_of([half], 0.9, 0)
    stepped(first, half, 3)
    second = sgd_of([half], 0.9, 0)
    second.load_state_dict(first.state_dict())
    stepped(second, half, 3)
    assert torch.equal(whole, half)
