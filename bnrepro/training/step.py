"""A training step: take a batch, compute its loss and the gradients, change the network.

`Step` says which images and which learning rate; `EagerStep` makes it operation by operation,
`CompiledStep` as one program. Both are functions of (parameters, buffers, optimizer state, step).
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

from bnrepro.data import Augmentation, Split
from bnrepro.training import program
from bnrepro.training.optim import Optimizer


class Step(NamedTuple):
    """One step: the images by number and how they are augmented, the learning rate.

    `measured` says whether the network, gradients included, is probed after it.
    """

    batch: Tensor  # int64 (B,)
    augmentation: Augmentation | None
    lr: float
    measured: bool


class EagerStep:
    """A step of torch's operations one after another, with autograd; it leaves the gradients."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, split: Split) -> None:
        self._model, self._optimizer, self._split = model, optimizer, split

    def __call__(self, step: Step) -> Tensor:
        """Change the network; the mean loss before that, ()."""
        self._optimizer.zero_grad()
        images, labels = _taken(self._split, step.batch, step.augmentation)
        loss = cross_entropy(self._model(images), labels)
        loss.backward()
        self._optimizer.step(step.lr)
        return loss.detach()


class CompiledStep:
    """The same as one program, with nothing of Python between its operations.

    A batch of another size, the last of an epoch, is computed operation by operation: it would take
    a program of its own. A measured step leaves the gradients, as every eager one does.

    Args:
        model: the network, in training mode; it is changed in place.
        optimizer: over its parameters.
        split: the images that are trained on.
        example: a step of the size that the program is for.
        note: called with a line on what takes long.

    Raises:
        CompileError: the step cannot be compiled here.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        split: Split,
        example: Step,
        note: Callable[[str], None],
    ) -> None:
        self._eager = EagerStep(model, optimizer, split)
        self._optimizer, self._size = optimizer, len(example.batch)
        self._lr = torch.zeros((), device=split.labels.device)
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        buffers = dict(model.named_buffers())
        self._read = [split.images, split.labels, *optimizer.numbers]
        self._written = [*parameters.values(), *buffers.values(), *optimizer.state]

        def function(inputs: list[Tensor]) -> list[Tensor]:
            tensors = iter(inputs)
            batch, lr, *varied = islice(tensors, 2 + len(_tensors(example)))
            augmentation = example.augmentation and example.augmentation.of(varied)
            images, labels = _taken(Split(next(tensors), next(tensors)), batch, augmentation)
            numbers = list(islice(tensors, len(optimizer.numbers)))
            own = {name: next(tensors) for name in parameters}
            before = {name: next(tensors) for name in buffers}
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in own.items()}
            after = {name: buffer.clone() for name, buffer in before.items()}
            with UniformDropout():
                logits = functional_call(model, {**leaves, **after}, (images,))
            loss = cross_entropy(logits, labels)
            gradients = list(torch.autograd.grad(loss, list(leaves.values())))
            with torch.no_grad():
                optimizer.update(list(own.values()), gradients, list(tensors), numbers, lr)
                for name, buffer in before.items():
                    buffer.copy_(after[name])
            return [loss.detach(), *gradients]

        self._program = program.compiled(
            function, self._inputs(example), self._written, "the training step", note
        )

    def __call__(self, step: Step) -> Tensor:
        """Change the network; the mean loss before that, ()."""
        if len(step.batch) != self._size:
            with UniformDropout():
                return self._eager(step)
        loss, *gradients = self._program([*self._inputs(step), *self._written])
        if step.measured:
            for parameter, gradient in zip(self._optimizer.parameters, gradients, strict=True):
                parameter.grad = gradient
        return loss

    def _inputs(self, step: Step) -> list[Tensor]:
        """All that a step reads only."""
        return [step.batch, self._lr.fill_(step.lr), *_tensors(step), *self._read]


class CompiledInference(nn.Module):
    """A network whose inference is one program, for as many images as the example has.

    Other numbers of images, and a network in training mode, are computed operation by operation.

    Args:
        network: it may change, if in place.
        example: images (N, …).
        note: called with a line on what takes long.

    Raises:
        CompileError: inference cannot be compiled here.
    """

    def __init__(self, network: nn.Module, example: Tensor, note: Callable[[str], None]) -> None:
        super().__init__()
        self.network, self._size = network, len(example)
        named = dict([*network.named_parameters(), *network.named_buffers()])
        self._read = [tensor.detach() for tensor in named.values()]

        def function(inputs: list[Tensor]) -> list[Tensor]:
            images, *tensors = inputs
            return [functional_call(network, dict(zip(named, tensors, strict=True)), (images,))]

        training = network.training
        network.eval()
        try:
            with torch.no_grad():
                self._program = program.compiled(
                    function, [example, *self._read], [], "inference", note
                )
        finally:
            network.train(training)

    def forward(self, images: Tensor) -> Tensor:
        """The logits (N, classes)."""
        if self.network.training or len(images) != self._size:
            logits: Tensor = self.network(images)
            return logits
        return self._program([images, *self._read])[0]


class UniformDropout(TorchFunctionMode):
    """Dropout that keeps a unit where a uniform number is below the share that is kept.

    On the CPU torch draws its own masks, from a Bernoulli distribution, in three times the time:
    in a compiled step of a small network that is most of it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch's, or ours in place of its dropout."""
        return (_dropout if func is nn.functional.dropout else func)(*args, **(kwargs or {}))


def _dropout(x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    if not training:
        return x
    return x * (torch.rand_like(x) < 1 - p) / (1 - p)


def _tensors(step: Step) -> tuple[Tensor, ...]:
    """How the images of a step are augmented, as tensors."""
    return step.augmentation.tensors if step.augmentation else ()


def _taken(split: Split, batch: Tensor, augmentation: Augmentation | None) -> tuple[Tensor, Tensor]:
    """The images and labels of a batch."""
    # Rows by number: `images[batch]` does the same in three times the time.
    images = split.images.index_select(0, batch)
    if augmentation is not None:
        images = augmentation.apply(images, batch)
    return images, split.labels.index_select(0, batch)
