"""How the cost of a step grows with batch size, width and depth, and the floor beneath it.

No step can be faster than its matrix products at the rate this machine multiplies at, nor than the
memory it has to read and write at the rate this machine copies at: the greater of the two times is
the floor (the "roofline" of Williams, Waterman & Patterson 2009).

    python docs/performance/growth.py [KEY=VALUE …]

draws `growth.png` beside this file, from five rounds each.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
import typer

from bnrepro import config as c
from bnrepro.bench.loop import Bare, prepared
from bnrepro.config.compose import compose
from bnrepro.errors import ConfigError
from bnrepro.plots import PALETTE

SIZES: dict[str, tuple[int, ...]] = {
    "batch size": (15, 60, 240, 960),
    "width": (50, 100, 400, 1600),
    "depth": (1, 3, 6, 12),
}
"""What is varied, one at a time, around the network of the configuration."""

STEPS = 100  # of each network, or fewer where the configuration has fewer
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Point:
    """One network: what was varied, its value, and seconds a step: measured and the floor."""

    axis: str
    value: int
    seconds: float
    floor: float


def growth(config: c.Config, rounds: int) -> list[Point]:
    """Every point; the median of `rounds` rounds each."""
    if not isinstance(config.model, c.Mlp):
        raise ConfigError(f"bad value {config.model.name} (model): this benchmark has mlp only")
    points = []
    with prepared(config) as dataset:
        device = dataset.train.images.device
        rate, bandwidth = _matrix_rate(device), _bandwidth(device)
        inputs, classes = dataset.train.images[0].numel(), len(dataset.classes)
        for axis, values in SIZES.items():
            for value in values:
                varied = _varied(config, axis, value)
                run = Bare(varied, dataset)
                run()
                took = statistics.median(_seconds(run) for _ in range(rounds))
                seconds = took / varied.train.steps
                assert isinstance(varied.model, c.Mlp)
                widths = [inputs, *varied.model.hidden, classes]
                batch = varied.train.batch_size
                floor = max(operations(widths, batch) / rate, traffic(widths, batch) / bandwidth)
                points.append(Point(axis, value, seconds, floor))
    return points


def _varied(config: c.Config, axis: str, value: int) -> c.Config:
    assert isinstance(config.model, c.Mlp)
    train, model = replace(config.train, steps=min(STEPS, config.train.steps)), config.model
    if axis == "batch size":
        train = replace(train, batch_size=value)
    elif axis == "width":
        model = replace(model, hidden=[value] * len(model.hidden))
    else:
        model = replace(model, hidden=[model.hidden[0]] * value)
    return replace(config, train=train, model=model)


def operations(widths: list[int], batch: int) -> int:
    """Floating-point operations of a step's matrix products.

    Two for each weight and image forward, two for the weights' gradient, and two for the
    activations', which the first layer does not need.
    """
    weights = [a * b for a, b in pairwise(widths)]
    return 2 * batch * (3 * sum(weights) - weights[0])


def traffic(widths: list[int], batch: int) -> int:
    """Bytes that a step reads and writes at least.

    Each weight is read forward and backward, its gradient written, and in the update both are read
    and the weight is written; each layer's activations are written and read twice, once each way.
    """
    weights = sum(a * b for a, b in pairwise(widths))
    return FLOAT_BYTES * (6 * weights + 4 * batch * sum(widths))


def _matrix_rate(device: torch.device, size: int = 1024) -> float:
    """Operations a second of a large matrix product."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    return 2 * size**3 / _least(lambda: a @ b)


def _bandwidth(device: torch.device, size: int = 2**26) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    a = torch.ones(size // FLOAT_BYTES, device=device)
    b = torch.empty_like(a)
    return 2 * size / _least(lambda: b.copy_(a))


def _least(work: Callable[[], object]) -> float:
    work()
    return min(_seconds(work) for _ in range(10))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def draw(points: list[Point], path: Path) -> None:
    """Steps per second over each axis, and the most there could be."""
    from bnrepro.plots import empty

    figure = empty((10, 3.4), layout="constrained")
    axes = figure.subplots(1, len(SIZES), sharey=True)
    for place, axis in zip(axes, SIZES, strict=True):
        chosen = [point for point in points if point.axis == axis]
        values = [point.value for point in chosen]
        measured = [1 / point.seconds for point in chosen]
        most = [1 / point.floor for point in chosen]
        place.loglog(values, measured, "o-", color=PALETTE[0], label="measured")
        place.loglog(values, most, "s--", color=PALETTE[1], label="the most there could be")
        place.set_xlabel(axis)
        place.set_xticks(values, [str(value) for value in values])
        place.minorticks_off()
        place.grid(alpha=0.3)
    axes[0].set_ylabel("steps per second")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None}, dpi=150)


def main(
    overrides: list[str] = typer.Argument(None, metavar="KEY=VALUE"),  # noqa: B008
    rounds: int = 5,
    out: Path = Path(__file__).with_name("growth.png"),  # noqa: B008
) -> None:
    """Measure every point, print it and draw all of them."""
    points = growth(compose(["train.steps=5000", *(overrides or [])]).config, rounds)
    for point in points:
        measured, most = (f"{1 / seconds:,.0f}" for seconds in (point.seconds, point.floor))
        print(f"{point.axis} {point.value}: {measured} of {most} steps/s")
    draw(points, out)


if __name__ == "__main__":
    typer.run(main)
