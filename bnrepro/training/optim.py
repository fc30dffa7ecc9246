"""Optimizers and learning-rate schedules by their names."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bnrepro import config as c


class Optimizer(Protocol):
    """Turns gradients into steps; its state can be kept and taken up again."""

    def step(self, lr: float) -> None:
        """Change every parameter by its gradient, at this learning rate."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, but for the parameters themselves."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


def build(settings: c.Optimizer, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of a configuration, over these parameters."""
    optimizer: Optimizer = c.maker(settings)(settings, parameters)
    return optimizer


class Sgd:
    """Stochastic gradient descent: v ← momentum·v + g + weight_decay·θ, then θ ← θ - lr·v.

    The same as torch's, which spends more time on each step's options than on the step, and whose
    import takes seconds.
    """

    def __init__(self, settings: c.Sgd, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self.momentum, self.weight_decay = settings.momentum, settings.weight_decay
        self.velocities = [torch.zeros_like(p) for p in self._parameters] if self.momentum else []

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Change every parameter that has a gradient."""
        moving = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        parameters: list[Tensor] = [self._parameters[i] for i in moving]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.weight_decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=self.weight_decay))
        if self.momentum:
            velocities = [self.velocities[i] for i in moving]
            torch._foreach_mul_(velocities, self.momentum)
            torch._foreach_add_(velocities, gradients)
            gradients = velocities
        torch._foreach_add_(parameters, gradients, alpha=-lr)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The velocities, where there is momentum."""
        return {"velocities": self.velocities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        for velocity, kept in zip(self.velocities, state["velocities"], strict=True):
            velocity.copy_(kept)


class Adam:
    """torch's Adam, with its defaults for what is not named here."""

    def __init__(self, settings: c.Adam, parameters: Iterable[nn.Parameter]) -> None:
        self._adam = torch.optim.Adam(parameters, weight_decay=settings.weight_decay, fused=True)

    def step(self, lr: float) -> None:
        """Change every parameter that has a gradient."""
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Both moments and the steps done."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self._adam.load_state_dict(state)


def schedule(config: c.Config) -> Callable[[int], float]:
    """The learning rate as a function of the steps done; a pure function, so resuming is exact."""
    make = c.maker(config.schedule)
    lr: Callable[[int], float] = make(config.schedule, config.optimizer.lr, config.train.steps)
    return lr


def constant(settings: c.ConstantSchedule, lr: float, steps: int) -> Callable[[int], float]:
    """`lr` at every step."""
    return lambda step: lr


def linear(settings: c.DecaySchedule, lr: float, steps: int) -> Callable[[int], float]:
    """From `lr` in a straight line to `final` times it, and no further."""
    final, last = settings.final, max(1, steps - 1) / settings.speed
    return lambda step: lr * (1 - (1 - final) * min(1.0, step / last))


def exponential(settings: c.DecaySchedule, lr: float, steps: int) -> Callable[[int], float]:
    """From `lr` by the same factor at every step."""
    final, last = settings.final, max(1, steps - 1) / settings.speed
    return lambda step: lr * final ** (step / last)
