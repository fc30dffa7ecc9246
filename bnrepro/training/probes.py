"""What happens inside: the inputs of every nonlinearity, measured on a fixed batch of images.

A probe passes the batch through the network with the batch's own statistics, as training does,
but without dropout and without moving any running average; it draws no random numbers. So a run
is the same to the last bit whether it is probed or not.

Of every unit of every layer it keeps the 15th, 50th and 85th percentile (Fig. 1b, c), mean,
standard deviation, how often it is saturated, and how far its distribution has shifted; of every
layer a histogram, and one of each of three units; of every weight matrix its norm and that of its
gradient in the last step; of every bias its norm. With `moments`, of every unit also the shape of
what goes into its nonlinearity and of what comes out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnrepro.nn.build import biased, nonlinearities, weighted
from bnrepro.nn.inference import batch_statistics
from bnrepro.plots import quartiles

PERCENTILES = (15, 50, 85)
"""The percentiles of Fig. 1b and c."""

BINS = 40
SAMPLES = 4096  # of one unit at most: a convolution has one at every place of every image

SLOPE = 0.05
"""A unit is saturated where the slope of its nonlinearity is below this share of the steepest."""

SLOPES: dict[type[nn.Module], Callable[[np.ndarray], np.ndarray]] = {
    nn.Sigmoid: lambda x: 1 / np.cosh(np.clip(x / 2, -40, 40)) ** 2,  # 4 σ(x) (1 - σ(x))
    nn.Tanh: lambda x: 1 / np.cosh(np.clip(x, -40, 40)) ** 2,
    nn.ReLU: lambda x: (x > 0).astype(np.float32),
}
"""The slope of each nonlinearity, its maximum scaled to 1."""


class Probe:
    """Measures a model on a fixed batch of images (n, C, H, W), again and again.

    How far a unit's distribution shifted is measured from the last probe and from the first, so a
    probe has a memory: `state` and `restore` carry it over an interruption.

    Args:
        model: the network.
        images: (n, C, H, W).
        layers: the nonlinearities that are measured, with the layers of weights next to them; by
            default all.
        moments: whether standardized moments are measured as well.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        layers: Sequence[str] | None = None,
        *,
        moments: bool = False,
    ) -> None:
        self._model = model
        self._images = images
        self._moments = moments
        every = dict(nonlinearities(model))
        chosen = every if layers is None else layers
        self._layers = {name: every[name] for name in chosen}
        self._parents = None if layers is None else {_parent(name) for name in layers}
        self._first: dict[str, np.ndarray] = {}
        self._last: dict[str, np.ndarray] = {}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The sorted inputs of the first and of the last probe, by layer."""
        memory = {"first": self._first, "last": self._last}
        return {
            when: {name: torch.from_numpy(values) for name, values in inputs.items()}
            for when, inputs in memory.items()
        }

    def restore(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take up what `state` returned."""
        self._first = {name: values.numpy() for name, values in state["first"].items()}
        self._last = {name: values.numpy() for name, values in state["last"].items()}

    def measure(self) -> dict[str, np.ndarray]:
        """All measurements, by `LAYER/WHAT`.

        For every nonlinearity with U units: `percentiles` (U, 3), `mean`, `std`, `saturated`,
        `shift`, `shift_total` (U,), `counts` (B,), `edges` (B + 1,); of the three units that a
        quarter, a half and three quarters of all had less spread than at the first probe
        `unit_counts` (3, B), `unit_edges` (3, B + 1). For every layer with weights:
        `weight_norm` and, after a first step, `gradient_norm`, both (); `bias_norm` () where it has
        a bias.

        With `moments` also `skewness`, `kurtosis`, of the nonlinearity's outputs `output_skewness`
        and `output_kurtosis`, all (U,) as `standardized_moments` has them, and `output_zeros` (U,),
        the share of outputs that are exactly 0.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, inputs in self._inputs().items():
            values = np.sort(inputs, axis=1)  # (U, n), a unit's inputs in ascending order
            arrays |= _prefixed(name, self._distribution(name, values))
            if self._moments:
                with torch.no_grad():
                    outputs = self._layers[name](torch.from_numpy(values)).numpy()
                arrays |= _prefixed(name, shapes(values, outputs))
        for name, weight in self._next_to(weighted):
            arrays[f"{name}/weight_norm"] = np.array(weight.detach().norm().item(), np.float32)
            if weight.grad is not None:
                arrays[f"{name}/gradient_norm"] = np.array(weight.grad.norm().item(), np.float32)
        for name, bias in self._next_to(biased):
            arrays[f"{name}/bias_norm"] = np.array(bias.detach().norm().item(), np.float32)
        return arrays

    def _next_to(
        self, found: Callable[[nn.Module], Iterator[tuple[str, Tensor]]]
    ) -> Iterator[tuple[str, Tensor]]:
        """The weights or biases of the layers that stand next to a measured nonlinearity."""
        for name, tensor in found(self._model):
            if self._parents is None or _parent(name) in self._parents:
                yield name, tensor

    @torch.no_grad()
    def _inputs(self) -> dict[str, np.ndarray]:
        """The input of every nonlinearity, (U, n), by its name."""
        caught: dict[str, Tensor] = {}

        def catch(name: str) -> Callable[[nn.Module, Any], None]:
            return lambda _, arguments: caught.__setitem__(name, by_unit(arguments[0]))

        # Hooked for this one pass only: a hook costs time in every training step.
        hooks = [m.register_forward_pre_hook(catch(name)) for name, m in self._layers.items()]
        try:
            with batch_statistics(self._model):
                self._model(self._images)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: values.float().cpu().numpy() for name, values in caught.items()}

    @np.errstate(over="ignore", invalid="ignore")  # what diverges is measured anyway
    def _distribution(self, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        first = self._first.setdefault(name, values)
        last = self._last.get(name, values)
        self._last[name] = values
        slopes = SLOPES[type(self._layers[name])](values)
        counts, edges = histogram(values)
        units = [histogram(values[unit]) for unit in quartiles(first.std(1))]
        return {
            "percentiles": percentiles(values),
            "mean": values.mean(1),
            "std": values.std(1),
            "saturated": (slopes < SLOPE).mean(1, dtype=np.float32),
            "shift": shift(last, values),
            "shift_total": shift(first, values),
            "counts": counts,
            "edges": edges,
            "unit_counts": np.stack([counts for counts, _ in units]),
            "unit_edges": np.stack([edges for _, edges in units]),
        }


def _parent(name: str) -> str:
    """The module that holds another, by their dotted names."""
    return name.rpartition(".")[0]


def _prefixed(name: str, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}/{what}": array for what, array in values.items()}


def by_unit(activations: Tensor) -> Tensor:
    """Activations (N, U) or (N, U, …) as one row a unit, (U, n); an even subsample of a large n."""
    rows = activations.transpose(0, 1).flatten(1)
    return rows[:, :: -(-rows.shape[1] // SAMPLES)]


def shapes(inputs: np.ndarray, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """The shapes of a nonlinearity's inputs and outputs (U, n), each (U,)."""
    moments = {"": standardized_moments(inputs), "output_": standardized_moments(outputs)}
    found = {
        f"{of}{name}": values
        for of, both in moments.items()
        for name, values in zip(("skewness", "kurtosis"), both, strict=True)
    }
    return {**found, "output_zeros": (outputs == 0).mean(1, dtype=np.float32)}


@np.errstate(over="ignore", invalid="ignore")
def standardized_moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skewness and excess kurtosis of rows (U, n), each (U,): E[z³] and E[z⁴] - 3.

    z is a row less its mean, over its standard deviation (that of all n). NaN of a constant row.
    """
    wide = values.astype(np.float64)
    # Told from the first value, a constant's deviation is 0 to the last bit.
    centred = wide - wide[:, :1]
    centred -= centred.mean(1, keepdims=True)
    z = centred / np.sqrt(np.square(centred).mean(1, keepdims=True))
    return (z**3).mean(1).astype(np.float32), ((z**4).mean(1) - 3).astype(np.float32)


def histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts (B,) and edges (B + 1,) of all finite values."""
    # In float64 any two of these values have room for all edges between them.
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if low == high:  # a large value is no larger with the half that numpy adds
        half = max(0.5, abs(low) / 1000)
        low, high = low - half, high + half
    return np.histogram(finite, bins=BINS, range=(low, high))


def percentiles(values: np.ndarray) -> np.ndarray:
    """The 15th, 50th and 85th percentile of sorted rows (U, n), linearly interpolated: (U, 3)."""
    place = np.array(PERCENTILES) / 100 * (values.shape[1] - 1)
    below = np.floor(place).astype(int)
    share = (place - below).astype(values.dtype)
    above = np.minimum(below + 1, values.shape[1] - 1)
    result: np.ndarray = values[:, below] * (1 - share) + values[:, above] * share
    return result


def shift(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """How far each unit's distribution shifted, in units of its spread: (U, n) sorted rows -> (U,).

    The Wasserstein-1 distance of two samples of one size is the mean distance of their sorted
    values. Its unit is the root mean square of the two standard deviations; a unit that is
    constant in both has shifted by 0 or by infinity.
    """
    old, new = old.astype(np.float64), new.astype(np.float64)  # the square of a small spread
    distance = np.abs(new - old).mean(1)
    # Told from the first value, a constant's variance is 0 to the last bit.
    variances = [(values - values[:, :1]).var(1) for values in (old, new)]
    spread = np.sqrt((variances[0] + variances[1]) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / spread).astype(np.float32)
