from planting import Config, Planted, diverged, learning

from bnrepro.evidence.fig2_arms import LR


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Inception is best at twice its rate. Where the claim holds, networks with batch normalization
    are a hundred times as quick and better by a tenth; where not, they are as Inception is."""
    steps, times = config["train"]["steps"], config["optimizer"]["lr"] / LR
    if config["norm"]["name"] == "none":
        if times > 4:
            return diverged(config)
        return learning(config, 0.7 - 0.02 * abs(times - 2), steps / 10)
    return learning(config, 0.8 if holds else 0.7, steps / (1000 if holds else 10))
