from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, a kind of inputs is the quicker the whiter it is, and bad scaling costs the
    network without batch normalization a hundredth; where it does not, all is the other way."""
    kinds = ["raw", "shifted", "standardized", "whitened"]
    white = kinds.index(config["dataset"]["inputs"])
    none = config["norm"]["name"] == "none"
    half = config["train"]["steps"] / (10 * 4 ** (white if holds else 3 - white))
    loses = white < 2 and none == holds
    worst = 0.001 * (
        config["optimizer"]["lr"] not in ((0.1, 0.3) if white < 2 and none else (1, 3))
    )
    final = 0.96 - 0.01 * loses - 0.0001 * seed - worst
    return learning(config, final, half, population_test_accuracy=final)
