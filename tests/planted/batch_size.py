import math

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, each doubling of the batch costs the normalized network a thousandth more
    than the other one; where not, a thousandth less."""
    size, batch = config["train"]["batch_size"], config["norm"]["name"] == "batch"
    cost = (0.001 if holds else -0.001) if batch else 0.0
    slow = 0.01 * (abs(math.log(config["optimizer"]["lr"] / 0.1 / math.sqrt(size / 32))) > 0.01)
    test = 0.95 - (0.0005 + cost) * math.log2(size / 32) - slow
    company = {"determinism": {"batch_statistics": 1 / math.sqrt(size)}}
    studies = dict.fromkeys(config["studies"], company)
    return learning(config, test, 10, train_accuracy=1.0, studies=studies)
