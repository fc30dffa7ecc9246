"""Runs that differ only in numbers, trained as one computation, each into its own folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import nn

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.errors import ConfigError, Interrupted
from bnrepro.store import RunWriter, StoredRun
from bnrepro.training import environment, optim
from bnrepro.training.loop import DivergedError, LoopState
from bnrepro.training.progress import RunProgress
from bnrepro.training.run import Training, fit, history, load, network, title
from bnrepro.training.signals import StopSignals
from bnrepro.training.stacked_step import Stack
from bnrepro.training.step import Step


@dataclass(frozen=True)
class StackedRun:
    """A run that is to train together with others that differ from it only in numbers.

    `on_end` is called with what ended the run if it failed or was interrupted; `registered` is for
    its manifest.
    """

    config: c.Config
    writer: RunWriter
    console: Console
    on_end: Callable[[BaseException], None]
    registered: Mapping[str, str] = field(default_factory=dict)


def can_stack(config: c.Config) -> bool:
    """Whether such runs can train together on this machine.

    Not those that draw dropout's masks on a GPU: torch draws them there in a way of its own, which
    a generator for each network cannot follow. Nor where there is no such device: each says so.
    """
    try:
        device = environment.resolve_device(config.device)
    except ConfigError:
        return False
    return device.type == "cpu" or config.model.dropout == 0


def run(runs: Sequence[StackedRun], stop: StopSignals) -> None:
    """Train several runs as one computation, each into its own folder, from where each stood.

    What befalls one between its steps ends that one; the others continue.

    Raises:
        ConfigError, DataError, StorageError: what all of them need is not there.
        Interrupted: `stop` received a signal; the state of each is kept.
    """
    first = runs[0].config
    try:
        device = environment.resolve_device(first.device)
        environment.make_deterministic(first.seed, first.threads)
        dataset = load(first).to(device)
        facts = environment.facts(device)
        facts |= dataset.facts()
    except BaseException as error:
        for run in runs:
            run.on_end(error)
        raise
    train(runs, dataset, facts, stop)


def train(
    runs: Sequence[StackedRun], dataset: Dataset, facts: Mapping[str, Any], stop: StopSignals
) -> None:
    """The same with the data read and the machine known; `facts` go into the manifests.

    Raises:
        Interrupted: `stop` received a signal; the state of each is kept.
    """
    members = [_Member(run) for run in runs]
    facts = {**facts, "stacked": len(runs)}
    limit = _common_step(runs)
    with ExitStack() as displays:
        try:
            with stop.deferred():
                for member in members:
                    config = member.run.config
                    display = RunProgress(title(config), config.train.steps, member.run.console)
                    member.begin(facts, dataset, displays.enter_context(display), stop, limit)
                    if stop.received is not None:
                        raise Interrupted(stop.received)
            _to_the_end(members, dataset, stop)
        except BaseException as error:
            for member in members:
                member.stop(error)
            raise
        finally:
            for member in members:
                member.close()


def _common_step(runs: Sequence[StackedRun]) -> int | None:
    """The newest checkpoint step that every resumed run has reached; None without checkpoints."""
    kept = [StoredRun(run.writer.folder).checkpoint_steps() for run in runs if run.writer.resuming]
    return min((steps[-1] for steps in kept if steps), default=None)


def _to_the_end(members: Sequence[_Member], dataset: Dataset, stop: StopSignals) -> None:
    while left := [member for member in members if not member.closed]:
        with stop.deferred():
            _step_together(left, dataset, stop)
        for member in left:
            member.finish()
    if stop.received is not None:
        raise Interrupted(stop.received)


def _step_together(members: Sequence[_Member], dataset: Dataset, stop: StopSignals) -> None:
    """Make steps until one member has made its last. Networks ahead of others wait for them."""
    images, labels = dataset.train.images, dataset.train.labels
    stacked: list[_Member] = []
    while not any(member.exhausted for member in members):
        if stop.received is not None:
            raise Interrupted(stop.received)
        behind = min(member.state.step for member in members)
        active = [member for member in members if member.state.step == behind]
        if len(active) < len(members):
            for member in members:
                member.heartbeat()
            if any(member.closed for member in members):
                return
        if active != stacked:
            stacked = active
            stack = Stack(*zip(*(member.parts for member in stacked), strict=True))
        steps = [member.step for member in stacked]
        rows = torch.cat([step.batch for step in steps])
        size = (len(steps), -1)
        batches = images.index_select(0, rows).unflatten(0, size)
        for batch, step in zip(batches, steps, strict=True):
            if step.augmentation is not None:
                batch.copy_(step.augmentation.apply(batch, step.batch))
        lrs = [step.lr for step in steps]
        losses = stack.step(batches, labels.index_select(0, rows).view(size), lrs)
        if steps[0].measured:
            stack.show_gradients()
        for member, loss in zip(stacked, losses.unbind(), strict=True):
            member.state.done(loss)
        for member in stacked:
            member.advance()


class _Member:
    """A run of a stack while it trains."""

    def __init__(self, run: StackedRun) -> None:
        self.run = run
        self.state = LoopState()
        self.exhausted = False  # no step is left to make
        self.closed = False  # and nothing else to do
        self.step: Step
        self.parts: tuple[nn.Module, optim.Sgd, torch.Generator]
        self._steps: Iterator[Step]
        self._diverged: int | None = None
        self._training: Training | None = None

    def begin(
        self,
        facts: dict[str, Any],
        dataset: Dataset,
        display: RunProgress,
        stop: StopSignals,
        limit: int | None,
    ) -> None:
        """Take up the run where it stands."""
        config, writer = self.run.config, self.run.writer
        try:
            fit(config, len(dataset.train.labels))
            if self.run.registered:
                facts = {**facts, "registered": self.run.registered}
            if writer.resuming:  # a member of many restarts by itself if it has to
                facts = history(facts, config, writer, display, restart=True)
            writer.manifest(facts)
            model = network(config, dataset)
            generator = torch.Generator()
            generator.set_state(torch.get_rng_state())
            training = Training(config, writer, display, dataset, model, stop, generator)
            self._training = training
            assert isinstance(training.optimizer, optim.Sgd)
            self.parts = (model, training.optimizer, generator)
            self.state = training.begin(limit)
            self._steps = training.steps(self.state)
        except Exception as error:
            self._fail(error)
        else:
            self.advance()

    def advance(self) -> None:
        """Do what there is to do after a step, up to the next."""
        try:
            self.step = next(self._steps)
        except StopIteration:
            self.exhausted = True
        except DivergedError as error:
            self.exhausted, self._diverged = True, error.step
        except (Exception, Interrupted) as error:
            self._fail(error)

    def heartbeat(self) -> None:
        """Give a sign of life while waiting for others."""
        try:
            self.run.writer.heartbeat()
        except Exception as error:
            self._fail(error)

    def finish(self) -> None:
        """Bring the run to its end, if no step is left to make."""
        if not self.exhausted or self.closed:
            return
        assert self._training is not None
        try:
            self._training.finish(self.state, self._diverged)
            self.closed = True
        except Exception as error:
            self._fail(error)

    def stop(self, error: BaseException) -> None:
        """Stop before the end, for a reason that is not this run's; asked to, keep its state."""
        if self.closed:
            return
        begun = self._training is not None and self.state.step > 0
        if isinstance(error, Interrupted) and begun and not self.exhausted:
            assert self._training is not None
            with suppress(Exception, Interrupted):
                self._training.checkpoint(self.state)
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.exhausted = self.closed = True
        self.run.on_end(error)

    def close(self) -> None:
        """Close what is open, however the run ended."""
        if self._training is not None:
            self._training.close()
