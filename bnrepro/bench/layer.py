"""Our layer against torch's: forward and backward in training mode."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnrepro import config as c
from bnrepro.bench.comparison import Comparison, Job, compare
from bnrepro.nn import batchnorm
from bnrepro.training import environment, program

ELEMENTS_A_ROUND = 2**25  # a round is long enough to be timed and short enough to take turns


@dataclass(frozen=True)
class Case:
    """One input of the layer."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format

    def __str__(self) -> str:
        parts = ["×".join(map(str, self.shape)), str(self.dtype).removeprefix("torch.")]
        parts += ["channels_last"] if self.memory_format == torch.channels_last else []
        return " ".join(parts)

    def sample(self, device: torch.device) -> Tensor:
        """A batch of standard normal numbers."""
        x = torch.randn(self.shape, dtype=self.dtype, device=device)
        return x.contiguous(memory_format=self.memory_format)


SMALL = Case((60, 100))
"""What the network of Fig. 1 normalizes."""

LARGE = (
    Case((512, 1024)),
    *(
        Case(shape, dtype, memory_format)
        for shape in ((32, 64, 32, 32), (128, 128, 16, 16))
        for dtype in (torch.float32, torch.bfloat16)
        for memory_format in (torch.contiguous_format, torch.channels_last)
    ),
)


def layer(config: c.Config, rounds: int) -> Iterator[Comparison]:
    """Eager against eager, and compiled against compiled where there is a compiler."""
    device = environment.resolve_device(config.device)
    environment.make_deterministic(config.seed, config.threads)
    for case in (SMALL, *LARGE):
        yield _compared(case, device, rounds, "eager")
    if not program.can_compile(device):
        return
    for case in LARGE:
        torch.compiler.reset()  # a function is compiled for a handful of shapes only
        yield _compared(case, device, rounds, "compiled")


def _compared(case: Case, device: torch.device, rounds: int, how: str) -> Comparison:
    times = max(1, ELEMENTS_A_ROUND // max(math.prod(case.shape), 60_000))
    flat = len(case.shape) == 2
    ours = batchnorm.BatchNorm1d if flat else batchnorm.BatchNorm2d
    theirs = nn.BatchNorm1d if flat else nn.BatchNorm2d
    x, gradient = case.sample(device).requires_grad_(), case.sample(device)

    def job(kind: type[nn.Module]) -> Job:
        module = kind(case.shape[1]).to(device)
        if how == "compiled":
            module.compile()
        parameters = [x, *module.parameters()]

        def run() -> None:
            for _ in range(times):
                for parameter in parameters:
                    parameter.grad = None
                module(x).backward(gradient)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return run

    labels = f"our layer, {how}", f"torch's, {how}"
    pairs = zip(labels, (job(ours), job(theirs)), strict=True)
    mine, other = pairs
    return compare(f"layer {case} {how}", mine, other, times, rounds)
