import dataclasses

import numpy as np
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, singular values are 0.8 to 1.25 with batch normalization, and a tenth of that
    without; else they reach down to a hundredth in both."""
    lowest = 0.8 if holds else 0.01
    values = np.geomspace(1.25, lowest, 100, dtype=np.float32)
    if holds and config["norm"]["name"] == "none":
        values = values / 10
    rows = np.tile(values, (16, 1))
    probe = {f"linear{depth}/jacobian": rows for depth in (2, 3)}
    steps = range(0, config["train"]["steps"] + 1, config["probe"]["every"])
    return dataclasses.replace(learning(config, 0.9, 10), probes=dict.fromkeys(steps, probe))
