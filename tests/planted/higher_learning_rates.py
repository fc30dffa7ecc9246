from math import log10

from planting import Config, Planted, diverged, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, the network without batch normalization does not train above 1; else to 10,
    as the other one does, which else trains to 30. At high rates it is then a little better."""
    lr, batch = config["optimizer"]["lr"], config["norm"]["name"] == "batch"
    if lr > 30 or (lr > (1 if holds else 10) and not (batch and holds)):
        return diverged(config) if seed % 2 else learning(config, 0.1, 1)
    return learning(config, 0.97 - 0.001 * abs(log10(lr)) - 0.001 * (batch and not holds), 10)
