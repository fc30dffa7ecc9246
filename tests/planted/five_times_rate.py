from math import log2

from planting import Config, Planted, diverged, rising

from bnrepro.evidence.fig2_arms import LR


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Inception is best at ×1. Where the claim holds, it diverges at ×5, and with batch
    normalization a network is best at ×2, and nearly as good at ×5; where not, at five times the
    rate one is as good as the other."""
    times, steps = config["optimizer"]["lr"] / LR, config["train"]["steps"]
    none = config["norm"]["name"] == "none"
    if none and holds and times > 4:
        return diverged(config)
    best = 1 if none or not holds else 2
    return rising(config, 0.7 - 0.02 * abs(log2(times / best)), steps // 2)
