from planting import Config, Planted, diverged, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, only the network with batch normalization trains from the smallest and the
    largest weights; else neither does."""
    deviation, lr = config["init"]["scale"], config["optimizer"]["lr"]
    careless = holds and config["norm"]["name"] == "batch"
    if not 0.005 < deviation < 5 and not careless:
        return diverged(config) if deviation > 5 and seed % 2 else learning(config, 0.11, 1)
    return learning(config, 0.97 - 0.001 * (lr == 1) - 0.0001 * seed, 10)
