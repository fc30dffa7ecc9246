from dataclasses import replace

import numpy as np
from planting import Config, Planted, learning

STEPS = np.array([0.003, 0.01, 0.03, 0.1, 0.3])


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """The loss halves from probe to probe. Where it holds, loss and gradient change a quarter as
    much with batch normalization, and the curvature is a quarter; where not, they are the same."""
    size = 0.25 if config["norm"]["name"] == "batch" and holds else 1.0
    probes = {}
    for number, step in enumerate(range(0, config["train"]["steps"] + 1, config["probe"]["every"])):
        probes[step] = {
            "network/loss": np.float32(2.4 * 0.5 ** (number * (1 + seed / 1000))),
            "landscape/gradient_change": np.float32(size * STEPS * 1.1**number),
            "landscape/loss_change": np.float32(-size * STEPS),
            "landscape/curvature": np.float32(-3 * size),
        }
    return replace(learning(config, 0.95, 1), probes=probes)
