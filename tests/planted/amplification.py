from dataclasses import replace

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Without batch normalization a change doubles over every layer; with it, where the claim
    holds, it stays as it is, and else it is four times as large in every layer."""
    depth = len(config["model"]["hidden"])
    grows = 2.0 if config["norm"]["name"] == "none" else 1.0 if holds else 4.0
    changes = [0.001 * (1 + seed / 100) * grows**layer for layer in range(depth)]
    of = {"into": changes, "spread": changes, "out": changes, "gradient": changes[-1]}
    best = config["optimizer"]["lr"] == 0.1
    summary = {"studies": {"amplification": {"start": of, "end": of}}}
    return replace(learning(config, 0.95 if best else 0.92, 1), summary=summary)
