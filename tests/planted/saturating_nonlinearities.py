from dataclasses import replace

import numpy as np
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """The network without batch normalization trains with three layers only; where it holds, the
    one with it with any number, else with three only."""
    depth = len(config["model"]["hidden"])
    stuck = depth > 3 and not (holds and config["norm"]["name"] == "batch")
    final = 0.1135 - 0.001 * (seed % 2) if stuck else 0.96 - 0.001 * config["optimizer"]["lr"]
    saturated = {f"sigmoid{layer}/saturated": np.full(100, 0.1) for layer in range(1, depth + 1)}
    last = config["train"]["steps"]
    return replace(learning(config, final, 10), probes={0: saturated, last: saturated})
