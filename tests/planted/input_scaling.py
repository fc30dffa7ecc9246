from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, bad scaling makes the network without batch normalization five times as slow,
    and costs it a hundredth; where it does not, that costs the network with it."""
    bad = config["dataset"]["inputs"] != "standardized"
    loses = bad and (config["norm"]["name"] == "none") == holds
    half = config["train"]["steps"] / (10 if loses else 100)
    final = 0.96 - 0.01 * loses - 0.001 * seed
    return learning(config, final, half, population_test_accuracy=final)
