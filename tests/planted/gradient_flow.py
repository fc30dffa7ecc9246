from dataclasses import replace

from numpy import float32
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, without batch normalization a gradient shrinks by the slope ¼ and the weights
    in every layer; else, and with it, it is the same in all layers."""
    depth, last = len(config["model"]["hidden"]), config["train"]["steps"]
    vanishing = holds and config["norm"]["name"] == "none"
    share = min(1.0, 2.5 * config["init"]["scale"]) if vanishing else 1.0
    gradients = {
        f"linear{layer}/gradient_norm": float32((1 + seed / 10) * share ** (depth - layer))
        for layer in range(1, depth + 1)
    }
    steps = range(config["probe"]["every"], last + 1, config["probe"]["every"])
    return replace(learning(config, 0.9, 1), probes=dict.fromkeys(steps, gradients))
