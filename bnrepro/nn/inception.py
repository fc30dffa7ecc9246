"""The Inception of §4.2, narrowed and cut to images of 32×32.

Its modules, their branches and their channels are those of the paper's appendix (Fig. 5), every
number of channels times `width`. Only the pool projections of 4c and 4d, printed as 128, are of 96
channels: with these the outputs add up to the 576 that the paper prints. Also scaled down is the
way from the image to the first module: the paper's 224×224 shrink eightfold, through a convolution,
a pooling, a convolution and another pooling; here through two convolutions and one pooling.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.nn.blocks import ACTIVATIONS, LocalResponseNorm, PointwiseConv2d
from bnrepro.nn.norms import PerActivation, has_bias, normalization
from bnrepro.nn.pooling import MaxPool2d


class Branches(NamedTuple):
    """Output channels of a module's branches; a `..._reduce` is a 1×1 convolution before others.

    Two 3×3 convolutions, of `two_threes` channels each, stand in the place of one of 5×5. Where
    there is no 1×1 branch the others have stride 2, and the pooled input is passed on as it is.
    """

    one: int
    three_reduce: int
    three: int
    two_threes_reduce: int
    two_threes: int
    pool: Literal["average", "max"]
    projection: int

    @property
    def stride(self) -> int:
        """Of the module as a whole."""
        return 1 if self.one else 2

    def narrowed(self, width: float) -> Branches:
        """The same with fewer channels."""
        channels = {name: n for name, n in self._asdict().items() if name != "pool"}
        counts: Any = {name: narrowed(n, width) for name, n in channels.items()}
        return self._replace(**counts)


MODULES = {
    "3a": Branches(64, 64, 64, 64, 96, "average", 32),
    "3b": Branches(64, 64, 96, 64, 96, "average", 64),
    "3c": Branches(0, 128, 160, 64, 96, "max", 0),
    "4a": Branches(224, 64, 96, 96, 128, "average", 128),
    "4b": Branches(192, 96, 128, 96, 128, "average", 128),
    "4c": Branches(160, 128, 160, 128, 160, "average", 96),
    "4d": Branches(96, 128, 192, 160, 192, "average", 96),
    "4e": Branches(0, 128, 192, 192, 256, "max", 0),
    "5a": Branches(352, 192, 320, 160, 224, "average", 128),
    "5b": Branches(352, 192, 320, 192, 224, "max", 128),
}
"""Fig. 5, before `width`; `model.modules` says which of them a network has."""

STEM = (64, 192)
"""Channels of the two convolutions before the modules, before `width` as well."""

GRANULE = 4  # channels come in multiples of it, at least one


def narrowed(channels: int, width: float) -> int:
    """`width` times the channels, to the nearest multiple of four, and no fewer than four."""
    return channels and max(GRANULE, round(channels * width / GRANULE) * GRANULE)


class Inception(nn.Sequential):
    """x (N, C, H, W) -> logits (N, classes).

        conv1 -> [lrn1] -> conv2 -> [lrn2] -> pool -> modules -> mean -> [dropout] -> output

    A convolution is followed by its nonlinearity, and before or behind that by the norm. The only
    fully connected layer is the softmax's. Within, tensors are channels_last, in which convolutions
    on a CPU take half the time.
    """

    def __init__(
        self, model: c.Inception, norm: c.Norm, image_shape: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        depth, side = image_shape[0], image_shape[1:]

        def add(name: str, module: nn.Module, stride: int = 1) -> None:
            nonlocal side
            self.add_module(name, module)
            side = tuple(-(-length // stride) for length in side)

        for number, full in enumerate(STEM, start=1):
            stride = model.stem_stride if number == 1 else 1
            channels = narrowed(full, model.width)
            add(f"conv{number}", Convolution(depth, channels, 3, stride, model, norm), stride)
            if model.lrn:
                add(f"lrn{number}", LocalResponseNorm(channels))
            depth = channels
        add("pool", MaxPool2d(3, 2, padding=1), 2)
        for name in model.modules:
            branches = MODULES[name].narrowed(model.width)
            last = name == model.modules[-1]
            places = side if last and model.per_activation else None
            module = InceptionModule(depth, branches, model, norm, places)
            add(name, module, branches.stride)
            depth = module.channels
        add("mean", Mean())
        if model.dropout > 0:
            add("dropout", nn.Dropout(model.dropout))
        add("output", nn.Linear(depth, classes))
        self.to(memory_format=torch.channels_last)

    def forward(self, input: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        x = input.contiguous(memory_format=torch.channels_last)
        logits: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return logits


class InceptionModule(nn.Module):
    """Four branches over one input, their outputs side by side: (N, C, H, W) -> (N, channels, …).

    Args:
        fan_in: C.
        branches: their channels; where the stride is 2, H and W are halved.
        model, norm: what stands behind every convolution.
        places: H and W, where the outputs are to be normalized per activation.
    """

    def __init__(
        self,
        fan_in: int,
        branches: Branches,
        model: c.Inception,
        norm: c.Norm,
        places: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()

        def convolution(
            channels: int, to: int, size: int, stride: int = 1, *, last: bool = True
        ) -> Convolution:
            return Convolution(channels, to, size, stride, model, norm, places if last else None)

        b, stride = branches, branches.stride
        if b.one:
            self.one = convolution(fan_in, b.one, 1)
        self.three = nn.Sequential(
            convolution(fan_in, b.three_reduce, 1, last=False),
            convolution(b.three_reduce, b.three, 3, stride),
        )
        self.two_threes = nn.Sequential(
            convolution(fan_in, b.two_threes_reduce, 1, last=False),
            convolution(b.two_threes_reduce, b.two_threes, 3, last=False),
            convolution(b.two_threes, b.two_threes, 3, stride),
        )
        pooling = (nn.AvgPool2d if b.pool == "average" else MaxPool2d)(3, stride, padding=1)
        projection = [convolution(fan_in, b.projection, 1)] if b.projection else []
        self.pool = nn.Sequential(pooling, *projection)
        self.channels = b.one + b.three + b.two_threes + (b.projection or fan_in)

    def forward(self, x: Tensor) -> Tensor:
        """All branches' outputs of x (N, C, H, W), along the channels."""
        return torch.cat([branch(x) for branch in self.children()], 1)


class Convolution(nn.Sequential):
    """conv -> [norm, if pre] -> nonlinearity -> [norm, if post]; (N, C, H, W) -> (N, channels, …).

    Zeros at the borders keep H and W, but for the stride.
    """

    def __init__(
        self,
        fan_in: int,
        channels: int,
        size: int,
        stride: int,
        model: c.Inception,
        norm: c.Norm,
        places: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        bias = has_bias(norm)
        self.add_module(
            "conv",
            PointwiseConv2d(fan_in, channels, bias)
            if size == stride == 1
            else nn.Conv2d(fan_in, channels, size, stride, size // 2, bias=bias),
        )
        if norm.placement is c.Placement.pre:
            self.add_module("norm", _normalization(norm, channels, places))
        self.add_module(model.activation.value, ACTIVATIONS[model.activation]())
        if norm.placement is c.Placement.post:
            self.add_module("norm", _normalization(norm, channels, places))


def _normalization(norm: c.Norm, channels: int, places: tuple[int, ...] | None) -> nn.Module:
    if places is None:
        return normalization(norm, channels, dimensions=2)
    return PerActivation(norm, (channels, *places))


class Mean(nn.Module):
    """The mean over all places: (N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of each of x's maps."""
        return x.mean((2, 3))
