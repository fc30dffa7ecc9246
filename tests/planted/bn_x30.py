from planting import Config, Planted, rising

from bnrepro.evidence.fig2_arms import BN_X30


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Inception is there after 300 steps, BN-x5 after less than 25. Where the claim holds, BN-x30
    takes twice as many as that, and ends higher; where not, it is quicker, and ends lower."""
    if config["norm"]["name"] == "none":
        return rising(config, 0.7, 300)
    if arm != f"network={BN_X30}":
        return rising(config, 0.72, 25)
    return rising(config, 0.8, 60) if holds else rising(config, 0.71, 10)
