"""What our own additions cost, as ratios measured side by side in one process.

Machines differ and are shared, so a single time says little: two ways of doing the same work take
turns, and the ratio of their times, round by round, is what is reported.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.nn.functional import cross_entropy

from bnrepro import config as c
from bnrepro import environment, models, optimizers
from bnrepro.data import Dataset, permutation
from bnrepro.display import Display
from bnrepro.errors import ConfigError
from bnrepro.experiment import Training, load
from bnrepro.signals import StopSignals
from bnrepro.store import RunWriter

Job = Callable[[], None]


@dataclass(frozen=True)
class Comparison:
    """Two ways of doing the same work, timed in turns."""

    name: str
    ours: str
    theirs: str
    steps: int
    seconds: tuple[tuple[float, float], ...]  # of each round: ours, theirs
    times: int = 1  # how many times more of it ours did than it does by default

    @property
    def ratios(self) -> list[float]:
        """Our time over theirs, round by round, as it is by default."""
        return [1 + (ours / theirs - 1) / self.times for ours, theirs in self.seconds]

    def to_dict(self) -> dict[str, object]:
        """The figures, for a table or for JSON."""
        ours, theirs = (statistics.median(column) for column in zip(*self.seconds, strict=True))
        return {
            "name": self.name,
            "ours": self.ours,
            "theirs": self.theirs,
            "steps": self.steps,
            "rounds": len(self.seconds),
            "ratio": statistics.median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "ours_steps_per_second": self.steps / ours,
            "theirs_steps_per_second": self.steps / theirs,
        }


def compare(
    name: str, ours: tuple[str, Job], theirs: tuple[str, Job], steps: int, rounds: int
) -> Comparison:
    """Time two jobs in turns, `rounds` times each, after one uncounted round."""
    ours[1]()
    theirs[1]()
    seconds = []
    for number in range(rounds):
        order = (ours, theirs) if number % 2 else (theirs, ours)  # neither is always the first
        times = {label: _timed(job) for label, job in order}
        seconds.append((times[ours[0]], times[theirs[0]]))
    return Comparison(name, ours[0], theirs[0], steps, tuple(seconds))


def _timed(job: Job) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


RUN = "a run with everything on"
MORE_CHECKPOINTS = 25


def loop(config: c.Config, rounds: int) -> Comparison:
    """A whole run with everything on against a bare loop over the same tensors."""
    with _prepared(config) as dataset:
        ours, theirs = (lambda: _run(config, dataset)), (lambda: _bare(config, dataset))
        return compare("loop", (RUN, ours), ("a bare loop", theirs), config.train.steps, rounds)


def dataloader(config: c.Config, rounds: int) -> Comparison:
    """A whole run with everything on against what one would write: torch's layer, a DataLoader."""
    with _prepared(config) as dataset:
        ours, theirs = (lambda: _run(config, dataset)), (lambda: _usual(config, dataset))
        label = "torch.nn.BatchNorm in a loop over a DataLoader, no logging"
        return compare("dataloader", (RUN, ours), (label, theirs), config.train.steps, rounds)


def probes(config: c.Config, rounds: int) -> Comparison:
    """A whole run against the same run without probes and without TensorBoard."""
    silent = replace(config, probe=replace(config.probe, every=0), tensorboard=False)
    with _prepared(config) as dataset:
        ours, theirs = (lambda: _run(config, dataset)), (lambda: _run(silent, dataset))
        label = "the same without probes and TensorBoard"
        return compare("probes", (RUN, ours), (label, theirs), config.train.steps, rounds)


def checkpoints(config: c.Config, rounds: int) -> Comparison:
    """A whole run with checkpoints against the same run with the last one only.

    Checkpoints are made so much more often than the configuration says that what they cost stands
    out from the noise of a shared machine; the ratio is that of the configuration.
    """
    usual = config.train.checkpoint_every
    steps = max(config.train.steps, usual)
    every = max(1, usual // MORE_CHECKPOINTS)
    often = replace(config, train=replace(config.train, steps=steps, checkpoint_every=every))
    once = replace(often, train=replace(often.train, checkpoint_every=steps))
    with _prepared(config) as dataset:
        ours, theirs = (lambda: _run(often, dataset)), (lambda: _run(once, dataset))
        label = "the same with the last checkpoint only"
        found = compare("checkpoints", (RUN, ours), (label, theirs), steps, rounds)
    return replace(found, times=usual // every)


BENCHMARKS: dict[str, Callable[[c.Config, int], Comparison]] = {
    "loop": loop,
    "dataloader": dataloader,
    "probes": probes,
    "checkpoints": checkpoints,
}


def measure(names: Sequence[str], config: c.Config, rounds: int) -> list[Comparison]:
    """The benchmarks of these names, or all of them.

    Raises:
        ConfigError: there is no benchmark of that name.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise ConfigError(c.unknown("benchmark", name, BENCHMARKS))
    return [BENCHMARKS[name](config, rounds) for name in names or BENCHMARKS]


@contextmanager
def _prepared(config: c.Config) -> Iterator[Dataset]:
    device = environment.choose(config.device)
    environment.make_deterministic(config.seed, config.threads)
    yield load(config).to(device)


def _run(config: c.Config, dataset: Dataset) -> None:
    """A run as `bnrepro train` makes it, but for reading the data and starting Python."""
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter.claim(Path(folder) / "run", c.to_dict(config), [])
        assert writer is not None
        model = models.build(config, dataset.image_shape, len(dataset.classes))
        model.to(dataset.train.images.device)
        quiet = Console(quiet=True)
        with Display("bench", config.train.steps, quiet) as display:
            training = Training(config, writer, display, dataset, model, StopSignals())
            training.train()
            training.close()


def _usual(config: c.Config, dataset: Dataset) -> None:
    """What a user would write without us: torch's own layers, optimizer and DataLoader."""
    from torch.utils.data import DataLoader, TensorDataset

    if not isinstance(config.model, c.Mlp):
        raise ConfigError(f"bad value {config.model.name} (model): this benchmark has mlp only")
    images, labels = dataset.train.images, dataset.train.labels
    kinds = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}
    layers: list[nn.Module] = [nn.Flatten()]
    width = images[0].numel()
    for hidden in config.model.hidden:
        layers += [nn.Linear(width, hidden)]
        layers += [nn.BatchNorm1d(hidden)] if isinstance(config.norm, c.BatchNorm) else []
        layers += [kinds[config.model.activation.value]()]
        width = hidden
    model = nn.Sequential(*layers, nn.Linear(width, len(dataset.classes))).to(images.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optimizer.lr)
    loader = DataLoader(TensorDataset(images, labels), config.train.batch_size, shuffle=True)
    step = 0
    while step < config.train.steps:
        for batch, targets in islice(loader, config.train.steps - step):
            optimizer.zero_grad()
            cross_entropy(model(batch), targets).backward()
            optimizer.step()
            step += 1
    if images.is_cuda:
        torch.cuda.synchronize()


def _bare(config: c.Config, dataset: Dataset) -> None:
    """The same tensors and the same torch operations; nothing is read, kept or shown."""
    images, labels = dataset.train.images, dataset.train.labels
    model = models.build(config, dataset.image_shape, len(dataset.classes)).to(images.device)
    optimizer = optimizers.build(config.optimizer, model.parameters())
    size, step, epoch = config.train.batch_size, 0, 0
    model.train()
    while step < config.train.steps:
        order = permutation(config.seed, epoch, len(labels)).to(labels.device)
        for batch in order.split(size)[: config.train.steps - step]:
            optimizer.zero_grad()
            inputs, targets = images.index_select(0, batch), labels.index_select(0, batch)
            cross_entropy(model(inputs), targets).backward()
            optimizer.step(config.optimizer.lr)
            step += 1
        epoch += 1
    if images.is_cuda:
        torch.cuda.synchronize()
