"""The training loop. It knows no files, no Hydra and no claims.

A step is a function of (parameters, optimizer state, seed, step) alone: the order of the images
and their augmentation are drawn from (seed, epoch), so a loop started at any step sees what
an uninterrupted one saw.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro.data import Augmentation, Dataset, Split, augmentation, batches
from bnrepro.training.step import Step

SPLITS = "test", "validation"
"""What an evaluation looks at."""

EVALUATION_BATCH = 1000
EVALUATION_BATCH_OF_MAPS = 100
"""Images evaluated at once, without convolutions and with: their activations stay in the cache."""


@dataclass
class LoopState:
    """How far a run is: steps done, and the losses since the last recorded line."""

    step: int = 0
    losses: list[Tensor] = field(default_factory=list)

    def done(self, loss: Tensor) -> None:
        """Count one step of this loss, which is read later in one go: reading waits for a GPU."""
        self.losses.append(loss)
        self.step += 1


class Callbacks(Protocol):
    """What the loop calls between steps. Nothing here may change the model."""

    def record(self, step: int, values: dict[str, float]) -> None:
        """A line of metrics is there."""

    def probe(self, step: int) -> None:
        """The activations are to be measured."""

    def checkpoint(self, state: LoopState) -> None:
        """The state is to be kept."""

    def stopping(self) -> bool:
        """Whether the loop was asked to keep its state at the end of this step."""


class DivergedError(Exception):
    """The loss was not finite at this step, counted from 1."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


def train(
    make_step: Callable[[Step], Tensor],
    model: nn.Module,
    schedule: Callable[[int], float],
    data: Dataset,
    config: c.Config,
    callbacks: Callbacks,
    state: LoopState,
) -> None:
    """Train from `state` to `config.train.steps`; `state` follows.

    `make_step` changes the model as a step says and returns the loss.

    Raises:
        DivergedError: a loss is not finite. Nothing after that step was recorded, measured or kept.
    """
    for step in steps(model, schedule, data, config, callbacks, state):
        state.done(make_step(step))


def steps(
    model: nn.Module,
    schedule: Callable[[int], float],
    data: Dataset,
    config: c.Config,
    callbacks: Callbacks,
    state: LoopState,
) -> Iterator[Step]:
    """The steps from `state` to `config.train.steps`, and all that happens between them.

    The caller applies each step to the model and calls `state.done`; before the next step is
    yielded, the callbacks see the outcome.

    Raises:
        DivergedError: a loss is not finite. Nothing after that step was recorded, measured or kept.
    """
    plan, every, labels = config.train, config.probe.every, data.train.labels
    epoch_steps = -(-len(labels) // plan.batch_size)  # one batch may be smaller: none is dropped
    drawn = -1
    if state.step == 0:
        callbacks.record(0, evaluate(model, data))
        if every:
            callbacks.probe(0)
    model.train()
    while state.step < plan.steps:
        epoch, index = divmod(state.step, epoch_steps)
        if epoch != drawn:
            (order, augmented), drawn = epoch_of(config, epoch, labels), epoch
        step, last = state.step + 1, state.step + 1 == plan.steps
        measured = bool(every) and (last or step % every == 0)
        lr = schedule(state.step)
        yield Step(order[index], augmented, lr, measured)
        assert state.step == step

        evaluation = last or step % plan.eval_every == 0
        line = evaluation or step % plan.log_every == 0
        kept = last or step % plan.checkpoint_every == 0 or callbacks.stopping()
        if not (line or measured or kept):
            continue
        losses = finite(state)
        if line:
            state.losses.clear()
            values = {"train_loss": sum(losses) / len(losses), "lr": lr}
            if evaluation:
                tested = last or step % (plan.test_every or plan.eval_every) == 0
                values |= evaluate(model, data, SPLITS if tested else ("validation",))
                # After the last update no training loss is left to tell of what it did. Before, one
                # will: when a run diverged must not depend on how often it is evaluated.
                if last and not math.isfinite(values["test_loss"]):
                    raise DivergedError(step)
            callbacks.record(step, values)
        if measured:
            callbacks.probe(step)
        if kept:
            callbacks.checkpoint(state)


def first_step(config: c.Config, labels: Tensor) -> Step:
    """The first step of a run, at no learning rate: what all of whole batches look like."""
    (first, *_), augmented = epoch_of(config, 0, labels)
    return Step(first, augmented, 0.0, measured=False)


def epoch_of(
    config: c.Config, epoch: int, labels: Tensor
) -> tuple[tuple[Tensor, ...], Augmentation | None]:
    """The batches of an epoch, and how each image is augmented in it."""
    count, device, a = len(labels), labels.device, config.augment
    together = config.train.shuffling is c.Shuffling.batches
    rows = batches(config.seed, epoch, count, config.train.batch_size, together=together)
    augmented = augmentation(
        config.seed, epoch, count, flip=a.flip, shift=a.shift, distortion=a.distortion
    )
    return tuple(batch.to(device) for batch in rows), augmented.to(device) if augmented else None


def finite(state: LoopState) -> list[float]:
    """The losses since the last line.

    Raises:
        DivergedError: with the first step whose loss is not finite.
    """
    losses = torch.stack(state.losses)
    good = torch.isfinite(losses)
    if not bool(good.all()):
        first = int((~good).nonzero()[0])
        raise DivergedError(state.step - len(losses) + first + 1)
    values: list[float] = losses.tolist()
    return values


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset, splits: Sequence[str] = SPLITS) -> dict[str, float]:
    """Accuracy and mean loss over whole splits, in inference mode: `SPLIT_accuracy`, `_loss`."""
    values: dict[str, float] = {}
    training = model.training
    model.eval()
    try:
        for name in splits:
            accuracy, loss = score(model, getattr(data, name))
            values |= {f"{name}_accuracy": accuracy, f"{name}_loss": loss}
    finally:
        model.train(training)
    return values


def score(model: nn.Module, split: Split) -> tuple[float, float]:
    """Accuracy and mean loss of a model in the mode it is in, over every image of a split."""
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    size = _at_once(model)
    for images, labels in zip(split.images.split(size), split.labels.split(size), strict=True):
        logits = model(images)
        correct += (logits.argmax(1) == labels).sum()
        loss += cross_entropy(logits, labels, reduction="sum").double()
    return correct.item() / len(split.labels), loss.item() / len(split.labels)


@torch.no_grad()
def probabilities(model: nn.Module, split: Split) -> Tensor:
    """The class probabilities of a model in the mode it is in, (N, classes)."""
    return torch.cat([model(part).softmax(1) for part in split.images.split(_at_once(model))])


def _at_once(model: nn.Module) -> int:
    return EVALUATION_BATCH_OF_MAPS if has_maps(model) else EVALUATION_BATCH


def has_maps(model: nn.Module) -> bool:
    """Whether a network has convolutions, whose outputs are much larger than its inputs."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
