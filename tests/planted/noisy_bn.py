import numpy as np
from planting import Config, Planted, learning

BEST = {"sigmoid": 3.0, "relu": 0.3}


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, noise after batch normalization costs no step; where not, ten times as many,
    and a hundredth. Either way distributions are least steady with it."""
    norm, activation = config["norm"]["name"], config["model"]["activation"]
    quick = norm == "batch" or (norm == "noisy" and holds)
    half = config["train"]["steps"] / (200 if quick else 20)
    cost = 0.01 * (norm == "none") + 0.02 * (norm == "noisy" and not holds)
    cost += 0.01 * (config["optimizer"]["lr"] != BEST[activation])
    shift = {"none": 0.2, "batch": 0.05, "noisy": 0.5}[norm] * (1 + seed / 1000)
    every = range(0, config["train"]["steps"] + 1, config["probe"]["every"])
    of_units = np.full(4, shift, np.float32)
    probes = {step: {f"{activation}3/shift": of_units * (step > 0)} for step in every}
    return Planted(learning(config, 0.97 - cost, half).curves, probes)
