"""What is measured of the network a run ends with: identities, and the ways to infer.

Each study is a function of (model, dataset, configuration) that returns plain numbers for the run's
summary. It has a copy of the network in float64, where what is no identity shows as more than
rounding, and no randomness but the run's seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from bnrepro import config as c
from bnrepro.data import Dataset
from bnrepro.studies.identity_transform import identity_transform
from bnrepro.studies.inference import inference
from bnrepro.studies.scale_invariance import scale_invariance

__all__ = ["STUDIES", "measure"]

STUDIES: dict[str, Callable[[nn.Module, Dataset, c.Config], dict[str, Any]]] = {
    "identity-transform": identity_transform,
    "scale-invariance": scale_invariance,
    "inference": inference,
}
"""The closed table of studies, by the names a configuration asks for them."""


def measure(model: nn.Module, dataset: Dataset, config: c.Config) -> dict[str, dict[str, Any]]:
    """The studies a configuration asks for, by their names; `model` stays as it is."""
    return {
        name: STUDIES[name](copy.deepcopy(model).double().eval(), dataset, config)
        for name in config.studies
    }
