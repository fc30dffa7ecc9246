from dataclasses import replace

import numpy as np
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """The loss halves from probe to probe. Where it holds, gradients shift as much with batch
    normalization; where not, a quarter as much, and by a smaller angle."""
    depth = len(config["model"]["hidden"])
    less = config["norm"]["name"] == "batch" and not holds
    shift, cosine = (0.05, 0.99) if less else (0.2, 0.8)
    probes = {}
    for number, step in enumerate(range(0, config["train"]["steps"] + 1, config["probe"]["every"])):
        probes[step] = {"network/loss": np.float32(2.4 * 0.5 ** (number * (1 + seed / 1000)))}
        for layer in [*(f"linear{n}" for n in range(2, depth + 1)), "output"]:
            probes[step][f"{layer}/gradient_shift"] = np.float32(shift * 1.1**number)
            probes[step][f"{layer}/gradient_cosine"] = np.float32(cosine)
            probes[step][f"{layer}/gradient_distance"] = np.float32(3 * shift * 1.1**number)
    return replace(learning(config, 0.95, 1), probes=probes)
