from math import log10

import numpy as np
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, accuracy falls with the product, hardly with the rate, and weights grow with
    its root at the same product; where not, it falls with the rate, and weights stay."""
    lr, decay = config["optimizer"]["lr"], config["optimizer"]["weight_decay"]
    product = lr * decay
    slow, fast = 0.0005, 0.02
    by_product, by_lr = (fast, slow) if holds else (slow, fast)
    cost = by_product * log10(product / 0.0005) + by_lr * log10(lr / 0.01)
    length = np.float32(10 * (lr**0.5 if holds else 1.0) * product**-0.25)
    probe = {f"linear{n}/weight_norm": length for n in (1, 2, 3)}
    steps = config["train"]["steps"]
    run = learning(config, 0.98 - cost - 0.0001 * seed, 1)
    return Planted(run.curves, {0: probe, steps: probe})
