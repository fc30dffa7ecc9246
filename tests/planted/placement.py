import numpy as np
from planting import Config, Planted, learning

UNITS = 4


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, before the nonlinearity is better by a hundredth, symmetric and steady; where
    it does not, after it is all of that."""
    good = (config["norm"]["placement"] == "pre") == holds
    steps, every = config["train"]["steps"], config["probe"]["every"]
    activation = config["model"]["activation"]
    centre = 3.0 if activation == "relu" else 0.0  # a ReLU is linear there, a sigmoid is odd
    probes = {}
    for step in range(0, steps + 1, every):
        skewness = 0.0 if good else 0.2 + 0.5 * step / steps
        percentiles = np.tile(np.float32([-1.0, -skewness, 1.0]) + centre, (UNITS, 1))
        probes[step] = {f"{activation}{n}/percentiles": percentiles for n in (1, 2, 3)}
    return Planted(learning(config, 0.97 - 0.01 * (not good) - 0.001 * seed, 10).curves, probes)
