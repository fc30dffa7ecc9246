import math

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, the three kinds of statistics differ as they should; where not, Algorithm 2
    loses a hundredth to the batch and to moving averages, and depends on it as much."""
    size = config["train"]["batch_size"]
    company = 1 / math.sqrt(size)
    exact = 0.95 if holds else 0.93
    accuracies = {
        "algorithm2": exact,
        "moving_averages": exact - 0.02 / size if holds else 0.94,
        "batch_statistics": 0.94,
    }
    rounding = 1e-16 if seed % 2 else 0.0
    study = {
        "modes": {mode: {"test_accuracy": value} for mode, value in accuracies.items()},
        "determinism": {
            "algorithm2": rounding if holds else company,
            "moving_averages": rounding,
            "batch_statistics": company,
        },
    }
    return learning(config, exact, 10, train_accuracy=1.0, studies={"inference": study})
