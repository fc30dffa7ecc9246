"""A run of ours against other ways of training the same network."""

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from bnrepro import config as c
from bnrepro.bench.comparison import Comparison, compare
from bnrepro.data import Dataset, permutation
from bnrepro.errors import ConfigError
from bnrepro.nn import build
from bnrepro.store import RunWriter
from bnrepro.training import environment, optim
from bnrepro.training.progress import RunProgress
from bnrepro.training.run import Training, load, network
from bnrepro.training.signals import StopSignals

RUN = "a run with everything on"
MORE_CHECKPOINTS = 25


def loop(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """A whole run against a bare loop, a DataLoader's loop and, where installed, Lightning's."""
    others = {
        "a bare loop over the same tensors": _bare,
        "torch.nn.BatchNorm in a loop over a DataLoader, no logging": _usual,
    }
    if importlib.util.find_spec("lightning"):
        others["Lightning's Trainer, its defaults"] = _lightning
    with prepared(config) as dataset:
        for label, other in others.items():
            yield compare(
                "loop",
                (RUN, lambda: run(config, dataset)),
                (label, partial(other, config, dataset)),
                config.train.steps,
                rounds,
            )


def step(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """A bare loop with our layer against the same with torch's, eager and compiled."""
    if not isinstance(config.norm, c.BatchNorm):
        raise ConfigError(f"bad value {config.norm.name} (norm): this benchmark needs norm=batch")
    fields = {name: getattr(config.norm, name) for name in vars(config.norm) if name != "name"}
    with_torch = replace(config, norm=c.TorchNorm(name="torch", **fields))
    can_compile = environment.can_compile(environment.resolve_device(config.device))
    with prepared(config) as dataset:
        for compiled in (False, True) if can_compile else (False,):
            how = "compiled" if compiled else "eager"
            loops = [Bare(each, dataset, compiled) for each in (config, with_torch)]
            yield compare(
                f"step {how}",
                ("a step with norm=batch", loops[0]),
                ("a step with norm=torch", loops[1]),
                config.train.steps,
                rounds,
            )


def probes(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """A whole run against the same run without probes and without TensorBoard."""
    silent = replace(config, probe=replace(config.probe, every=0), tensorboard=False)
    with prepared(config) as dataset:
        ours, theirs = (lambda: run(config, dataset)), (lambda: run(silent, dataset))
        label = "the same without probes and TensorBoard"
        yield compare("probes", (RUN, ours), (label, theirs), config.train.steps, rounds)


def checkpoints(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """A whole run with checkpoints against the same run with the last one only.

    Checkpoints are made so much more often than the configuration says that what they cost stands
    out from the noise of a shared machine; the ratio is that of the configuration.
    """
    usual = config.train.checkpoint_every
    steps = max(config.train.steps, usual)
    every = max(1, usual // MORE_CHECKPOINTS)
    often = replace(config, train=replace(config.train, steps=steps, checkpoint_every=every))
    once = replace(often, train=replace(often.train, checkpoint_every=steps))
    with prepared(config) as dataset:
        ours, theirs = (lambda: run(often, dataset)), (lambda: run(once, dataset))
        label = "the same with the last checkpoint only"
        comparison = compare("checkpoints", (RUN, ours), (label, theirs), steps, rounds)
    yield replace(comparison, times=usual // every)


@contextmanager
def prepared(config: c.Config) -> Iterator[Dataset]:
    """The data set of a configuration, where and as a run would have it."""
    device = environment.resolve_device(config.device)
    environment.make_deterministic(config.seed, config.threads)
    yield load(config).to(device)


def run(config: c.Config, dataset: Dataset) -> None:
    """A run as `bnrepro train` makes it, but for reading the data and starting Python."""
    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter.acquire(Path(folder) / "run", c.to_dict(config), [])
        assert writer is not None
        quiet = Console(quiet=True)
        with RunProgress("bench", config.train.steps, quiet) as display:
            model = network(config, dataset)
            training = Training(config, writer, display, dataset, model, StopSignals())
            training.compile()
            training.train()
            training.close()


def _usual_model(config: c.Config, dataset: Dataset) -> nn.Sequential:
    """The network as one would write it with torch's own layers."""
    if not isinstance(config.model, c.Mlp):
        raise ConfigError(f"bad value {config.model.name} (model): this benchmark has mlp only")
    kinds = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}
    layers: list[nn.Module] = [nn.Flatten()]
    width = dataset.train.images[0].numel()
    for hidden in config.model.hidden:
        layers += [nn.Linear(width, hidden)]
        layers += [nn.BatchNorm1d(hidden)] if isinstance(config.norm, c.BatchNorm) else []
        layers += [kinds[config.model.activation.value]()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, len(dataset.classes)))


def _usual(config: c.Config, dataset: Dataset) -> None:
    """What a user would write without us: torch's own layers, optimizer and DataLoader."""
    images, labels = dataset.train.images, dataset.train.labels
    model = _usual_model(config, dataset).to(images.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optimizer.lr)
    loader = DataLoader(TensorDataset(images, labels), config.train.batch_size, shuffle=True)
    done = 0
    while done < config.train.steps:
        for batch, targets in islice(loader, config.train.steps - done):
            optimizer.zero_grad()
            cross_entropy(model(batch), targets).backward()
            optimizer.step()
            done += 1
    if images.is_cuda:
        torch.cuda.synchronize()


def _lightning(config: c.Config, dataset: Dataset) -> None:
    """The same network in Lightning's Trainer with its defaults: a log, a bar, a checkpoint."""
    import lightning

    images, labels = dataset.train.images, dataset.train.labels
    network, lr = _usual_model(config, dataset), config.optimizer.lr

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            loss = cross_entropy(self.network(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=lr)

    loader = DataLoader(TensorDataset(images, labels), config.train.batch_size, shuffle=True)
    # What it prints is not ours to print.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        trainer = lightning.Trainer(max_steps=config.train.steps, default_root_dir=folder)
        trainer.fit(Module(), loader)


class Bare:
    """The same tensors and the same torch operations; nothing is read, kept or shown."""

    def __init__(self, config: c.Config, dataset: Dataset, compiled: bool = False) -> None:
        self._config, self._dataset = config, dataset
        self._model = build.build(config, dataset.image_shape, len(dataset.classes))
        self._model.to(dataset.train.images.device)
        if compiled:
            self._model.compile()

    def __call__(self) -> None:
        """Train for `train.steps` steps, from where the last call ended."""
        config, model = self._config, self._model
        images, labels = self._dataset.train.images, self._dataset.train.labels
        optimizer = optim.build(config.optimizer, model.parameters())
        done, epoch = 0, 0
        model.train()
        while done < config.train.steps:
            order = permutation(config.seed, epoch, len(labels)).to(labels.device)
            for batch in order.split(config.train.batch_size)[: config.train.steps - done]:
                optimizer.zero_grad()
                inputs, targets = images.index_select(0, batch), labels.index_select(0, batch)
                cross_entropy(model(inputs), targets).backward()
                optimizer.step(config.optimizer.lr)
                done += 1
            epoch += 1
        if images.is_cuda:
            torch.cuda.synchronize()


def _bare(config: c.Config, dataset: Dataset) -> None:
    Bare(config, dataset)()
