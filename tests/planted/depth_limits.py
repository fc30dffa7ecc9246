from dataclasses import replace

import numpy as np
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, squared gradients grow by 1.467 a layer with batch normalization, ranks
    collapse without it, and networks of more than 8 layers train without it alone. Where not, they
    grow by 1.2 and all is the same with it and without."""
    normalized, depth = config["norm"]["name"] == "batch", len(config["model"]["hidden"])
    if not config["studies"]:
        trains = not (holds and normalized and depth > 8)
        return learning(config, 0.95 if trains else 0.2, 1)
    times = (1.467 if holds else 1.2) + 0.0001 * seed
    gradient = np.append(times ** -np.arange(depth, dtype=float), 1.0).tolist()
    ranks = [30.0 if normalized or not holds else max(1.0, 30.0 * 0.7**n) for n in range(depth)]
    of = {"gradient": gradient, "rank": ranks}
    summary = {"studies": {"depth": {"images": 1000, "start": of, "end": of}}}
    return replace(learning(config, 0.2, 1), summary=summary)
