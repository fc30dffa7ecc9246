from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, dropout helps the plain network and harms the normalized one, which is better
    without it than the other at its best; where not, it is the other way round."""
    dropout, batch = config["model"]["dropout"], config["norm"]["name"] == "batch"
    helped = 0.93 + 0.04 * min(dropout, 1 - dropout)
    test = helped if batch != holds else 0.96 - 0.02 * dropout
    slow = 0.01 * (config["optimizer"]["lr"] != 0.1)
    return learning(config, test - slow, 10, train_accuracy=1.0 - 0.01 * dropout)
