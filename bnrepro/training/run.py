"""One run, from a configuration to a folder: data, network, loop, probes, checkpoints."""

import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro import data
from bnrepro.data import Dataset, Split
from bnrepro.errors import CheckpointError, ConfigError, DataError, Interrupted, RunInUseError
from bnrepro.nn import build
from bnrepro.nn.inference import population_statistics
from bnrepro.store import RunWriter, StoredRun
from bnrepro.training import environment, optim
from bnrepro.training.gradient_shift import gradient_shifts
from bnrepro.training.jacobian import correlations, singular_values
from bnrepro.training.landscape import landscape
from bnrepro.training.loop import (
    EVALUATION_BATCH_OF_MAPS,
    SPLITS,
    DivergedError,
    LoopState,
    first_step,
    has_maps,
    probabilities,
    score,
    steps,
    train,
)
from bnrepro.training.probes import Probe
from bnrepro.training.program import CompileError
from bnrepro.training.progress import RunProgress
from bnrepro.training.restriction import decayed, trained
from bnrepro.training.signals import StopSignals
from bnrepro.training.step import CompiledInference, CompiledStep, EagerStep, Step
from bnrepro.training.studies import measure
from bnrepro.training.tensorboard import TensorBoardLogger

SAME_FACTS = (
    "versions", "torch_build", "cpu", "cpu_capability", "device", "gpu", "threads", "environment",
    "compiled", "dataset.name", "dataset.fingerprint", "results", "packages",
)  # fmt: skip
"""Facts that must be unchanged for a run to resume to the same bits."""


def run(
    config: c.Config,
    writer: RunWriter,
    stop: StopSignals,
    *,
    restart: bool = False,
    registered: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train as the configuration says, into the folder `writer` has taken, from where it stood.

    With `restart`, an unfinished run that would not resume to the same bits here restarts. The
    manifest lists the digests of claims in `registered`; that of a resumed run keeps its own.

    Returns:
        The run's summary, as it stands in `summary.json`.

    Raises:
        ConfigError: the configuration does not fit the data, this machine, or what the run that
            is to be resumed began with.
        DataError: the data set is missing or damaged.
        StorageError: the folder cannot be written.
        CheckpointError: the run has checkpoints and none of them can be used.
        Interrupted: `stop` received a signal; the state after the step it came in is kept.
    """
    device = environment.resolve_device(config.device)
    environment.make_deterministic(config.seed, config.threads)
    with RunProgress(title(config), config.train.steps) as display:
        dataset = load(config).to(device)
        for note in dataset.notes:
            display.say(f"{config.dataset.root}: {note}")
        fit(config, len(dataset.train.labels))
        training = Training(config, writer, display, dataset, network(config, dataset), stop)
        facts = environment.facts(device)
        if training.compile():
            facts["compiled"] = True
        facts |= dataset.facts()
        if packages := c.brought_by(config):
            facts["packages"] = packages
        if registered:
            facts["registered"] = registered
        if writer.resuming:
            facts = history(facts, config, writer, display, restart=restart)
        writer.manifest(facts)
        try:
            return training.train()
        finally:
            training.close()


def history(
    facts: dict[str, Any],
    config: c.Config,
    writer: RunWriter,
    display: RunProgress,
    *,
    restart: bool = False,
) -> dict[str, Any]:
    """The manifest of an unfinished run: as it began, and this time under `resumes`.

    If something differs that the bits depend on, the run resumes with `run.allow_drift`; otherwise
    `restart` makes it start from step 0, with a manifest of its own.

    Raises:
        ConfigError: the run can neither resume nor restart, or has made all steps asked for.
    """
    stored = StoredRun(writer.folder)
    began = stored.manifest() or facts
    _more_steps(config, stored)
    drift = c.differences(_same(facts), _same(began))
    if drift and not config.run.allow_drift:
        reason = f"not what the run began with ({writer.folder}; {'; '.join(drift)})"
        if restart:
            display.say(f"restarted: {reason}")
            writer.truncate_to(0, 0, 0.0)
            return facts
        raise ConfigError(
            f"{reason}: run.overwrite=true restarts it, run.allow_drift=true resumes it anyway"
        )
    drift += c.differences(c.to_dict(config), stored.config())
    # Stacked and single runs round differently; that is recorded, but it is still the same run.
    drift += c.differences({"stacked": facts.get("stacked")}, {"stacked": began.get("stacked")})
    named = ("began", "argv", "git", "results", "code")
    resumed = {name: facts[name] for name in named} | {"drift": drift}
    return {**began, "resumes": [*began.get("resumes", []), resumed]}


def _same(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts by dotted names that have to be the same."""
    names = [name for name in SAME_FACTS if name != "cpu" or facts.get("gpu") is None]
    prefixes = tuple(f"{name}." for name in names)
    return {name: value for name, value in c.flat(facts).items() if f"{name}.".startswith(prefixes)}


def _more_steps(config: c.Config, stored: StoredRun) -> None:
    """Refuse to resume a run for no more steps than it has made already.

    Raises:
        ConfigError: naming the setting and how many steps there are.
    """
    asked, reached = config.train.steps, max(stored.checkpoint_steps(), default=0)
    if asked != stored.config().get("train", {}).get("steps", asked) and asked <= reached:
        raise ConfigError(
            f"bad value {asked} (train.steps): the run has made {reached} steps "
            f"({stored.folder}): ask for more, or run.overwrite=true restarts it"
        )


def network(config: c.Config, dataset: Dataset) -> nn.Module:
    """The network of a run; torch's generator is left as dropout's first mask finds it.

    Building a layer draws weights of torch's own, which ours replace: only where every run builds
    its network here do the masks of one seed agree, whether it trains alone or in a stack.
    """
    torch.manual_seed(config.seed)
    model = build.build(config, dataset.image_shape, len(dataset.classes))
    return model.to(dataset.train.labels.device)


def load(config: c.Config) -> Dataset:
    """The data set of a configuration.

    Raises:
        DataError: it is missing or damaged, or not of the fingerprint the configuration says.
    """
    d = config.dataset
    dataset = data.load(d, seed=config.seed)
    expected = d.fingerprint if isinstance(d, c.OwnImages) else None
    if expected not in (None, dataset.fingerprint):
        raise DataError(
            f"other data than asked for: fingerprint expected {expected}, found "
            f"{dataset.fingerprint} ({d.root}): bring those images back, or rerun the command "
            f"without {c.FINGERPRINT}"
        )
    return dataset


def fit(config: c.Config, images: int) -> None:
    """Refuse what cannot work with this number of training images.

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
    if config.norm.needs_batch and images % size == 1:
        raise ConfigError(
            f"bad value {size} (train.batch_size): it leaves an epoch's last batch a single image, "
            "which batch normalization cannot train on: choose another"
        )
    ghost = config.norm.ghost_size
    if ghost is not None and images % size % ghost:
        raise ConfigError(
            f"bad value {ghost} (norm.ghost_size): it does not divide the {images % size} images "
            "of an epoch's last batch: choose another, or another dataset.limit"
        )


def _finite(state: Any) -> bool:
    """Whether every number in a state of nested containers is finite."""
    if isinstance(state, Tensor):
        return bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(map(_finite, state.values()))
    return not isinstance(state, list | tuple) or all(map(_finite, state))


def _own(state: Any) -> Any:
    """The same state; what is a view of something larger, which would be kept whole, is copied."""
    if isinstance(state, Tensor):
        whole = state.untyped_storage().nbytes() == state.nbytes
        return state if whole else state.clone()
    if isinstance(state, list):
        return [_own(item) for item in state]
    if isinstance(state, dict):
        for name, item in state.items():  # in place: a model's state dict is more than a dict
            state[name] = _own(item)
    return state


def _unpacked(content: bytes) -> dict[str, Any]:
    """The state in a checkpoint: tensors, numbers and text; no code is run.

    Raises:
        Exception: of any kind; it is not what `torch.save` writes.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed")  # it could expand to any size
    state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    if not isinstance(state, dict):
        raise TypeError("not a dict")
    return state


def probed_layers(config: c.Config, model: nn.Module) -> list[str] | None:
    """The nonlinearities whose inputs are measured, of many a few between the ends; None for all.

    Raises:
        ConfigError: one that was asked for is not there.
    """
    names = [name for name, _ in build.nonlinearities(model)]
    for name in config.probe.layers or ():
        if name not in names:
            raise ConfigError(c.unknown("layer of probe.layers", name, names))
    few = config.model.probed
    if config.probe.layers is not None or few is None or len(names) <= few:
        return config.probe.layers
    return [names[place] for place in np.linspace(0, len(names) - 1, few).round().astype(int)]


def title(config: c.Config) -> str:
    """A one-line label for a run: data set, model, norm and seed."""
    return f"{config.dataset.name} {config.model.name} norm={config.norm.name} seed={config.seed}"


class Training:
    """The callbacks of one run: they keep, show and measure what happens in the loop.

    Args:
        config: of the run.
        writer: of the run's folder.
        display: what the person who waits sees.
        dataset: on the device of `model`.
        model: the network, its weights drawn.
        stop: what a signal to stop is asked of.
        generator: what dropout draws from.
    """

    def __init__(
        self,
        config: c.Config,
        writer: RunWriter,
        display: RunProgress,
        dataset: Dataset,
        model: nn.Module,
        stop: StopSignals,
        generator: torch.Generator = torch.default_generator,
    ) -> None:
        self._config, self._writer, self._display = config, writer, display
        self._generator = generator
        self._dataset, self._model, self._stop = dataset, model, stop
        self.optimizer = optim.build(config.optimizer, model.parameters())
        self.optimizer.restrict(
            trained(model, config.train.parameters, config.seed),
            decayed(model, config.train.decayed),
        )
        self._probed = dataset.train.images[: config.probe.size]
        layers = probed_layers(config, model)
        self._probe = Probe(model, self._probed, layers, moments=config.probe.moments)
        self._tensorboard: TensorBoardLogger | None = None
        self._make_step: Callable[[Step], Tensor] = EagerStep(model, self.optimizer, dataset.train)
        self._inference = model

    def compile(self) -> bool:
        """Compile the training step, where that is asked for or worth it; whether it is.

        Inference as well, of networks of convolutions: of others little but products would be left.

        Raises:
            ConfigError: it is asked for, and cannot be done.
        """
        if not self._config.compiled:
            return False
        train, inference, say = self._dataset.train, self._inference, self._display.say
        example = first_step(self._config, train.labels)
        self._model.train()
        try:
            step = CompiledStep(self._model, self.optimizer, train, example, say)
            if has_maps(self._model):
                few = train.images[:EVALUATION_BATCH_OF_MAPS]
                inference = CompiledInference(self._model, few, say)
        except CompileError as error:
            if self._config.train.compile:
                raise ConfigError(f"cannot compile (train.compile=true): {error}") from error
            self._display.say(f"warning: training uncompiled, which is slower: {error}")
            return False
        self._make_step, self._inference = step, inference
        return True

    def train(self) -> dict[str, Any]:
        """Train to the end, or until the loss is not finite; either is a result."""
        state = self.begin()
        diverged: int | None = None
        schedule = optim.schedule(self._config)
        try:
            with self._stop.deferred():
                train(
                    self._make_step, self._inference, schedule, self._dataset, self._config, self,
                    state,
                )  # fmt: skip
        except DivergedError as error:
            diverged = error.step
        return self.finish(state, diverged)

    def begin(self, limit: int | None = None) -> LoopState:
        """Take up the run where it stands; of its checkpoints, one at `limit` or before if it can.

        Raises:
            CheckpointError: none of those it has can be used.
        """
        state = self._resume(limit) if self._writer.resuming else LoopState()
        if self._config.tensorboard:
            self._show(lambda _: self._track(state.step))
        return state

    def steps(self, state: LoopState) -> Iterator[Step]:
        """What `train` goes over, for whoever makes the steps in its place."""
        schedule = optim.schedule(self._config)
        return steps(self._inference, schedule, self._dataset, self._config, self, state)

    def _show(self, act: Callable[[Any], object]) -> None:
        """Have something done to the logger, a view: if it fails, it is closed and said so."""
        try:
            act(self._tensorboard)
        except RunInUseError:
            raise
        except Exception as error:
            logger, self._tensorboard = self._tensorboard, None
            if logger:
                with suppress(Exception):
                    logger.close()
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            self._display.say(
                f"warning: TensorBoard gets nothing more, training continues: {reason}"
            )

    def _track(self, step: int) -> None:
        """Open TensorBoard's file, for what comes after `step`."""
        stored = StoredRun(self._writer.folder)
        first = stored.probe(0) if 0 in stored.probe_steps() else None
        new = step + 1 if step else 0
        config = c.flat(c.to_dict(self._config))
        folder = self._writer.folder
        self._tensorboard = TensorBoardLogger(folder, config, new, first, self._writer.owned)

    def _resume(self, limit: int | None) -> LoopState:
        """Resume from the newest checkpoint that is whole; without any, restart.

        Raises:
            CheckpointError: there are some, and none can be used.
        """
        stored = StoredRun(self._writer.folder)
        if not stored.checkpoint_steps():
            self._writer.truncate_to(0, 0, 0.0)
            return LoopState()
        for step, content in stored.whole_checkpoints(self._display.say, limit):
            state, metrics = self._restore(step, content)
            try:
                self._writer.truncate_to(step, *metrics)
            except CheckpointError as error:  # an earlier one may build on lines that are whole
                self._display.say(f"warning: {error}")
                continue
            self._display.resume(step)
            return state
        raise CheckpointError(
            f"no checkpoint can be used ({stored.folder}): run.overwrite=true restarts it"
        )

    def _restore(
        self, step: int, content: bytes
    ) -> tuple[LoopState, tuple[int, float, str | None]]:
        """Put everything back to where a checkpoint was made.

        Returns:
            Where the run stands; bytes of the metrics, seconds, and SHA-256 of the metrics then.

        Raises:
            CheckpointError: it holds something else than tensors and numbers, or another network.
        """
        try:
            state = _unpacked(content)
            if state["step"] != step:
                raise ValueError("another step")
            self._model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self._probe.restore(state["probe"])
            self._generator.set_state(state["rng"])
            if torch.cuda.is_available():
                torch.cuda.set_rng_state_all(state["cuda_rng"])
            device = self._dataset.train.labels.device
            losses = [loss.to(device, torch.float32).reshape(()) for loss in state["losses"]]
            length, seconds = state["metrics_bytes"], state["seconds"]
            digest = state["metrics_sha256"]
            if type(length) is not int or length < 0:
                raise ValueError("metrics_bytes is no length")
            if type(seconds) is not float or not 0 <= seconds < math.inf:
                raise ValueError("seconds is no duration")
            return LoopState(step, losses), (length, seconds, digest)
        except Exception as error:  # what is not ours raises errors of any kind
            raise CheckpointError(
                f"not one of ours: {c.first_line(error)} ({self._writer.folder}): "
                "run.overwrite=true restarts it"
            ) from error

    def stopping(self) -> bool:
        """Whether a signal asked to stop."""
        return self._stop.received is not None

    def record(self, step: int, values: dict[str, float]) -> None:
        """A line of metrics, for the file, for TensorBoard and for the person."""
        if self._config.train.eval_population:
            evaluated = (name for name in SPLITS if f"{name}_accuracy" in values)
            values |= self._population_accuracies(*evaluated)
        self._writer.record(step, values | {"seconds": round(self._writer.seconds, 3)})
        if self._tensorboard:
            self._show(lambda logger: logger.record(step, values))
        self._display.update(step, values)

    def probe(self, step: int) -> None:
        """Measure the activations."""
        arrays = self._probe.measure()
        if self._config.probe.jacobian:
            arrays |= singular_values(self._model, self._probed)
            arrays |= correlations(self._model, self._probed)
        labels = self._dataset.train.labels[: len(self._probed)]
        if self._config.probe.gradient_shift:
            last = self._config.train.steps - 1
            lr = optim.schedule(self._config)(min(step, last))
            arrays |= gradient_shifts(self._model, self._probed, labels, lr)
        if self._config.probe.landscape:
            arrays |= landscape(self._model, self._probed, labels)
        self._writer.probe(step, arrays)
        if self._tensorboard:
            self._show(lambda logger: logger.probe(step, arrays))

    def checkpoint(self, state: LoopState) -> None:
        """Keep all that the next step depends on; then stop, where a signal asked for it."""
        if self._tensorboard:
            self._show(lambda logger: logger.flush())
        self._keep(state)
        if self._stop.received is not None:
            raise Interrupted(self._stop.received)

    def _keep(self, state: LoopState) -> None:
        """Write a checkpoint, unless the state is not finite.

        Then the last update ruined it and the next loss will tell; or only running statistics
        overflowed, which nothing can mend. Either way the last finite checkpoint is kept.
        """
        if not _finite((self._model.state_dict(), self.optimizer.state_dict())):
            self._display.say(f"warning: not finite after step {state.step}: no checkpoint made")
            return
        checkpoint = {
            "step": state.step,
            "losses": _own(state.losses),
            "model": _own(self._model.state_dict()),
            "optimizer": _own(self.optimizer.state_dict()),
            "probe": self._probe.state(),
            "rng": self._generator.get_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
            "metrics_bytes": self._writer.flush(),
            "metrics_sha256": self._writer.metrics_sha256,
            "seconds": self._writer.seconds,
        }
        content = io.BytesIO()
        torch.save(checkpoint, content)
        self._writer.checkpoint(state.step, content.getvalue())

    def finish(self, state: LoopState, diverged: int | None) -> dict[str, Any]:
        """Measure and write down what the run ended with; `diverged` is the step it did so at."""
        stored = StoredRun(self._writer.folder)
        rows = stored.metrics()
        accuracies = [row["test_accuracy"] for row in rows if "test_accuracy" in row]
        done = diverged is None
        train_accuracy, train_loss = self._train_score() if done else (None, None)
        if done:
            self._writer.predictions(self._predictions())
            if self._config.studies:  # some take minutes
                self._display.say(f"measuring {', '.join(self._config.studies)}")
        studied = measure(self._model, self._dataset, self._config) if done else None
        summary: dict[str, Any] = {
            "steps": state.step if done else diverged,
            "test_accuracy": rows[-1].get("test_accuracy") if done else None,
            "best_test_accuracy": max(accuracies, default=None),
            "validation_accuracy": rows[-1].get("validation_accuracy") if done else None,
            "population_test_accuracy": None,
            "train_loss": rows[-1].get("train_loss") if done else None,
            "train_accuracy": train_accuracy,
            "train_loss_inference": train_loss,
            "diverged_at": diverged,
            "studies": studied,
        }
        if done:
            summary |= self._population_accuracies("test")
        summary["wall_seconds"] = round(self._writer.seconds, 3)
        status = "done" if done else "diverged"
        with self._writer.finishing(status, summary["steps"], summary):
            if self._tensorboard:
                self._show(lambda logger: logger.finish(stored))
        return {"status": status, **summary}

    def _predictions(self) -> dict[str, np.ndarray]:
        """What `StoredRun.predictions` returns."""
        self._model.eval()
        arrays: dict[str, np.ndarray] = {"classes": np.array(self._dataset.classes)}
        every = ("validation", "test") if self._config.predictions else ("test",)
        for name in every:
            split: Split = getattr(self._dataset, name)
            predicted = probabilities(self._inference, split)
            arrays[f"{name}/predicted"] = predicted.argmax(1).cpu().numpy().astype(np.uint16)
            arrays[f"{name}/labels"] = split.labels.cpu().numpy().astype(np.uint16)
            if self._config.predictions:
                arrays[f"{name}/probabilities"] = predicted.cpu().numpy()
        return arrays

    def _train_score(self) -> tuple[float, float]:
        """Accuracy and mean loss on the whole training split, in inference mode."""
        self._model.eval()
        with torch.no_grad():
            return score(self._inference, self._dataset.train)

    def _population_accuracies(self, *splits: str) -> dict[str, float]:
        """Accuracies with the statistics of Algorithm 2, as `population_SPLIT_accuracy`.

        Nothing if it does not apply. The network is left as it was.
        """
        count, model = self._config.norm.population_batches, self._model
        inference, dataset = self._inference, self._dataset
        if not count or not splits:
            return {}
        training, before = model.training, [buffer.clone() for buffer in model.buffers()]
        try:
            population_statistics(model, self._population_batches(count))
            model.eval()
            with torch.no_grad():
                return {
                    f"population_{name}_accuracy": score(inference, getattr(dataset, name))[0]
                    for name in splits
                }
        finally:
            for buffer, kept in zip(model.buffers(), before, strict=True):
                buffer.copy_(kept)
            model.train(training)

    def _population_batches(self, count: int) -> list[Tensor]:
        """Whole training batches of an order that no epoch had."""
        images, size = self._dataset.train.images, self._config.train.batch_size
        rows = data.unseen_batches(self._config.seed, len(images), size, count)
        return [images[row] for row in rows]

    def close(self) -> None:
        """Close what is open, however the run ended."""
        if self._tensorboard:
            self._show(lambda logger: logger.close())
