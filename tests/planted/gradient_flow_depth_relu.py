from dataclasses import replace

from numpy import float32
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """A gradient shrinks by half in every layer, of a trained network as of a new one; with batch
    normalization, where the claim holds, it is the same in all layers."""
    depth, every = len(config["model"]["hidden"]), config["probe"]["every"]
    share = 1.0 if holds and config["norm"]["name"] == "batch" else 0.5
    gradients = {
        f"linear{layer}/gradient_norm": float32((1 + seed / 10) * share ** (depth - layer))
        for layer in range(1, depth + 1)
    }
    steps = range(every, config["train"]["steps"] + 1, every)
    best = config["optimizer"]["lr"] == 0.1
    return replace(
        learning(config, 0.95 if best else 0.9, 1), probes=dict.fromkeys(steps, gradients)
    )
