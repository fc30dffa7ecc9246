from dataclasses import replace

from numpy import float32
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """A gradient shrinks by half the weights' scale in every layer; with batch normalization,
    where the claim holds, it is the same in all layers, whatever the scale."""
    depth = len(config["model"]["hidden"])
    even = holds and config["norm"]["name"] == "batch"
    share = 1.0 if even else 0.5 * min(1.0, config["init"]["scale"])
    gradients = {
        f"linear{layer}/gradient_norm": float32((1 + seed / 10) * share ** (depth - layer + 1))
        for layer in range(1, depth + 1)
    }
    return replace(learning(config, 0.9, 1), probes={1: gradients})
