"""Optimizers and learning-rate schedules by their names."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bnrepro import config as c

Tensors = list[Tensor]


class Optimizer(ABC):
    """Turns gradients into steps; its state can be kept and taken up again.

    What it computes, `update`, is a function of the tensors it is given, in place: it can be
    compiled with the rest of a step, and its numbers change without compiling again.

    Args:
        parameters: each has a gradient at every step.
        weight_decay: that many times a parameter is added to its gradient.
        numbers: others, such as the momentum, in an order of its own.
        moments: how many tensors of the state there are of each parameter.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        weight_decay: float,
        numbers: Sequence[float],
        moments: int,
    ) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.numbers = [self._number(value) for value in (weight_decay, *numbers)]
        self.state = [torch.zeros_like(p) for _ in range(moments) for p in self.parameters]
        self._trained = self._decayed = False

    def restrict(self, trained: Sequence[Tensor], decayed: Sequence[Tensor]) -> None:
        """Change parameters only where `trained` is 1, and decay them only where `decayed` is.

        Each has a tensor for every parameter, or none: then there is no restriction.
        """
        self._trained, self._decayed = bool(trained), bool(decayed)
        self.numbers += [*trained, *decayed]

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, device=self.parameters[0].device, dtype=self.parameters[0].dtype)

    def update(
        self, parameters: Tensors, gradients: Tensors, state: Tensors, numbers: Tensors, lr: Tensor
    ) -> None:
        """Change parameters by their gradients, and the state, in place.

        Args:
            parameters: the optimizer's, or what stands for them.
            gradients: one for each.
            state: as `self.state`.
            numbers: as `self.numbers`, restrictions after all others.
            lr: the learning rate, ().
        """
        weight_decay, *others = numbers
        count = len(parameters)
        others, decayed = _cut(others, count * self._decayed)
        others, trained = _cut(others, count * self._trained)
        if self.weight_decay:
            decays = torch._foreach_mul(parameters, weight_decay)
            if decayed:
                decays = torch._foreach_mul(decays, decayed)
            gradients = list(torch._foreach_add(gradients, decays))
        if trained:
            gradients = list(torch._foreach_mul(gradients, trained))
        self._move(parameters, gradients, state, others, lr)

    @abstractmethod
    def _move(
        self, parameters: Tensors, gradients: Tensors, state: Tensors, numbers: Tensors, lr: Tensor
    ) -> None:
        """`update`, of gradients with the weight decay in them and of the other numbers."""

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Change every parameter by its gradient, at this learning rate."""
        parameters: Tensors = [*self.parameters]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        assert len(gradients) == len(parameters)
        self.update(parameters, gradients, self.state, self.numbers, self._number(lr))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, but for the parameters themselves."""
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        for own, kept in zip(self.state, state["state"], strict=True):
            own.copy_(kept)


def _cut(tensors: Tensors, count: int) -> tuple[Tensors, Tensors]:
    """All but the last `count`, and these."""
    place = len(tensors) - count
    return tensors[:place], tensors[place:]


def build(settings: c.Optimizer, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer of a configuration, over these parameters."""
    optimizer: Optimizer = c.maker(settings)(settings, parameters)
    return optimizer


class Sgd(Optimizer):
    """Stochastic gradient descent: v ← momentum·v + g + weight_decay·θ, then θ ← θ - lr·v."""

    def __init__(self, settings: c.Sgd, parameters: Iterable[nn.Parameter]) -> None:
        self.momentum = settings.momentum
        moments = 1 if self.momentum else 0
        super().__init__(parameters, settings.weight_decay, [self.momentum], moments)

    def _move(
        self, parameters: Tensors, gradients: Tensors, state: Tensors, numbers: Tensors, lr: Tensor
    ) -> None:
        if self.momentum:
            torch._foreach_mul_(state, *numbers)
            torch._foreach_add_(state, gradients)
            gradients = state
        torch._foreach_sub_(parameters, torch._foreach_mul(gradients, lr))


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1): g and g² averaged, their bias towards 0 taken out.

    With torch's defaults for what is not a setting.
    """

    BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

    def __init__(self, settings: c.Adam, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, settings.weight_decay, [], 2)
        self.state.append(self._number(0.0))  # steps done

    def _move(
        self, parameters: Tensors, gradients: Tensors, state: Tensors, numbers: Tensors, lr: Tensor
    ) -> None:
        count = len(parameters)
        means, squares, steps = state[:count], state[count:-1], state[-1]
        steps.add_(1)
        torch._foreach_lerp_(means, gradients, 1 - self.BETA1)
        torch._foreach_mul_(squares, self.BETA2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - self.BETA2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - self.BETA2**steps).sqrt())
        torch._foreach_add_(roots, self.EPS)
        moves = torch._foreach_div(means, roots)
        torch._foreach_mul_(moves, lr / (1 - self.BETA1**steps))
        torch._foreach_sub_(parameters, moves)


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): s ← s + g², then θ ← θ - lr·g/(√s + ε), of each number.

    With torch's defaults for what is not a setting.
    """

    EPS = 1e-10

    def __init__(self, settings: c.Adagrad, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, settings.weight_decay, [], 1)

    def _move(
        self, parameters: Tensors, gradients: Tensors, state: Tensors, numbers: Tensors, lr: Tensor
    ) -> None:
        torch._foreach_addcmul_(state, gradients, gradients)
        roots = torch._foreach_sqrt(state)
        torch._foreach_add_(roots, self.EPS)
        moves = torch._foreach_div(gradients, roots)
        torch._foreach_sub_(parameters, torch._foreach_mul(moves, lr))


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
    final, last = settings.final, _last(settings, steps)
    return lambda step: lr * (1 - (1 - final) * min(1.0, step / last))


def exponential(settings: c.DecaySchedule, lr: float, steps: int) -> Callable[[int], float]:
    """From `lr` by the same factor at every step."""
    final, last = settings.final, _last(settings, steps)
    return lambda step: lr * final ** (step / last)


def _last(settings: c.DecaySchedule, steps: int) -> float:
    """The step at which a decay has come to `final` times the first rate."""
    return max(1, (settings.horizon or steps) - 1) / settings.speed
