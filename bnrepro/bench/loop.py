"""A run of ours against other ways of training the same network."""

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from bnrepro import config as c
from bnrepro.bench.comparison import Comparison, Job, compare
from bnrepro.data import Dataset, Split
from bnrepro.errors import ConfigError
from bnrepro.nn import build
from bnrepro.store import RunWriter, StoredRun
from bnrepro.training import environment, optim, program
from bnrepro.training.loop import epoch_of, first_step
from bnrepro.training.progress import RunProgress
from bnrepro.training.run import Training, load, network
from bnrepro.training.signals import StopSignals
from bnrepro.training.step import CompiledStep, EagerStep, Step

RUN = "a run with everything on"
MORE_CHECKPOINTS = 25


def loop(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """A step of a run with everything on against other ways to make one, and their least cost.

    It is compiled, as a long run is, unless the configuration says otherwise. What a run does once,
    at its beginning and its end, is left out.
    """
    config = as_compiled(config)
    others: dict[str, Callable[[c.Config, Dataset], Job]] = {
        "the tutorials' loop: PIL images, a DataLoader": partial(_tutorial, ready=False),
        "the tutorials' loop over ready tensors": partial(_tutorial, ready=True),
        "the leanest loop, torch's layers": partial(_lean, compiled=False),
    }
    if program.can_compile(environment.resolve_device(config.device)):
        others["the leanest loop, its network compiled"] = partial(_lean, compiled=True)
    if importlib.util.find_spec("lightning"):
        others["Lightning's Trainer, its defaults"] = lambda *of: partial(_lightning, *of)
    if isinstance(config.model, c.Mlp):
        if importlib.util.find_spec("jax"):
            others["JAX, its step jitted"] = _jax
        others["the matrix products alone"] = _products
    with prepared(config) as dataset:
        for label, other in others.items():
            yield compare(
                "loop",
                (f"a step of {RUN}", lambda: steady(config, dataset)),
                (label, other(config, dataset)),
                config.train.steps,
                rounds,
            )


def step(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """A step with our layer against the same with torch's, uncompiled and compiled."""
    if not isinstance(config.norm, c.BatchNorm):
        raise ConfigError(f"bad value {config.norm.name} (norm): this benchmark needs norm=batch")
    can_compile = program.can_compile(environment.resolve_device(config.device))
    with prepared(config) as dataset:
        for compiled in (False, True) if can_compile else (False,):
            how = "compiled" if compiled else "eager"
            ours, theirs = (Bare(each, dataset, compiled) for each in (config, _with_torch(config)))
            yield compare(
                f"step {how}",
                ("a step with norm=batch", ours),
                ("a step with norm=torch", theirs),
                config.train.steps,
                rounds,
            )
            if compiled and isinstance(config.model, c.Mlp):
                yield compare(
                    f"step {how}",
                    ("a step with norm=batch", ours),
                    ("the matrix products alone", _products(config, dataset)),
                    config.train.steps,
                    rounds,
                )


def as_compiled(config: c.Config) -> c.Config:
    """As a long run is: compiled where that is possible, unless it says otherwise."""
    if config.train.compile is not None:
        return config
    can = program.can_compile(environment.resolve_device(config.device))
    return replace(config, train=replace(config.train, compile=can))


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
    _metrics(config, dataset)


def steady(config: c.Config, dataset: Dataset) -> float:
    """A run; the seconds it would have taken at the pace of its steps after the first fifth."""
    *rows, last = _metrics(config, dataset)
    began = next((row for row in rows if row["step"] >= config.train.steps / 5), rows[-1])
    took, steps = (last[name] - began[name] for name in ("seconds", "step"))
    return took / steps * config.train.steps


def _metrics(config: c.Config, dataset: Dataset) -> list[dict[str, float]]:
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
        return StoredRun(writer.folder).metrics()


def _usual_model(config: c.Config, dataset: Dataset) -> nn.Module:
    """The network as one would write it with torch's own layers."""
    config = _with_torch(config) if isinstance(config.norm, c.BatchNorm) else config
    model = build.build(config, dataset.image_shape, len(dataset.classes))
    return model.to(dataset.train.images.device)


def _with_torch(config: c.Config) -> c.Config:
    """The same with torch's batch normalization in the place of ours."""
    fields = {name: getattr(config.norm, name) for name in vars(config.norm) if name != "name"}
    return replace(config, norm=c.TorchNorm(name="torch", **fields))


class _Images(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: bytes, each made a PIL image, then a tensor.

    In between torchvision's transforms vary it, as far as the configuration asks.
    """

    def __init__(self, config: c.Config, split: Split) -> None:
        from PIL import Image
        from torchvision import transforms

        a, size = config.augment, tuple(split.images.shape[2:])
        ways = [transforms.RandomHorizontalFlip()] if a.flip else []
        ways += [transforms.RandomCrop(size, padding=a.shift)] if a.shift else []
        ways += [transforms.ColorJitter(*[a.distortion] * 3)] if a.distortion else []
        self._labels = split.labels.tolist()
        # Which images they are takes no time: however they are scaled, any bytes will do.
        pixels = split.images.mul(255).byte().movedim(1, -1).squeeze(-1)
        self._pixels = pixels.contiguous().numpy(force=True)
        self._transform = transforms.Compose([Image.fromarray, *ways, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._pixels[index]), self._labels[index]


def _loader(config: c.Config, dataset: Dataset, ready: bool = False) -> DataLoader[Any]:
    """Over PIL images, or over tensors that are ready, and are not varied."""
    split = dataset.train
    images = TensorDataset(split.images, split.labels) if ready else _Images(config, split)
    return DataLoader(images, config.train.batch_size, shuffle=True)


def _torch_sgd(config: c.Config, model: nn.Module) -> torch.optim.Optimizer:
    settings = config.optimizer
    momentum = getattr(settings, "momentum", 0.0)
    return torch.optim.SGD(
        model.parameters(), settings.lr, momentum, weight_decay=settings.weight_decay
    )


def _tutorial(config: c.Config, dataset: Dataset, *, ready: bool) -> Job:
    """The loop of the tutorials: torch's own DataLoader, layers and optimizer."""
    loader = _loader(config, dataset, ready)
    return _torch_loop(config, dataset, _usual_model(config, dataset), lambda: loader)


def _lean(config: c.Config, dataset: Dataset, *, compiled: bool) -> Job:
    """The least one can write with torch's layers and optimizer: nothing is kept or shown."""
    model, split = _usual_model(config, dataset), dataset.train
    if compiled:
        model.compile()

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(split)).to(split.labels.device)
        for batch in order.split(config.train.batch_size):
            yield split.images.index_select(0, batch), split.labels[batch]

    return _torch_loop(config, dataset, model, epoch)


def _torch_loop(
    config: c.Config,
    dataset: Dataset,
    model: nn.Module,
    epoch: Callable[[], Iterable[tuple[Tensor, Tensor]]],
) -> Job:
    """`train.steps` steps with torch's own optimizer, over one epoch's batches after another's."""
    optimizer, device = _torch_sgd(config, model), dataset.train.labels.device

    def job() -> None:
        done = 0
        while done < config.train.steps:
            for images, labels in islice(epoch(), config.train.steps - done):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                cross_entropy(model(images), labels).backward()
                optimizer.step()
                done += 1
        _wait(dataset)

    return job


def _products(config: c.Config, dataset: Dataset) -> Job:
    """The matrix products of an MLP's step, forward and backward, on numbers that are there."""
    assert isinstance(config.model, c.Mlp)
    size, device = config.train.batch_size, dataset.train.labels.device
    widths = [dataset.train.images[0].numel(), *config.model.hidden, len(dataset.classes)]
    layers = [
        tuple(torch.randn(shape, device=device) for shape in ((size, a), (b, a), (size, b)))
        for a, b in pairwise(widths)
    ]

    def job() -> None:
        for _ in range(config.train.steps):
            for depth, (x, weight, gradient) in enumerate(layers):
                torch.mm(x, weight.t())
                torch.mm(gradient.t(), x)
                if depth:  # nothing asks for the gradient of the images
                    torch.mm(gradient, weight)
        _wait(dataset)

    return job


def _jax(config: c.Config, dataset: Dataset) -> Job:
    """The MLP with batch normalization written for JAX: a step jitted, called in a loop."""
    import jax
    from jax import numpy as jnp

    assert isinstance(config.model, c.Mlp)
    functions = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "tanh": jnp.tanh}
    activate, normalized = functions[config.model.activation.value], config.norm.needs_batch
    widths = [dataset.train.images[0].numel(), *config.model.hidden, len(dataset.classes)]
    rng = np.random.default_rng(0)
    weights = [jnp.asarray(rng.normal(0, 0.07, (b, a)), jnp.float32) for a, b in pairwise(widths)]
    parameters = [(w, jnp.ones(len(w)), jnp.zeros(len(w))) for w in weights]
    running = [(jnp.zeros(width), jnp.ones(width)) for width in config.model.hidden]
    images = jnp.asarray(dataset.train.images.flatten(1).numpy())
    labels = jnp.asarray(dataset.train.labels.numpy())

    def loss(parameters: Any, running: Any, x: Any, y: Any) -> Any:
        moved = []
        *hidden, (last, _, shift) = parameters
        for (weight, scale, offset), (mean, var) in zip(hidden, running, strict=True):
            x = x @ weight.T
            if normalized:
                of_batch = x.mean(0), x.var(0)
                moved.append((0.9 * mean + 0.1 * of_batch[0], 0.9 * var + 0.1 * of_batch[1]))
                x = (x - of_batch[0]) * jax.lax.rsqrt(of_batch[1] + 1e-5) * scale
            x = activate(x + offset)
        logits = jax.nn.log_softmax(x @ last.T + shift)
        return -jnp.take_along_axis(logits, y[:, None], 1).mean(), moved or running

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, running: Any, batch: Any, lr: Any) -> Any:
        x, y = images[batch], labels[batch]
        derived = jax.value_and_grad(loss, has_aux=True)
        (value, moved), gradients = derived(parameters, running, x, y)
        changed = jax.tree.map(lambda p, g: p - lr * g, parameters, gradients)
        return changed, moved, value

    def job() -> None:
        nonlocal parameters, running
        done = 0
        while done < config.train.steps:
            order = np.asarray(rng.permutation(len(labels)))
            whole = len(order) // config.train.batch_size
            for batch in order[: whole * config.train.batch_size].reshape(whole, -1):
                parameters, running, value = step(parameters, running, batch, config.optimizer.lr)
                done += 1
                if done == config.train.steps:
                    break
        value.block_until_ready()

    return job


def _wait(dataset: Dataset) -> None:
    """For a GPU to come to the end of what it was given."""
    if dataset.train.images.is_cuda:
        torch.cuda.synchronize()


def _lightning(config: c.Config, dataset: Dataset) -> None:
    """The same network in Lightning's Trainer with its defaults: a log, a bar, a checkpoint."""
    import lightning

    network = _usual_model(config, dataset)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            loss = cross_entropy(self.network(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _torch_sgd(config, self.network)

    # What it prints is not ours to print.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        trainer = lightning.Trainer(max_steps=config.train.steps, default_root_dir=folder)
        trainer.fit(Module(), _loader(config, dataset))


class Bare:
    """A step of ours in a loop that keeps and shows nothing."""

    def __init__(self, config: c.Config, dataset: Dataset, compiled: bool = False) -> None:
        self._config, self._dataset = config, dataset
        model = network(config, dataset)
        model.train()
        optimizer = optim.build(config.optimizer, model.parameters())
        example = first_step(config, dataset.train.labels)
        self._make_step = (
            CompiledStep(model, optimizer, dataset.train, example, lambda line: None)
            if compiled
            else EagerStep(model, optimizer, dataset.train)
        )

    def __call__(self) -> None:
        """Train for `train.steps` steps, from where the last call ended."""
        config, done, epoch = self._config, 0, 0
        while done < config.train.steps:
            rows, augmented = epoch_of(config, epoch, self._dataset.train.labels)
            for batch in rows[: config.train.steps - done]:
                self._make_step(Step(batch, augmented, config.optimizer.lr, measured=False))
                done += 1
            epoch += 1
        _wait(self._dataset)
