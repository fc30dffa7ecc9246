"""One run from a configuration: data, network, loop, probes, and everything that is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro import data, environment, models, optimizers
from bnrepro.batchnorm import population_statistics
from bnrepro.data import Dataset
from bnrepro.display import Display
from bnrepro.errors import ConfigError
from bnrepro.probes import Probe
from bnrepro.store import RunWriter, StoredRun, to_bytes
from bnrepro.tracking import Tracker
from bnrepro.train import DivergedError, Position, score, train

CHECKPOINT_FORMAT = 1


def run(config: c.Config, writer: RunWriter) -> dict[str, Any]:
    """Train as the configuration says, into the folder `writer` has taken.

    Returns:
        The run's summary, as it stands in `summary.json`.

    Raises:
        ConfigError: the configuration does not fit the data or this machine.
        DataError: the data set is missing or damaged.
        StorageError: the folder cannot be written.
    """
    device = environment.choose(config.device)
    environment.make_deterministic(config.seed, config.threads)
    with Display(_title(config), config.train.steps) as display:
        dataset = load(config).to(device)
        fit(config, len(dataset.train.labels))
        writer.manifest(
            environment.facts(device)
            | {"dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}}
        )
        model = models.build(config, dataset.image_shape, len(dataset.classes)).to(device)
        session = Session(config, writer, display, dataset, model)
        try:
            return session.train()
        finally:
            session.close()


def load(config: c.Config) -> Dataset:
    """The data set of a configuration."""
    d = config.dataset
    return data.load(
        d.name,
        Path(d.root),
        validation=d.validation,
        binary=d.binary if isinstance(d, c.Mnist) else False,
        mirror=d.mirror if isinstance(d, c.Mnist | c.Cifar10) else None,
    )


def fit(config: c.Config, images: int) -> None:
    """Refuse what cannot work with so many training images.

    Raises:
        ConfigError: naming the setting, its value and what it may be.
    """
    size = config.train.batch_size
    if size > images:
        raise ConfigError(f"bad value {size} (train.batch_size): it must be {images} or less")
    if config.probe.every and config.probe.size > images:
        raise ConfigError(
            f"bad value {config.probe.size} (probe.size): it must be {images} or less"
        )
    if isinstance(config.norm, c.BatchNorm) and images % size == 1:
        raise ConfigError(
            f"bad value {size} (train.batch_size): it leaves an epoch's last batch a single image, "
            "which batch normalization cannot train on: choose another"
        )


def _title(config: c.Config) -> str:
    return f"{config.dataset.name} {config.model.name} norm={config.norm.name} seed={config.seed}"


class Session:
    """A run while it trains: listens to the loop and keeps, shows and measures what it says."""

    def __init__(
        self,
        config: c.Config,
        writer: RunWriter,
        display: Display,
        dataset: Dataset,
        model: nn.Module,
    ) -> None:
        self._config, self._writer, self._display = config, writer, display
        self._dataset, self._model = dataset, model
        self._optimizer = optimizers.build(config.optimizer, model.parameters())
        self._probe = Probe(model, dataset.train.images[: config.probe.size])
        self._layers = [name for name, _ in models.nonlinearities(model)]
        self._tracker: Tracker | None = None
        if config.tensorboard:
            self._tracker = Tracker(writer.folder, 0)
            self._tracker.hyperparameters(c.flat(c.to_dict(config)))
            if config.probe.every:
                self._tracker.charts(self._layers)

    def train(self) -> dict[str, Any]:
        """Train to the end, or until the loss is not finite; either is a result."""
        config, position = self._config, Position()
        diverged: int | None = None
        try:
            train(
                self._model,
                self._optimizer,
                optimizers.schedule(config),
                self._dataset,
                config,
                self,
                position,
            )
        except DivergedError as error:
            diverged = error.step
        return self._finish(position, diverged)

    def record(self, step: int, values: dict[str, float]) -> None:
        """A line of metrics, for the file, for TensorBoard and for the person."""
        self._writer.record(step, values | {"seconds": round(self._writer.seconds, 3)})
        if self._tracker:
            self._tracker.record(step, values)
        self._display.update(step, values)

    def probe(self, step: int) -> None:
        """Measure the activations."""
        arrays = self._probe.measure()
        self._writer.probe(step, arrays)
        if self._tracker:
            self._tracker.probe(step, arrays)

    def checkpoint(self, position: Position) -> None:
        """Keep all that the next step depends on."""
        state = {
            "format": CHECKPOINT_FORMAT,
            "step": position.step,
            "losses": position.losses,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "probe": self._probe.state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
        }
        self._writer.checkpoint(position.step, to_bytes(lambda file: torch.save(state, file)))

    def _finish(self, position: Position, diverged: int | None) -> dict[str, Any]:
        stored = StoredRun(self._writer.folder)
        _, accuracies = stored.curve("test_accuracy")
        rows = stored.metrics()
        done = diverged is None
        summary: dict[str, Any] = {
            "steps": position.step if done else diverged,
            "test_accuracy": rows[-1].get("test_accuracy") if done else None,
            "best_test_accuracy": float(accuracies.max()) if len(accuracies) else None,
            "validation_accuracy": rows[-1].get("validation_accuracy") if done else None,
            "population_test_accuracy": self._population_accuracy() if done else None,
            "train_loss": rows[-1].get("train_loss") if done else None,
            "diverged_at": diverged,
        }
        if self._tracker:
            if self._config.probe.every:
                bands = {name: stored.probed(f"{name}/percentiles") for name in self._layers}
                steps = next(iter(bands.values()))[0]
                layers = {name: percentiles for name, (_, percentiles) in bands.items()}
                self._tracker.bands(steps, layers, _title(self._config))
            self._tracker.finish(summary, position.step)
        summary["wall_seconds"] = round(self._writer.seconds, 3)
        state = "done" if done else "diverged"
        self._writer.finish(state, summary["steps"], summary)
        return {"status": state, **summary}

    def _population_accuracy(self) -> float | None:
        """Test accuracy with the population statistics of Algorithm 2; None without any BN."""
        norm = self._config.norm
        if not isinstance(norm, c.BatchNorm):
            return None
        population_statistics(self._model, self._population_batches(norm.population_batches))
        self._model.eval()
        with torch.no_grad():
            return score(self._model, self._dataset.test)[0]

    def _population_batches(self, count: int) -> list[Tensor]:
        """Whole training batches of an order that no epoch had."""
        split, size = self._dataset.train, self._config.train.batch_size
        batches: list[Tensor] = []
        epoch = np.iinfo(np.int64).max
        while len(batches) < count:
            order = data.permutation(self._config.seed, epoch, len(split.labels))
            rows = order.to(split.labels.device).split(size)
            batches += [split.images[row] for row in rows if len(row) == size]
            epoch -= 1
        return batches[:count]

    def close(self) -> None:
        """Close what is open, however the run ended."""
        if self._tracker:
            self._tracker.close()
