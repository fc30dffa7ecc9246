from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, dropout helps Inception, and slows the normalized network, whose gap it
    leaves as it is; where not, the normalized one is quicker with it, and overfits without."""
    dropout, steps = config["model"]["dropout"], config["train"]["steps"]
    if config["norm"]["name"] == "none":
        final = 0.6 + (0.1 if holds else -0.1) * dropout
        return learning(config, final, steps / 2, train_accuracy=final + 0.02)
    loses = dropout if holds else 1 - dropout
    final = 0.75 - 0.1 * loses
    gap = 0.02 if holds else 0.02 + 0.1 * loses
    return learning(config, final, steps * (0.1 + loses), train_accuracy=final + gap)
