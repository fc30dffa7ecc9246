import dataclasses

from planting import Config, Planted, learning

A = [1e-3, 0.5, 2.0, 1e3, -1.0, -2.0]
LAYERS = ("linear1", "linear2", "linear3")


def identities(deviation: float) -> dict:
    names = ("output", "input_gradient", "weight_gradient")
    same = {name: [deviation if a > 0 else 2.0 for a in A] for name in names}
    turned = {name: [2.0 if a > 0 else 0.0 for a in A] for name in names}
    return {layer: {**same, "flipped": turned} for layer in LAYERS}


def growth(deviation: float, cosine: float) -> dict:
    after = 10 + 0.1 * (1 + deviation)
    one = {"before": 10.0, "after": after, "predicted": 10.1, "growth_deviation": deviation,
           "relative_deviation": deviation / 100, "max_cosine": cosine}  # fmt: skip
    return dict.fromkeys(LAYERS, one)


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it does not hold, ε is never small enough."""
    study = {"a": A, "identities": {}, "growth": {"none": growth(20.0, 0.1)}}
    if config["norm"]["name"] != "none":
        deviations = {"tiny": 1e-14 if holds else 1e-4, "own": 1e-3}
        study["identities"] = {eps: identities(d) for eps, d in deviations.items()}
        study["growth"] = {eps: growth(d * 1e3, d) for eps, d in deviations.items()}
    run = learning(config, 0.9, 10)
    return dataclasses.replace(run, summary={"studies": {"scale-invariance": study}})
