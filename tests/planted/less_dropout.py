from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Dropout helps the plain network. Where the claim holds, it harms the normalized one, which is
    better without it than the other at its best; where not, it helps that one twice as much."""
    dropout, batch = config["model"]["dropout"], config["norm"]["name"] == "batch"
    test = 0.93 + 0.08 * (1 + batch) * min(dropout, 0.6 - dropout)
    if batch and holds:
        test = 0.96 - 0.02 * dropout
    slow = 0.01 * (config["optimizer"]["lr"] != 0.1)
    return learning(config, test - slow, 10, train_accuracy=1.0 - 0.01 * dropout)
