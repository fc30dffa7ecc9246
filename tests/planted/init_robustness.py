from planting import Config, Planted, diverged, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Without batch normalization the network trains within half a decade of 0.1. With it, where
    the claim holds, from all but the largest weights; else as without it."""
    deviation, lr = config["init"]["scale"], config["optimizer"]["lr"]
    careless = holds and config["norm"]["name"] == "batch" and deviation < 5
    if not 0.02 < deviation < 0.5 and not careless:
        return diverged(config) if deviation > 0.5 and seed % 2 else learning(config, 0.11, 1)
    return learning(config, 0.97 - 0.001 * (lr not in (0.1, 0.3)) - 0.0001 * seed, 10)
