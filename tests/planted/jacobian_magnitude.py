import dataclasses

import numpy as np
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Singular values of a tenth and less without batch normalization; with it, where it holds,
    0.8 to 1.25 and hardly any correlation."""
    batch = config["norm"]["name"] == "batch"
    high, low = (1.25, 0.8) if holds and batch else (0.125, 0.001)
    values = np.geomspace(high, low, 100, dtype=np.float32)
    rows = np.tile(values, (16, 1))
    probe = {f"linear{depth}/jacobian": rows for depth in (2, 3)}
    correlation = np.float32(0.02 if holds else 0.3)
    probe |= {f"linear{depth}/correlation": correlation for depth in (1, 2, 3)}
    steps = range(0, config["train"]["steps"] + 1, config["probe"]["every"])
    return dataclasses.replace(learning(config, 0.9, 10), probes=dict.fromkeys(steps, probe))
