import dataclasses

import numpy as np
from planting import Config, Planted, learning

LAYERS = ("linear1", "linear2", "linear3")


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, biases outside the gradient step drift, with scaling four times as fast, and
    with ReLU the loss grows; else they settle."""
    last = config["train"]["steps"]
    lr = 0.0
    if config["norm"]["name"] == "detached":
        lr = 4.0 if config["norm"]["scaling"] else 1.0
    probes = {}
    for step in range(0, last + 1, config["probe"]["every"]):
        drift = 10 * step / last if holds else min(1.0, step)
        bias = np.float32(1e-5 * min(1, step) + lr * drift)
        probes[step] = {f"{layer}/bias_norm": bias for layer in LAYERS}
    run = learning(config, 0.9, 10)
    steps = list(range(100, last + 1, 100))
    blown = holds and lr == 1.0 and config["model"]["activation"] == "relu"
    losses = (steps, [step if blown else 1 / step for step in steps])
    return dataclasses.replace(run, probes=probes, curves={**run.curves, "train_loss": losses})
