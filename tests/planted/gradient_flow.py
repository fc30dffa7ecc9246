from dataclasses import replace

from numpy import float32
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Without batch normalization a gradient shrinks by half the weights' scale in every layer;
    with it, where the claim holds, it is the same in all layers, else it shrinks as well."""
    depth, last = len(config["model"]["hidden"]), config["train"]["steps"]
    even = holds and config["norm"]["name"] == "batch"
    share = 1.0 if even else 0.5 * min(1.0, config["init"]["scale"])
    gradients = {
        f"linear{layer}/gradient_norm": float32((1 + seed / 10) * share ** (depth - layer))
        for layer in range(1, depth + 1)
    }
    steps = range(config["probe"]["every"], last + 1, config["probe"]["every"])
    return replace(learning(config, 0.9, 1), probes=dict.fromkeys(steps, gradients))
