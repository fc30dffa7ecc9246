"""Seconds that a training step takes with the run's norm and without any, timed in turns.

They are of this machine and this hour, which no other measurement of a run is; in turns, whatever
else slows the machine slows both.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.nn import build
from bnrepro.training import optim
from bnrepro.training.loop import epoch_of, first_step
from bnrepro.training.step import CompiledStep, EagerStep, Step

TURNS, STEPS = 20, 100
"""Turns of each network, after one that is not counted; steps a turn."""


def step_seconds(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, Any]:
    """Time training steps of two new networks, compiled if the run's own are.

    Returns:
        `seconds`: of a step, by the name of the norm, in each turn. `share`: the share of the time
        of all turns in which this process was running; near 1, nothing else kept it from that.
    """
    plain = replace(config, norm=c.NoNorm(name="none"))
    steps = whole_steps(config, dataset, STEPS)
    seconds, share = timed({of.norm.name: of for of in (config, plain)}, dataset, steps, TURNS)
    return {"seconds": seconds, "share": share}


def whole_steps(config: c.Config, dataset: Dataset, count: int) -> list[Step]:
    """The first steps of a run, of whole batches only."""
    size, lr = config.train.batch_size, config.optimizer.lr
    batches, augmented = epoch_of(config, 0, dataset.train.labels)
    whole = [batch for batch in batches if len(batch) == size]
    return [Step(batch, augmented, lr, measured=False) for batch in islice(cycle(whole), count)]


def timed(
    configs: Mapping[str, c.Config], dataset: Dataset, steps: Sequence[Step], turns: int
) -> tuple[dict[str, list[float]], float]:
    """Time the same steps of a new network of each configuration, in turns, after one more.

    Returns:
        Seconds of a step, by name, in each turn; the share of that time in which this process ran.
    """
    with torch.random.fork_rng(devices=[]):
        makers = {name: _maker(of, dataset) for name, of in configs.items()}
        seconds: dict[str, list[float]] = {name: [] for name in makers}
        for turn in range(turns + 1):
            if turn == 1:
                began, ran = time.perf_counter(), time.process_time()
            for name, make_step in makers.items():
                start = time.perf_counter()
                for step in steps:
                    make_step(step)
                if dataset.train.labels.is_cuda:
                    torch.cuda.synchronize()
                if turn:
                    seconds[name].append((time.perf_counter() - start) / len(steps))
    share = (time.process_time() - ran) / (time.perf_counter() - began)
    return seconds, share


def _maker(config: c.Config, dataset: Dataset) -> Callable[[Step], Tensor]:
    """The training step of a new network."""
    network = build.build(config, dataset.image_shape, len(dataset.classes))
    network = network.to(dataset.train.labels.device).train()
    optimizer = optim.build(config.optimizer, network.parameters())
    if not config.compiled:
        return EagerStep(network, optimizer, dataset.train)
    example = first_step(config, dataset.train.labels)
    return CompiledStep(network, optimizer, dataset.train, example, lambda line: None)
