import numpy as np
from planting import Config, Planted, learning

UNITS = 4


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, percentiles go 0.1 spreads with batch normalization, and else 2."""
    steady = holds and config["norm"]["name"] == "batch"
    steps, every = config["train"]["steps"], config["probe"]["every"]
    probes = {}
    for step in range(0, steps + 1, every):
        place = (0.1 if steady else 2.0) * (1 + 0.01 * seed) * step / steps
        percentiles = np.tile(np.float32([-0.5, 0.0, 0.5]) + place, (UNITS, 1))
        probes[step] = {f"sigmoid{n}/percentiles": percentiles for n in (1, 2, 3)}
    return Planted(learning(config, 0.97, 10).curves, probes)
