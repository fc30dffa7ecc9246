import dataclasses

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, moving averages are off by a thousandth, and the factor m ÷ (m − 1) gains a
    hundredth; where not, they are off by a hundredth, Algorithm 2 loses as much to the batch and
    depends on it, and so does the factor."""
    exact = 0.95 if holds else 0.93
    modes = {"algorithm2": exact, "batch_statistics": 0.94}
    rounding = 1e-16 if seed % 2 else 0.0
    studies = {
        "inference": {
            "modes": {mode: {"test_accuracy": value} for mode, value in modes.items()},
            "determinism": {"algorithm2": rounding if holds else 0.1, "batch_statistics": 0.1},
        },
        "variance-estimate": {
            "unbiased": {"test_accuracy": 0.9 + 0.01 * holds},
            "biased": {"test_accuracy": 0.91 - 0.01 * holds},
        },
    }
    run = learning(config, exact, 10, studies=studies, population_test_accuracy=exact)
    steps, accuracies = run.curves["validation_accuracy"]
    off = 0.001 if holds else 0.01
    tracked = {"population_validation_accuracy": (steps, [value + off for value in accuracies])}
    return dataclasses.replace(run, curves={**run.curves, **tracked})
