from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, batches that stay cost a hundredth with batch normalization; where not, a
    thousandth, as they do without it."""
    stay = config["train"]["shuffling"] == "batches"
    cost = 0.01 if holds and config["norm"]["name"] == "batch" else 0.001
    slow = 0.01 * (config["optimizer"]["lr"] != 0.2)
    return learning(config, 0.9 - cost * stay - slow, 10, train_accuracy=1.0)
