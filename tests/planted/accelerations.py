from planting import Config, Planted, rising

from bnrepro.evidence.fig2_arms import LR


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """BN-Baseline is quicker than Inception. Where the claim holds, a higher learning rate and
    thorough shuffling make a network quicker still, and better; where not, they change nothing but
    that the network is slower."""
    if config["norm"]["name"] == "none":
        return rising(config, 0.6, 700)
    changes = (config["optimizer"]["lr"] > LR) + (config["train"]["shuffling"] == "examples")
    return rising(
        config, 0.7 + 0.02 * holds * changes, 200 // 4**changes if holds else 200 + 25 * changes
    )
