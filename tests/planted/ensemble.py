import dataclasses
import zlib

import numpy as np
from planting import Config, Planted, diverged, learning

LABELS = {"validation": np.arange(500) % 10, "test": np.arange(1000) % 10}


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Every network errs on a fifth of the images, never sure of it: where it holds, each on
    others; where not, all on the same ones and alike. At scale smoke one network diverges."""
    network = arm.removeprefix("network=")
    if config["dataset"]["name"] == "digits" and network == "per activation":
        return diverged(config)
    draw = np.random.default_rng([seed, zlib.crc32(network.encode()) if holds else 0])
    predictions = {}
    for split, labels in LABELS.items():
        wrong = draw.random(len(labels)) < 0.2
        said = np.where(wrong, (labels + draw.integers(1, 10, len(labels))) % 10, labels)
        probabilities = np.full((len(labels), 10), 0.02, dtype=np.float32)
        probabilities[np.arange(len(labels)), labels] = 0.3
        probabilities[np.arange(len(labels)), said] = np.where(wrong, 0.54, 0.82)
        predictions |= {f"{split}/probabilities": probabilities, f"{split}/labels": labels}
    planted = learning(config, 1 - float(wrong.mean()), 10)  # the test images come last
    return dataclasses.replace(planted, predictions=predictions)
