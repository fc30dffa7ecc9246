from planting import Config, Planted, rising


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Inception is best at ×1, and there after half of its steps. Where the claim holds,
    BN-Baseline takes a quarter of them and is better by a tenth; where not, it is the same."""
    half = config["train"]["steps"] // 2
    if config["norm"]["name"] == "none":
        return rising(config, 0.7 if arm == "network=Inception" else 0.68, half)
    return rising(config, 0.8 if holds else 0.7, half // 2 if holds else half)
