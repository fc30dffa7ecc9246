"""What short runs of every kind compute: `python tests/golden.py` writes golden.json anew.

Do that when the numbers of runs are meant to change, and raise `config.RESULTS_NUMBER` with it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_suffix(".json")

MLP = ("dataset=digits", "train.steps=12", "train.log_every=1", "train.eval_every=6",
       "model.hidden=[20,15]", "init=xavier", "optimizer.lr=0.3", "probe.every=6", "probe.size=50",
       "tensorboard=false", "device=cpu")  # fmt: skip
INCEPTION = ("experiment=cifar10-inception", "dataset=digits", "dataset.limit=300",
             "train.steps=6", "train.log_every=1", "train.eval_every=3", "model.width=0.0625",
             "train.compile=false", "tensorboard=false", "device=cpu", "probe.every=0",
             "model.modules=[3a,3b,3c,4a,4b,4c,4d,4e,5a,5b]", "model.stem_stride=2",
             # Larger steps make of the roundings of another processor another run.
             "optimizer.lr=0.0001")  # fmt: skip

KINDS: dict[str, tuple[str, ...]] = {
    "none": (*MLP, "norm=none", "studies=[identity-transform]"),
    "batch": (*MLP, "norm.population_batches=4"),
    "torch": (*MLP, "norm=torch", "norm.keep_bias=true"),
    "detached": (*MLP, "norm=detached"),
    "relu, he, batch after it": (*MLP, "model.activation=relu", "init=he", "norm.placement=post",
                                 "optimizer.lr=0.03"),
    "tanh, gaussian, dropout": (*MLP, "model.activation=tanh", "init=gaussian",
                                "init.scale=0.3", "model.dropout=0.2"),
    "momentum, weight decay, exponential": (*MLP, "optimizer.momentum=0.9", "norm.eps=0.01",
                                            "optimizer.weight_decay=0.01", "schedule=exponential"),
    "adam, linear": (*MLP, "optimizer=adam", "optimizer.lr=0.01", "schedule=linear",
                     "schedule.speed=2"),
    "studies, Jacobians, predictions": (
        *MLP, "studies=[scale-invariance,inference]", "probe.jacobian=true",
        "predictions=true", "model.activation=relu", "init=he"),
    "inputs, limit, batches": (*MLP, "dataset.inputs=standardized", "dataset.limit=500",
                               "train.shuffling=batches", "train.batch_size=50", "seed=4"),
    "noise, shifts of gradients, landscape": (
        *MLP, "norm=noisy", "probe.gradient_shift=true", "probe.landscape=true"),
    "groups, rectified": (*MLP, "norm=group", "model.hidden=[20,16]", "model.activation=relu",
                          "init=he", "studies=[depth]"),
    "tanh of learned width": (*MLP, "norm=dyt"),
    "largest deviations": (*MLP, "norm=linf"),
    "whitening": (*MLP, "norm=whiten", "train.batch_size=50"),
    "some weights, some decay": (
        *MLP, "norm=batch", "train.parameters=random", "train.decayed=normalized",
        "optimizer.weight_decay=0.1", "studies=[precise-statistics]"),
    "inception": (*INCEPTION, "norm.population_batches=3", "studies=[input-shift]"),
    "inception without": (*INCEPTION, "norm=none", "studies=[input-shift]"),
    "inception per activation": (*INCEPTION, "model.per_activation=true", "model.lrn=false"),
}  # fmt: skip
"""Overrides of a run of each kind."""

NOT_COMPUTED = ("seconds", "wall_seconds", "compile_seconds", "status")


def computed(folder: Path, words: tuple[str, ...]) -> dict[str, list[float]]:
    """The numbers of a run: losses and accuracies, its summary's, and a digest of each probe's."""
    from bnrepro import config as c
    from bnrepro.cli import main
    from bnrepro.store import StoredRun

    assert main(["train", *words, f"run.dir={folder}"]) == 0
    run = StoredRun(folder)
    found: dict[str, list[float]] = {}
    for row in run.metrics():
        for name, value in row.items():
            if name not in NOT_COMPUTED:
                found.setdefault(name, []).append(value)
    summary = run.summary()
    assert summary is not None
    for name, value in c.flat(summary).items():
        if name not in NOT_COMPUTED:
            found[f"summary {name}"] = numbers(value)
    for step in run.probe_steps():
        for name, values in run.probe(step).items():
            if np.issubdtype(values.dtype, np.floating):
                finite = values[np.isfinite(values)].astype(np.float64)
                mean = [float(np.abs(finite).mean())] if len(finite) else []
                found[f"probe {step} {name}"] = mean
    if words.count("predictions=true"):
        kept = run.predictions()["test/probabilities"].astype(np.float64)
        found["predictions"] = [float(np.square(kept).mean())]
    return found


def numbers(value: Any) -> list[float]:
    """The numbers within a value of the summary, in order."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for item in inner for number in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def unlike(ours: dict[str, list[float]], golden: dict[str, list[float]]) -> list[str]:
    """The names of numbers that differ by more than rounding, or an image or two of accuracy.

    A number that is new, for more is measured than before, changes no result.
    """

    def differ(name: str) -> bool:
        a, b = ours.get(name, []), golden.get(name, [])
        images = 2.5 / 300 if "accuracy" in name else 1e-4
        return len(a) != len(b) or not np.allclose(a, b, rtol=2e-3, atol=images)

    return [name for name in sorted(golden) if differ(name)]


if __name__ == "__main__":
    import os
    import tempfile

    os.environ["OMP_NUM_THREADS"] = "1"
    from bnrepro.config import RESULTS_NUMBER

    with tempfile.TemporaryDirectory() as place:
        kinds = {
            kind: computed(Path(place) / str(number), words)
            for number, (kind, words) in enumerate(KINDS.items())
        }
    rounded = {
        kind: {name: [float(f"{value:.7g}") for value in values] for name, values in each.items()}
        for kind, each in kinds.items()
    }
    lines = [f" {json.dumps(kind)}: {json.dumps(each)}" for kind, each in rounded.items()]
    text = ",\n".join(lines)
    FILE.write_text(f'{{"results": {RESULTS_NUMBER}, "kinds": {{\n{text}\n}}}}\n')
