import dataclasses

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it does not hold, the transform is off by a thousandth, and a few classes change."""
    error, share = (1e-14, 0.0) if holds else (1e-3, 0.0004)
    layer = {"max_error": error, "max_error_without_eps": 1e-4}
    study = {
        "test_accuracy": 0.9,
        "layers": {"sigmoid1": layer, "sigmoid2": layer, "sigmoid3": layer},
        "inference": {"test_accuracy": 0.9, "max_logit_change": error,
                      "predictions_changed": share},
        "training": {"batch_size": 60, "test_accuracy": 0.8, "max_logit_change": 3.0,
                     "predictions_changed": 0.1},
    }  # fmt: skip
    run = learning(config, 0.9, 10)
    return dataclasses.replace(run, summary={"studies": {"identity-transform": study}})
