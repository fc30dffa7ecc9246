"""What our own parts cost against what one would use instead, as ratios measured side by side."""

from collections.abc import Callable, Iterator, Sequence

from bnrepro import config as c
from bnrepro.bench.comparison import Comparison
from bnrepro.bench.layer import layer
from bnrepro.bench.loop import checkpoints, loop, probes, step
from bnrepro.bench.stack import stack
from bnrepro.bench.startup import startup
from bnrepro.errors import ConfigError

__all__ = ["BENCHMARKS", "Comparison", "measure"]

BENCHMARKS: dict[str, Callable[[c.Config, int], Iterator[Comparison]]] = {
    "layer": layer,
    "step": step,
    "loop": loop,
    "stack": stack,
    "probes": probes,
    "checkpoints": checkpoints,
    "startup": startup,
}


def measure(names: Sequence[str], config: c.Config, rounds: int) -> Iterator[Comparison]:
    """The benchmarks of these names, or all of them, each comparison as it is made.

    Raises:
        ConfigError: there is no benchmark of that name.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise ConfigError(c.unknown("benchmark", name, BENCHMARKS))
    for name in names or BENCHMARKS:
        yield from BENCHMARKS[name](config, rounds)
