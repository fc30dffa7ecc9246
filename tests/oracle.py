"""Batch normalization in float64 NumPy: a second opinion that shares no code with the package.

The forward pass (Algorithm 1) is cut into small stages and keeps every intermediate result; the
backward pass walks the stages in reverse and applies the chain rule to each. Nothing is simplified
across stages, so a slip in the package's closed formula for dx cannot be repeated here.

Arrays are (N, C) or (N, C, H, W); feature maps are handled as rows of N·H·W examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def to_rows(x: Array) -> Array:
    """(N, C, ...) as (m, C), one row for each example and location."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def from_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `to_rows`, for an array of `shape`."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


@dataclass
class Cache:
    """What the stages of `forward` produced; rows are (m, C), everything else (C,)."""

    shape: tuple[int, ...]
    mean: Array
    centred: Array  # rows
    var: Array
    std: Array
    inverse: Array
    normalised: Array  # rows
    gamma: Array


def forward(x: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Cache]:
    rows = to_rows(x.astype(np.float64))
    mean = np.sum(rows, axis=0) / len(rows)
    centred = rows - mean
    var = np.sum(centred * centred, axis=0) / len(rows)
    std = np.sqrt(var + eps)
    inverse = 1.0 / std
    normalised = centred * inverse
    y = gamma * normalised + beta
    cache = Cache(x.shape, mean, centred, var, std, inverse, normalised, gamma)
    return from_rows(y, x.shape), cache


def backward(dy: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """The gradients (dx, dgamma, dbeta), given that of y."""
    drows = to_rows(dy.astype(np.float64))
    m = len(drows)
    # y = gamma · normalised + beta
    dbeta = np.sum(drows, axis=0)
    dgamma = np.sum(drows * cache.normalised, axis=0)
    dnormalised = drows * cache.gamma
    # normalised = centred · inverse, the first of two ways from centred
    dcentred = dnormalised * cache.inverse
    dinverse = np.sum(dnormalised * cache.centred, axis=0)
    # inverse = 1 / std
    dstd = -dinverse / cache.std**2
    # std = √(var + eps)
    dvar = 0.5 * dstd / cache.std
    # var = Σ centred² / m, the second way
    dcentred = dcentred + 2.0 * cache.centred * dvar / m
    # centred = x - mean, the first of two ways from x
    dx = dcentred
    dmean = -np.sum(dcentred, axis=0)
    # mean = Σ x / m, the second way
    dx = dx + dmean / m
    return from_rows(dx, cache.shape), dgamma, dbeta


def running(old_mean: Array, old_var: Array, cache: Cache, momentum: float) -> tuple[Array, Array]:
    """The running statistics after one more batch; the batch's variance is made unbiased."""
    m = len(cache.centred)
    mean = (1.0 - momentum) * old_mean + momentum * cache.mean
    var = (1.0 - momentum) * old_var + momentum * cache.var * m / (m - 1)
    return mean, var


def inference(x: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """Algorithm 2, line 11, for given statistics."""
    rows = to_rows(x.astype(np.float64))
    return from_rows(gamma * (rows - mean) / np.sqrt(var + eps) + beta, x.shape)
