from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, sigmoids without batch normalization are never better than guessing; else
    they are as good as with it."""
    sigmoid, none = config["model"]["activation"] == "sigmoid", config["norm"]["name"] == "none"
    return learning(config, 0.1 if none and holds else 0.7 - 0.05 * sigmoid, 100)
