from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, batch normalization is ten times as quick, and better by a hundredth."""
    ahead = holds and config["norm"]["name"] == "batch"
    half = config["train"]["steps"] / (1000 if ahead else 100)
    return learning(config, 0.96 + 0.01 * ahead - 0.001 * (seed % 2), half)
