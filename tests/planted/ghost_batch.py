from math import log2

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, each halving of the group is worth two thousandths; where not, it costs one.
    Every size has its best learning rate inside the grid."""
    whole = config["train"]["batch_size"]
    halvings = log2(whole / (config["norm"]["ghost_size"] or whole))
    slow = 0.01 * abs(log2(config["optimizer"]["lr"] / 0.8))
    test = 0.9 + (0.002 if holds else -0.001) * halvings - slow
    return learning(config, test, 10, train_accuracy=1.0)
