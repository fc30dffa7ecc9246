"""Our optimizers against torch's, step by step."""

import pytest
import torch
from torch import nn

from bnrepro import config as c
from bnrepro.training.optim import Adam, Sgd


def sgd_of(parameters: list[torch.Tensor], momentum: float, weight_decay: float) -> Sgd:
    return Sgd(c.Sgd("sgd", 1.0, weight_decay, momentum), parameters)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_steps_are_torchs(momentum: float, weight_decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(shape, generator=generator, requires_grad=True) for shape in ((3, 4), (5,))]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    sgd = sgd_of(ours, momentum, weight_decay)
    reference = torch.optim.SGD(theirs, lr=1.0, momentum=momentum, weight_decay=weight_decay)
    for step in range(20):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        sgd.step(0.1 / (step + 1))
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_the_steps_of_adam_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    adam = Adam(c.Adam("adam", 1.0, 0.01), ours)
    reference = torch.optim.Adam(theirs, weight_decay=0.01)
    for step in range(50):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        reference.param_groups[0]["lr"] = 0.1 / (step + 1)
        adam.step(0.1 / (step + 1))
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


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
