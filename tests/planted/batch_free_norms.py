from math import log10

from planting import Config, Planted, learning

BEST = {2: 0.01, 8: 0.03, 32: 0.1, 512: 0.3}


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, batch normalization loses four hundredths in batches of 2 and gains one in
    those of 512; where not, it is no different from the others anywhere."""
    size, norm = config["train"]["batch_size"], config["norm"]["name"]
    gain = {2: -0.04, 512: 0.01}.get(size, 0.0) * (holds and norm == "batch")
    slow = 0.02 * abs(log10(config["optimizer"]["lr"] / BEST[size]))
    return learning(config, 0.95 + gain - slow - 0.0001 * seed, 1, train_accuracy=1.0)
