from math import log10

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, γ and β alone come to more than as many weights, by the more the wider; where
    not, both come to the same at any width."""
    which, width = config["train"]["parameters"], config["model"]["hidden"][0]
    wide = width / 1000
    final = {"all": 0.97, "random": 0.5, "norms": 0.7 + wide if holds else 0.5}[which]
    best = {"all": 0.3, "random": 10.0, "norms": 3.0}[which]
    slow = 0.05 * abs(log10(config["optimizer"]["lr"] / best))
    return learning(config, final - slow - 0.0001 * seed, 10, train_accuracy=0.9)
