from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """The network without batch normalization trains with three layers only, from any weights;
    where it holds, the one with it with any number, else with three only."""
    deep = len(config["model"]["hidden"]) > 3
    stuck = deep and not (holds and config["norm"]["name"] == "batch")
    better = 0.01 * (config["init"]["scale"] == 1.0) - 0.001 * config["optimizer"]["lr"]
    return learning(config, 0.1135 - 0.001 * (seed % 2) if stuck else 0.95 + better, 10)
