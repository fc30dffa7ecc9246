from dataclasses import replace

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """A step takes half as long again with batch normalization. Where the claim holds the network
    needs a tenth of the steps with it, else as many."""
    ahead = holds and config["norm"]["name"] == "batch"
    half = config["train"]["steps"] / (1000 if ahead else 100)
    run = learning(config, 0.96 + 0.01 * ahead, half)
    if not config["studies"]:
        return run
    seconds = {"none": [0.001] * 19 + [0.5], "batch": [0.0015] * 19 + [0.5]}
    return replace(run, summary={"studies": {"step-seconds": {"seconds": seconds, "share": 0.99}}})
