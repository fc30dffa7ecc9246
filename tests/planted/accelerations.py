from planting import Config, Planted, learning

from bnrepro.evidence.fig2_arms import LR


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """With batch normalization a network is ten times as quick. Where the claim holds, a higher
    learning rate and no dropout make it four times as quick each, and a little better; where not,
    they change nothing."""
    if config["norm"]["name"] == "none":
        return learning(config, 0.6, config["train"]["steps"] / 10)
    changes = (config["optimizer"]["lr"] > LR) + (config["model"]["dropout"] == 0)
    half = config["train"]["steps"] / 100 / (4**changes if holds else 1)
    return learning(config, 0.7 + 0.005 * holds * changes, half)
