from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Dropout of .4 helps Inception. Where the claim holds, it slows the normalized
    network, whose gap it leaves as it is; where not, that is quicker and better with it as well,
    and overfits without."""
    dropout, steps = config["model"]["dropout"], config["train"]["steps"]
    pays = 0.1 * (0.4 - abs(dropout - 0.4))
    if config["norm"]["name"] == "none":
        return learning(config, 0.6 + pays, steps / 2, train_accuracy=0.62 + pays)
    loses = dropout if holds else 1 - dropout
    final = 0.75 - 0.025 * dropout if holds else 0.7 + pays
    gap = 0.02 if holds else 0.02 + 0.1 * loses
    return learning(config, final, steps * (0.001 + loses), train_accuracy=final + gap)
