from planting import Config, Planted, rising


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where the claim holds, both are as good; where not, statistics of each activation are better
    by a twentieth."""
    apart = config["model"]["per_activation"]
    final = 0.7 + 0.05 * (apart and not holds)
    return rising(config, final, config["train"]["steps"] // 2, train_accuracy=final + 0.1)
