import math

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, the three kinds of statistics differ as they should; where not, Algorithm 2
    loses a hundredth to the batch, and depends on it as much."""
    size = config["train"]["batch_size"]
    company = 1 / math.sqrt(size)
    exact = 0.95 if holds else 0.93
    accuracies = {
        "algorithm2": exact,
        "moving_averages": exact - 0.02 / size,
        "batch_statistics": 0.94,
    }
    rounding = 1e-16 if seed else 0.0
    study = {
        "modes": {mode: {"test_accuracy": value} for mode, value in accuracies.items()},
        "probability_change": {"mean": 0.01 * company, "max": 0.1 * company},
        "determinism": {
            "algorithm2": rounding if holds else company,
            "moving_averages": rounding,
            "batch_statistics": company,
        },
        "by_batch_size": {
            "batch_sizes": [2, 8, 32, 128, 512],
            "test_accuracy": [0.8, 0.9, 0.94, 0.945, 0.949],
        },
    }
    return learning(config, exact, 10, train_accuracy=1.0, studies={"inference": study})
