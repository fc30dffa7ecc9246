"""Networks that differ only in numbers, trained as one batched computation.

Every network keeps its own modules and its own optimizer, whose tensors become views into stacked
ones with a leading dimension M. So whatever looks at a network between two steps sees, and may
change, what it would alone; only the step itself is computed for all at once.

In shape comments M is networks, B images of a batch, D and C inputs and units of a layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro.nn.batchnorm import BatchNorm1d, stacked_batch_norm
from bnrepro.training.optim import Sgd


class Stack:
    """M networks of one structure with their optimizers, and a generator each for dropout.

    What they learn with (the learning rate of each step, momentum, weight decay) and dropout's
    probability may differ. Making one leaves every number as it is, and another may be made of some
    of its networks at any time.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        optimizers: Sequence[Sgd],
        generators: Sequence[torch.Generator],
    ) -> None:
        self._models, self._generators = list(models), list(generators)
        self._layers = dict(models[0].named_children())
        self._parameters: dict[str, Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        for name, _ in models[0].named_parameters():
            of_each = [model.get_parameter(name) for model in models]
            self._parameters[name] = _stacked(of_each).requires_grad_()
        for name, _ in models[0].named_buffers():
            self._buffers[name] = _stacked([model.get_buffer(name) for model in models])
        self._optimizer = StackedSgd(optimizers, list(self._parameters.values()))
        self._gradients: tuple[Tensor, ...] = ()

    def step(self, images: Tensor, labels: Tensor, rates: Sequence[float]) -> Tensor:
        """Change every network by its own gradient, at its own learning rate.

        Args:
            images: (M, B, …), the batch of each.
            labels: int64 (M, B).
            rates: M learning rates.

        Returns:
            The mean losses, (M,).
        """
        losses = self._losses(images.flatten(2), labels)
        parameters = list(self._parameters.values())
        self._gradients = torch.autograd.grad(losses, parameters, torch.ones_like(losses))
        self._optimizer.step(self._gradients, rates)
        return losses.detach()

    def show_gradients(self) -> None:
        """Give every parameter of every network the gradient of the last step."""
        for name, stacked in zip(self._parameters, self._gradients, strict=True):
            for model, gradient in zip(self._models, stacked.unbind(), strict=True):
                model.get_parameter(name).grad = gradient

    def _losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of each network, (M,), of inputs (M, B, D)."""
        for name, layer in self._layers.items():
            if isinstance(layer, nn.Linear):
                x = _Linear.apply(
                    x, self._parameters[f"{name}.weight"], self._parameters.get(f"{name}.bias")
                )
            elif isinstance(layer, BatchNorm1d):
                x = self._normalized(name, layer, x)
            elif isinstance(layer, nn.Dropout):
                x = x * self._mask(name, x)
            elif not isinstance(layer, nn.Flatten):
                x = layer(x)
        losses = cross_entropy(x.flatten(0, 1), labels.flatten(), reduction="none")
        return losses.view(labels.shape).mean(1)

    def _normalized(self, name: str, layer: BatchNorm1d, x: Tensor) -> Tensor:
        tensors = {**self._parameters, **self._buffers}
        count = tensors[f"{name}.num_batches_tracked"].add_(1)  # (M,)
        momentum: float | Tensor | None = layer.momentum
        if momentum is None:
            momentum = count.to(x.dtype).reciprocal()[:, None, None]
        mean, var = (tensors[f"{name}.running_{what}"].unsqueeze(1) for what in ("mean", "var"))
        gamma, beta = (
            tensors[f"{name}.{what}"].unsqueeze(1) if layer.affine else None
            for what in ("weight", "bias")
        )
        return stacked_batch_norm(x, mean, var, gamma, beta, momentum, layer.eps)

    def _mask(self, name: str, x: Tensor) -> Tensor:
        """What dropout multiplies by, (M, B, C), drawn for each network as alone."""
        mask = torch.empty_like(x)
        for of_network, model, generator in zip(
            mask.unbind(), self._models, self._generators, strict=True
        ):
            keep = 1 - float(getattr(model, name).p)
            of_network.bernoulli_(keep, generator=generator).div_(keep)
        return mask


class StackedSgd:
    """What M optimizers do, on stacked parameters.

    v ← momentum·v + g + weight_decay·θ, then θ ← θ - lr·v, of each by its own numbers. Their
    velocities become views into stacked ones.
    """

    def __init__(self, optimizers: Sequence[Sgd], parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        momenta = [o.momentum for o in optimizers]
        decays = [o.weight_decay for o in optimizers]
        self._momentum = _numbers(momenta, parameters)
        self._weight_decay = _numbers(decays, parameters) if any(decays) else []
        self._velocities: list[Tensor] = []
        if any(momenta):
            for index, parameter in enumerate(parameters):
                own = [
                    o.state[index] if o.momentum else torch.zeros_like(parameter[0])
                    for o in optimizers
                ]
                self._velocities.append(_stacked(own))
        self._told: Sequence[float] = ()
        self._rates: list[Tensor] = []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Sequence[float]) -> None:
        """Change every parameter, at the learning rate of each network."""
        if rates != self._told:
            self._told = rates
            self._rates = _numbers([-rate for rate in rates], self._parameters)
        moves = list(gradients)
        if self._weight_decay:
            moves = [
                torch.addcmul(g, p, decay)
                for g, p, decay in zip(moves, self._parameters, self._weight_decay, strict=True)
            ]
        if self._velocities:
            for velocity, momentum, move in zip(
                self._velocities, self._momentum, moves, strict=True
            ):
                velocity.mul_(momentum).add_(move)
            moves = self._velocities
        for parameter, move, rate in zip(self._parameters, moves, self._rates, strict=True):
            parameter.addcmul_(move, rate)


class _Linear(torch.autograd.Function):
    """x (M, B, D), weight (M, C, D), bias (M, C) -> x·weightᵀ + bias (M, B, C).

    As torch would differentiate it, the gradient of the weight would come transposed, and be a
    copy more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return (
            torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None,
            torch.bmm(grad.transpose(1, 2), x),
            grad.sum(1) if ctx.biased else None,
        )


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors side by side, (M, …); each becomes a view of them."""
    with torch.no_grad():
        stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, view in zip(tensors, stacked.unbind(), strict=True):
        tensor.data = view
    return stacked


def _numbers(values: Sequence[float], like: Sequence[Tensor]) -> list[Tensor]:
    """A number for each network, in the shape that fits each stacked tensor."""
    column = torch.tensor(values, device=like[0].device)
    return [column.view(-1, *[1] * (tensor.dim() - 1)) for tensor in like]
