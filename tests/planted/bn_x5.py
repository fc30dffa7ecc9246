from planting import Config, Planted, rising


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Inception is there after 200 steps. Where the claim holds, BN-x5 takes fewer than 50, and is
    better by a tenth; where not, it takes 250, to the same."""
    if config["norm"]["name"] == "none":
        return rising(config, 0.7, 200)
    if config["model"]["dropout"]:
        return rising(config, 0.72, 150)
    return rising(config, 0.8 if holds else 0.7, 50 if holds else 250)
