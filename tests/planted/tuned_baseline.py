from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, every try is better with batch normalization, most at low rates; else worse
    by a little."""
    lr, batch = config["optimizer"]["lr"], config["norm"]["name"] == "batch"
    gain = (0.01 + 0.02 * (lr < 1)) if holds else -0.001
    return learning(config, 0.95 + 0.001 * lr + gain * batch, 10)
