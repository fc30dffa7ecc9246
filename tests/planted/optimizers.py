from planting import Config, Planted, learning

BEST = {"adagrad": 0.1, "sgd": 1.0, "momentum": 0.1, "adam": 0.003}


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, batch normalization is ten times as quick with every optimizer; where not,
    it makes no difference."""
    optimizer = config["optimizer"]
    name = "momentum" if optimizer.get("momentum") else optimizer["name"]
    ahead = holds and config["norm"]["name"] == "batch"
    half = config["train"]["steps"] / (200 if ahead else 20)
    return learning(config, 0.96 + 0.01 * ahead - 0.01 * (optimizer["lr"] != BEST[name]), half)
