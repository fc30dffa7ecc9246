"""Runs that differ in numbers only, trained as one computation, each into its own folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import nn

from bnrepro import config as c
from bnrepro import environment, optimizers
from bnrepro.data import Dataset
from bnrepro.display import Display
from bnrepro.errors import ConfigError, Interrupted
from bnrepro.experiment import Training, fit, history, load, network, title
from bnrepro.signals import StopSignals
from bnrepro.stack import Stack
from bnrepro.store import RunWriter, StoredRun
from bnrepro.train import DivergedError, Position, Step


@dataclass(frozen=True)
class Run:
    """A run that is to train together with others that differ from it in numbers only.

    `ended` is called with what ended the run if it failed or was interrupted.
    """

    config: c.Config
    writer: RunWriter
    console: Console
    ended: Callable[[BaseException], None]


def can_stack(config: c.Config) -> bool:
    """Whether such runs can train together on this machine.

    Not those that draw dropout's masks on a GPU: torch draws them there in a way of its own, which
    a generator for each network cannot follow. Nor where there is no such device: each says so.
    """
    try:
        device = environment.choose(config.device)
    except ConfigError:
        return False
    return device.type == "cpu" or config.model.dropout == 0


def run(runs: Sequence[Run], stop: StopSignals) -> None:
    """Train several runs as one computation, each into its own folder, from where each stood.

    What befalls one between its steps ends that one; the others continue.

    Raises:
        ConfigError, DataError, StorageError: what all of them need is not there.
        Interrupted: `stop` received a signal; the state of each is kept.
    """
    first = runs[0].config
    try:
        device = environment.choose(first.device)
        environment.make_deterministic(first.seed, first.threads)
        dataset = load(first).to(device)
        facts = environment.facts(device)
        facts |= dataset.facts()
    except BaseException as error:
        for run in runs:
            run.ended(error)
        raise
    train(runs, dataset, facts, stop)


def train(
    runs: Sequence[Run], dataset: Dataset, facts: Mapping[str, Any], stop: StopSignals
) -> None:
    """The same with the data read and the machine known; `facts` go into the manifests.

    Raises:
        Interrupted: `stop` received a signal; the state of each is kept.
    """
    going = [_Going(run) for run in runs]
    own = {**facts, "stacked": len(runs)}
    limit = _common_step(runs)
    with ExitStack() as displays:
        try:
            with stop.deferred():
                for one in going:
                    config = one.run.config
                    display = Display(title(config), config.train.steps, one.run.console)
                    one.begin(own, dataset, displays.enter_context(display), stop, limit)
                    if stop.received is not None:
                        raise Interrupted(stop.received)
            _to_the_end(going, dataset, stop)
        except BaseException as error:
            for one in going:
                one.leave(error)
            raise
        finally:
            for one in going:
                one.close()


def _common_step(runs: Sequence[Run]) -> int | None:
    """The newest step that of all runs that have checkpoints each has one of, killed in one go."""
    kept = [StoredRun(run.writer.folder).checkpoint_steps() for run in runs if run.writer.resuming]
    return min((steps[-1] for steps in kept if steps), default=None)


def _to_the_end(going: Sequence[_Going], dataset: Dataset, stop: StopSignals) -> None:
    while left := [one for one in going if not one.gone]:
        with stop.deferred():
            _step_together(left, dataset, stop)
        for one in left:
            one.finish()
    if stop.received is not None:
        raise Interrupted(stop.received)


def _step_together(going: Sequence[_Going], dataset: Dataset, stop: StopSignals) -> None:
    """Make steps until one of them has made its last. Who is ahead of others waits for them."""
    images, labels = dataset.train.images, dataset.train.labels
    together: list[_Going] = []
    while not any(one.over for one in going):
        if stop.received is not None:
            raise Interrupted(stop.received)
        behind = min(one.position.step for one in going)
        active = [one for one in going if one.position.step == behind]
        if len(active) < len(going):
            for one in going:
                one.alive()
            if any(one.gone for one in going):
                return
        if active != together:
            together = active
            stack = Stack(*zip(*(one.parts for one in together), strict=True))
        made = [one.step for one in together]
        rows = torch.cat([step.batch for step in made])
        size = (len(made), -1)
        seen = images.index_select(0, rows).unflatten(0, size)
        for own, step in zip(seen, made, strict=True):
            if step.varied is not None:
                own.copy_(step.varied.apply(own, step.batch))
        rates = [step.rate for step in made]
        losses = stack.step(seen, labels.index_select(0, rows).view(size), rates)
        if made[0].measured:
            stack.show_gradients()
        for one, loss in zip(together, losses.unbind(), strict=True):
            one.position.done(loss)
        for one in together:
            one.advance()


class _Going:
    """A run of a stack on its way."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.position = Position()
        self.over = False  # no step is left to make
        self.gone = False  # and nothing else to do
        self.step: Step
        self.parts: tuple[nn.Module, optimizers.Sgd, torch.Generator]
        self._steps: Iterator[Step]
        self._diverged: int | None = None
        self._training: Training | None = None

    def begin(
        self,
        facts: dict[str, Any],
        dataset: Dataset,
        display: Display,
        stop: StopSignals,
        limit: int | None,
    ) -> None:
        """Take up the run where it stands."""
        config, writer = self.run.config, self.run.writer
        try:
            fit(config, len(dataset.train.labels))
            if writer.resuming:  # a member of many restarts by itself if it has to
                facts = history(facts, config, writer, display, restart=True)
            writer.manifest(facts)
            model = network(config, dataset)
            generator = torch.Generator()
            generator.set_state(torch.get_rng_state())
            training = Training(config, writer, display, dataset, model, stop, generator)
            self._training = training
            assert isinstance(training.optimizer, optimizers.Sgd)
            self.parts = (model, training.optimizer, generator)
            self.position = training.begin(limit)
            self._steps = training.steps(self.position)
        except Exception as error:
            self._fail(error)
        else:
            self.advance()

    def advance(self) -> None:
        """Do what there is to do after a step, up to the next."""
        try:
            self.step = next(self._steps)
        except StopIteration:
            self.over = True
        except DivergedError as error:
            self.over, self._diverged = True, error.step
        except (Exception, Interrupted) as error:
            self._fail(error)

    def alive(self) -> None:
        """Give a sign of life while waiting for others."""
        try:
            self.run.writer.alive()
        except Exception as error:
            self._fail(error)

    def finish(self) -> None:
        """Bring the run to its end, where no step is left to make."""
        if not self.over or self.gone:
            return
        assert self._training is not None
        try:
            self._training.finish(self.position, self._diverged)
            self.gone = True
        except Exception as error:
            self._fail(error)

    def leave(self, error: BaseException) -> None:
        """Stop before the end, for a reason that is not this run's; asked to, keep its state."""
        if self.gone:
            return
        begun = self._training is not None and self.position.step > 0
        if isinstance(error, Interrupted) and begun and not self.over:
            assert self._training is not None
            with suppress(Exception, Interrupted):
                self._training.checkpoint(self.position)
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.over = self.gone = True
        self.run.ended(error)

    def close(self) -> None:
        """Close what is open, however the run ended."""
        if self._training is not None:
            self._training.close()
