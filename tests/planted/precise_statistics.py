from dataclasses import replace

from planting import Config, Planted, learning


def plant(arm: str, config: Config, seed: int, holds: bool) -> Planted:
    """Where it holds, moving averages are a hundredth behind, and a thousand images are enough;
    where not, they are on a par, and a thousand images cost a hundredth."""
    behind = 0.01 if holds else 0.0
    run = learning(config, 0.95 - behind - 0.0001 * seed, 10, population_test_accuracy=0.95)
    steps, values = run.curves["validation_accuracy"]
    exact = (steps, [value + behind for value in values])
    images = [120, 300, 1020, 3000, 10_020]
    validation = [0.9, 0.93, 0.95 if holds else 0.94, 0.95, 0.95]
    study = {"images": images, "validation": validation, "test": validation,
             "moving_averages": {"validation": 0.94, "test": 0.94}}  # fmt: skip
    curves = {**run.curves, "population_validation_accuracy": exact}
    summary = {**run.summary, "studies": {"precise-statistics": study}}
    return replace(run, curves=curves, summary=summary)
