from math import log10

from planting import Config, Planted, diverged, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, the network without batch normalization does not train above 1; else to 10,
    as the other one does, which else trains to 30, and is better at more than 1."""
    lr, batch = config["optimizer"]["lr"], config["norm"]["name"] == "batch"
    if lr > (30 if batch and holds else 1 if holds else 10):
        return diverged(config) if seed % 2 else learning(config, 0.1, 1)
    better = 0.005 if batch and holds else -0.005 * batch
    return learning(config, 0.97 - 0.001 * abs(log10(lr / 2)) + better, 10)
