"""What is measured of the network a run ends with: identities, and the ways to infer.

Each study is a function of (model, dataset, configuration) that returns plain numbers for the run's
summary. It has a copy of the network, and no randomness but the run's seed; `step_seconds` alone
reads a clock.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.training.studies.amplification import amplification
from bnrepro.training.studies.bias_drift import bias_drift
from bnrepro.training.studies.depth import depth
from bnrepro.training.studies.identity_transform import identity_transform
from bnrepro.training.studies.inference import inference
from bnrepro.training.studies.input_shift import input_shift
from bnrepro.training.studies.precise_statistics import precise_statistics
from bnrepro.training.studies.scale_invariance import scale_invariance
from bnrepro.training.studies.step_seconds import step_seconds
from bnrepro.training.studies.variance_estimate import variance_estimate
from bnrepro.training.studies.whitening_seconds import whitening_seconds

__all__ = ["STUDIES", "measure"]

STUDIES: dict[str, Callable[[nn.Module, Dataset, c.Config], dict[str, Any]]] = {
    "identity-transform": identity_transform,
    "scale-invariance": scale_invariance,
    "inference": inference,
    "input-shift": input_shift,
    "amplification": amplification,
    "step-seconds": step_seconds,
    "bias-drift": bias_drift,
    "variance-estimate": variance_estimate,
    "whitening-seconds": whitening_seconds,
    "depth": depth,
    "precise-statistics": precise_statistics,
}
"""The closed table of studies, by the names a configuration asks for them."""

EXACT = (
    "identity-transform", "scale-invariance", "inference", "amplification", "bias-drift", "depth",
)  # fmt: skip
"""Studies in float64, so that rounding hides neither a failed identity nor a small change."""


def measure(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, dict[str, Any]]:
    """The studies a configuration asks for, by their names; `model` stays as it is."""
    results = {}
    for name in config.studies:
        network = copy.deepcopy(model).eval()
        results[name] = STUDIES[name](
            network.double() if name in EXACT else network, dataset, config
        )
    return results
