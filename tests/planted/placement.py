import numpy as np
from planting import Config, Planted, learning

UNITS = 4


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, Wu + b is symmetric and steady, and normalizing either is as accurate; where
    it does not, what a layer takes is all of this, and better by a hundredth."""
    pre = config["norm"].get("placement") != "post"
    steps, every = config["train"]["steps"], config["probe"]["every"]
    activation = config["model"]["activation"]
    probes = {}
    for step in range(0, steps + 1, every):
        some = {True: 0.01 * seed * step / steps, False: 0.5 + 0.5 * step / steps}
        wu, u = some[holds], some[not holds]
        spread = 1.0 + 2.0 * (step / steps) * (pre != holds)
        low, middle, high = -spread, 0.0, spread
        shapes = {
            "skewness": -wu, "output_skewness": u, "kurtosis": 10 * wu, "output_kurtosis": 10 * u,
            "output_zeros": 0.5,
        }  # fmt: skip
        probes[step] = {
            f"{activation}{n}/{name}": values
            for n in (1, 2, 3)
            for name, values in {
                "percentiles": np.tile(np.float32([low, middle, high]), (UNITS, 1)),
                **{name: np.full(UNITS, value, np.float32) for name, value in shapes.items()},
            }.items()
        }
    better = 0.01 * (not holds and not pre)
    slow = 0.001 * (config["optimizer"]["lr"] != (0.3 if activation == "relu" else 1.0))
    return Planted(learning(config, 0.96 + better - slow - 0.001 * seed, 10).curves, probes)
