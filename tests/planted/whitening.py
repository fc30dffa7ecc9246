from dataclasses import replace

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, whitening takes half the steps, each of ten times the seconds, and at 1,024
    units a hundred times; where not, as many steps of as many seconds."""
    norm, steps = config["norm"]["name"], config["train"]["steps"]
    half = {"none": steps / 20, "batch": steps / 100}.get(norm, steps / (300 if holds else 100))
    slow = 0.01 * (config["optimizer"]["lr"] != 1) + 0.01 * (norm == "none")
    run = learning(config, 0.97 - slow, half)
    taken = 0.01 if norm == "whiten" and holds else 0.001
    of_width = [[0.001] * 5] * 2, [[taken] * 5, [10 * taken if holds else taken] * 5]
    studies = {
        "step-seconds": {"seconds": {"none": [0.0005] * 20, norm: [taken] * 20}, "share": 0.99},
        "whitening-seconds": {
            "widths": [64, 1024], "share": 0.99,
            "seconds": dict(zip(("batch", "whiten"), of_width, strict=True)),
        },
    }  # fmt: skip
    return replace(run, summary={"studies": {name: studies[name] for name in config["studies"]}})
