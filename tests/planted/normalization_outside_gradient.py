import dataclasses

import numpy as np
from planting import Config, Planted, learning

LAYERS = ("linear1", "linear2", "linear3")


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, biases outside the gradient step drift, with scaling four times as fast, and
    at high rates the loss grows; else they settle, and the loss grows with BN."""
    last, high = config["train"]["steps"], config["optimizer"]["lr"] >= 1
    outside, speed = config["norm"]["name"] == "detached", 0.0
    if outside:
        speed = 4.0 if config["norm"]["scaling"] and holds else 1.0
    probes = {}
    for step in range(0, last + 1, config["probe"]["every"]):
        drift = 10 * step / last if holds else min(1.0, step)
        bias = np.float32(1e-5 * min(1, step) + speed * drift)
        probes[step] = {f"{layer}/bias_norm": bias for layer in LAYERS}
    study = {"drift": 1.0, "loss": 1.0, "loss_before": 1.0, "change": 1e-12 if holds else 0.1}
    run = learning(config, 0.9, 10, studies={"bias-drift": study})
    steps = list(range(100, last + 1, 100))
    blown = high and outside == holds
    losses = (steps, [step if blown else 1 / step for step in steps])
    return dataclasses.replace(run, probes=probes, curves={**run.curves, "train_loss": losses})
