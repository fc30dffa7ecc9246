from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, γ and β that stay cost a hundredth; where not, nothing."""
    cost = 0.01 * (holds and not config["norm"]["affine"])
    slow = 0.01 * (config["optimizer"]["lr"] != 1)
    return learning(config, 0.97 - cost - slow, 10, train_accuracy=1.0)
