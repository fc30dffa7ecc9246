"""Which members of a sweep train together as one computation."""

import json
from collections.abc import Sequence
from typing import Any

from bnrepro import config as c
from bnrepro.store.sweep import Member

NUMBERS = (
    "optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "init.scale", "model.dropout",
)  # fmt: skip
"""Settings in which runs of one stack may differ: not the seed, which draws the images."""


def group(members: Sequence[Member], pending: Sequence[int], size: int) -> list[list[int]]:
    """Group pending members into stacks of at most `size`.

    The grouping depends on all members, not on which are pending, so a killed stack resumes with
    the same composition. A member that fits no other has a stack of its own.
    """
    place: dict[int, tuple[str, int]] = {}
    counts: dict[str, int] = {}
    for index, member in enumerate(members):
        shared = common(c.from_dict(member.config)) if size > 1 else None
        name = f"{index}" if shared is None else json.dumps(shared, sort_keys=True)
        place[index] = name, counts.get(name, 0) // size
        counts[name] = counts.get(name, 0) + 1
    stacks: dict[tuple[str, int], list[int]] = {}
    for index in pending:
        stacks.setdefault(place[index], []).append(index)
    return [sorted(stack) for stack in stacks.values()]


def describe(stacks: Sequence[Sequence[int]]) -> str:
    """How many members train together, in a line."""
    together = [len(indices) for indices in stacks if len(indices) > 1]
    alone = sum(len(indices) == 1 for indices in stacks)
    return f"{sum(together)} members in {len(together)} stacks, {alone} one by one"


def common(config: c.Config) -> dict[str, Any] | None:
    """The settings that all runs of one stack share with this one; None if it trains alone."""
    stackable = (
        config.model.stackable
        and config.norm.stackable
        and config.optimizer.stackable
        and not config.train.compile
        and config.train.parameters is c.Trained.all
        and config.train.decayed is c.Decayed.all
        # Batches of examples have one size, step by step.
        and config.train.shuffling is c.Shuffling.examples
    )
    if not stackable:
        return None
    free = (*NUMBERS, "tags")
    settings = c.flat(c.to_dict(config))
    shared = {k: v for k, v in settings.items() if k not in free and not k.startswith("run.")}
    return {**shared, "dropout": config.model.dropout > 0}
