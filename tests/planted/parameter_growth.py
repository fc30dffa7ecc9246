from dataclasses import replace
from math import log10

from numpy import float32
from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Weights grow with the rate, where it holds without batch normalization only, else with it
    four times as much; both networks are best at a rate of .1 to .5."""
    lr, none = config["optimizer"]["lr"], config["norm"]["name"] == "none"
    speed = lr * (1.0 if none else 0.0 if holds else 4.0)
    depth, last = len(config["model"]["hidden"]), config["train"]["steps"]
    probes = {
        step: {
            f"linear{layer}/weight_norm": float32(10 * (1 + speed * step / last))
            for layer in range(1, depth + 1)
        }
        for step in range(0, last + 1, config["probe"]["every"])
    }
    final = 0.96 - 0.01 * abs(log10(lr / 0.2)) - 0.0001 * seed
    return replace(learning(config, final, 10), probes=probes)
