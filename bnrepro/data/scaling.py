"""Pixels scaled well and badly, to see how much a network minds (§2; LeCun et al. 1998, 4.3).

How pixels are scaled depends on the images that are trained on alone: their mean and standard
deviation, over all pixels of all of them.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnrepro.config import Inputs
from bnrepro.errors import ConfigError

SHIFT = 3.0  # standard deviations
SMALLEST, LARGEST = 0.03, 30.0  # the factors of `uneven`
RIDGE = 0.01  # of `whitened`, in mean variances


def rescaling(
    inputs: Inputs, mean: float, std: float, shape: tuple[int, ...]
) -> Callable[[Tensor], Tensor]:
    """How pixels of any type (N, C, H, W) become float32 of the same shape.

    inputs: `raw`: as stored; `standardized`: less the mean, over the standard deviation;
        `shifted`: standardized, plus 3; `uneven`: standardized, each of the C·H·W inputs times a
        fixed factor of its own
    mean, std: of all pixels that are trained on
    shape: (C, H, W)

    Raises ConfigError where there is no deviation to divide by.
    """
    if inputs is Inputs.raw:
        return lambda pixels: pixels.float()
    if std == 0:
        raise ConfigError(
            f"all training pixels are equal: no standard deviation to divide by "
            f"(dataset.inputs={inputs.value}): use dataset.inputs=raw"
        )
    if inputs is Inputs.standardized:
        return lambda pixels: pixels.float().sub_(mean).div_(std)
    if inputs is Inputs.shifted:
        return lambda pixels: pixels.float().sub_(mean).div_(std).add_(SHIFT)
    assert inputs is Inputs.uneven
    each = factors(shape)
    return lambda pixels: pixels.float().sub_(mean).div_(std).mul_(each)


def whitening(pixels: NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
    """How pixels of any type (N, C, H, W) become white: float32 of the same shape.

    x ↦ (x - E[x]) (Cov[x] + r·I)^(-1/2), with E and Cov of the pixels that are trained on (ZCA,
    Bell & Sejnowski 1997): every direction that varies has a variance of 1, and none is correlated
    with another. r is `RIDGE` times the mean variance of a pixel: of MNIST's pixels a tenth never
    vary, and what hardly varies is noise. Any rotation of it is as white, and the same to a network
    whose weights are drawn from a Gaussian.

    Args:
        pixels: uint8 (N, C, H, W), those that are trained on.
    """
    rows = pixels.reshape(len(pixels), -1)
    size = rows.shape[1]
    products = np.zeros((size, size))
    for start in range(0, len(rows), 5000):
        few = rows[start : start + 5000].astype(np.float64)
        products += few.T @ few  # of integers: exact, with any number of threads
    mean = rows.mean(0, dtype=np.float64)
    covariance = products / len(rows) - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(covariance)
    scale = 1 / np.sqrt(variances.clip(0) + RIDGE * covariance.trace() / size)
    white = torch.from_numpy(((directions * scale) @ directions.T).astype(np.float32))
    centre = torch.from_numpy(mean.astype(np.float32))
    return lambda pixels: ((pixels.float().flatten(1) - centre) @ white).view(pixels.shape)


def factors(shape: tuple[int, ...]) -> Tensor:
    """What `uneven` multiplies each input by, float32 (C, H, W): log-uniform over [0.03, 30].

    The same ones in every run, whatever its seed.
    """
    # Raw bits, which NumPy promises for all its versions; 53 of them are a number in [0, 1).
    bits = np.random.PCG64(np.random.SeedSequence(0)).random_raw(int(np.prod(shape)))
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    each = SMALLEST * (LARGEST / SMALLEST) ** uniform
    return torch.from_numpy(each.astype(np.float32)).view(shape)


def moments(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation, both (C,), of each channel of pixels (N, C, H, W).

    From the counts of the 256 values, whose sums are exact integers: nothing is lost in the
    difference below, and the result is the same with any number of threads.
    """
    counts = np.zeros((pixels.shape[1], 256), np.int64)
    for start in range(0, len(pixels), 500):  # counting widens: few enough to stay in the cache
        for channel, count in enumerate(counts):
            few = pixels[start : start + 500, channel]
            count += np.bincount(few.ravel(), minlength=256)
    values = np.arange(256)
    n = counts.sum(axis=1)
    mean = (counts @ values) / n
    return mean, np.sqrt((counts @ values**2) / n - mean**2)
