from math import log10

from planting import Config, Planted, learning

BEST = {"none": {16: 0.03, 128: 0.1, 1024: 0.1}, "batch": {16: 0.03, 128: 0.3, 1024: 1.0}}


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, batch normalization gains in large batches at a larger rate and there alone;
    where not, it gains as much at the rate of the other arm, which is its own best, and in small
    batches too."""
    size, norm = config["train"]["batch_size"], config["norm"]["name"]
    best = BEST[norm if holds else "none"][size]
    away = abs(log10(config["optimizer"]["lr"] / best))
    gain = 0.02 * (norm == "batch" and not (holds and size == 16))
    steep = 0.02 if norm == "batch" and size != 16 else 0.05
    return learning(config, 0.93 + gain - steep * away - 0.0001 * seed, 1)
