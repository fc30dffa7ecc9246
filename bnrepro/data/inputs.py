"""Pixels scaled well and badly, to see how much a network minds (§2; LeCun et al. 1998, 4.3).

How pixels are scaled depends on the images that are trained on alone: their mean and standard
deviation, over all pixels of all of them.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bnrepro.errors import ConfigError

INPUTS = ("default", "standardized", "raw", "shifted", "uneven")
"""`default` is each data set's own scaling; the others are `rescaling`'s."""

SHIFT = 3.0  # standard deviations
SMALLEST, LARGEST = 0.03, 30.0  # the factors of `uneven`


def require_inputs(inputs: str) -> None:
    """ConfigError unless `load` knows inputs of that name."""
    if inputs not in INPUTS:
        raise ConfigError(
            f"unknown inputs {inputs!r} (dataset.inputs): choose one of {', '.join(INPUTS)}"
        )


def rescaling(
    inputs: str, mean: float, std: float, shape: tuple[int, ...]
) -> Callable[[Tensor], Tensor]:
    """How pixels of any type (N, C, H, W) become float32 of the same shape.

    inputs: `raw`: as stored; `standardized`: less the mean, over the standard deviation;
        `shifted`: standardized, plus 3; `uneven`: standardized, each of the C·H·W inputs times a
        fixed factor of its own
    mean, std: of all pixels that are trained on
    shape: (C, H, W)

    Raises ConfigError where there is no deviation to divide by.
    """
    if inputs == "raw":
        return lambda pixels: pixels.float()
    if std == 0:
        raise ConfigError(
            f"all training pixels are equal: no standard deviation to divide by "
            f"(dataset.inputs={inputs}): use dataset.inputs=raw"
        )
    if inputs == "standardized":
        return lambda pixels: pixels.float().sub_(mean).div_(std)
    if inputs == "shifted":
        return lambda pixels: pixels.float().sub_(mean).div_(std).add_(SHIFT)
    assert inputs == "uneven"
    each = factors(shape)
    return lambda pixels: pixels.float().sub_(mean).div_(std).mul_(each)


def factors(shape: tuple[int, ...]) -> Tensor:
    """What `uneven` multiplies each input by, float32 (C, H, W): log-uniform over [0.03, 30].

    The same ones in every run, whatever its seed.
    """
    # Raw bits, which NumPy promises for all its versions; 53 of them are a number in [0, 1).
    bits = np.random.PCG64(np.random.SeedSequence(0)).random_raw(int(np.prod(shape)))
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    each = SMALLEST * (LARGEST / SMALLEST) ** uniform
    return torch.from_numpy(each.astype(np.float32)).view(shape)
