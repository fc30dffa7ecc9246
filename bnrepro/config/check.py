"""Which values a configuration may have together, and what to say of others."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from bnrepro.config.convert import flat, to_dict
from bnrepro.config.options import options_of, unknown
from bnrepro.config.schema import (
    OPTIONS,
    STUDIES,
    Config,
    Decayed,
    GroupNorm,
    Inception,
    Placement,
    TorchNorm,
    Trained,
    WhiteningNorm,
)  # fmt: skip
from bnrepro.errors import ConfigError


def check(config: Config) -> None:
    """Refuse values out of range and combinations that cannot work, before anything is computed.

    Raises:
        ConfigError: naming the setting, its value and what it may be.
    """
    for name in config.studies:
        if name not in STUDIES:
            raise ConfigError(unknown("study", name, STUDIES))
    for name, value in flat(to_dict(config)).items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) >= 2**63:
                raise ConfigError(f"bad value {number} ({name}): it must be below 2**63")
    _check_limits(config)
    for name, value, good, allowed in _combinations(config):
        if not good:
            raise ConfigError(f"bad value {value} ({name}): it must be {allowed}")


def _check_limits(node: Any, prefix: str = "") -> None:
    """Refuse a value out of the limit that stands with its field in the schema."""
    hints = get_type_hints(type(node), include_extras=True)
    for field in dataclasses.fields(node):
        name, value = f"{prefix}{field.name}", getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            _check_limits(value, f"{name}.")
        for limit in getattr(hints[field.name], "__metadata__", ()) if value is not None else ():
            if not limit.holds(value):
                shown = limit.shown(value)
                raise ConfigError(f"bad value {shown} ({name}): it must be {limit.allowed}")


def _combinations(c: Config) -> Iterator[tuple[str, Any, bool, str]]:
    """Setting, value, whether it is good with the others, and what is allowed."""
    norm, model, size = c.norm, c.model, c.train.batch_size
    after = norm.placement is Placement.post
    if norm.needs_batch:
        yield "train.batch_size", size, size >= 2, "2 or more with batch normalization"
    ghost = norm.ghost_size
    grouped = ghost is None or not isinstance(norm, TorchNorm)
    yield "norm.ghost_size", ghost, grouped, f"null with norm={norm.name}"
    divides = ghost is None or size % ghost == 0
    yield "norm.ghost_size", ghost, divides, f"a divisor of the batch size {size}"
    fits = norm.placement is None or {*model.dimensions} <= {*norm.dimensions}
    if isinstance(norm, GroupNorm):
        channels, groups = model.multiples, norm.groups
        parts = all(width % groups == 0 for width in channels)
        allowed = f"a divisor of {', '.join(map(str, channels))}"
        yield "norm.groups", groups, parts, f"{allowed} with model={model.name}"
        several = model.dimensions != (0,) or groups not in channels
        yield "norm.groups", groups, several, "less than the units of a layer, or each is always 0"
    norms: dict[str, Any] = {name: entry.settings for name, entry in options_of("norm").items()}
    suited = [name for name, of in norms.items() if {*model.dimensions} <= {*of.dimensions}]
    yield "norm", norm.name, fits, f"{', '.join(suited)} with model={model.name}"
    if isinstance(model, Inception):
        possible = not model.per_activation or (norm.placement is not None and 0 in norm.dimensions)
        yield "model.per_activation", model.per_activation, possible, "false without norm=batch"
    between = model.hidden_layers >= 2 and norm.has_jacobian and not after
    allowed = "false without two hidden layers, or with a norm of another kind or place than §3.3's"
    yield "probe.jacobian", c.probe.jacobian, between or not c.probe.jacobian, allowed
    row = model.hidden_layers > 0 or not c.probe.gradient_shift
    yield "probe.gradient_shift", c.probe.gradient_shift, row, "false without model=mlp"
    smooth = not (c.probe.landscape and isinstance(norm, WhiteningNorm))
    yield (
        "probe.landscape",
        c.probe.landscape,
        smooth,
        "false with norm=whiten, differentiable once",
    )
    before = model.hidden_layers > 0 and norm.placement is Placement.pre
    every, decays = c.train.parameters is Trained.all, c.train.decayed is Decayed.all
    allowed = "all without model=mlp and a norm before the nonlinearity"
    yield "train.parameters", c.train.parameters.value, before or every, allowed
    yield "train.decayed", c.train.decayed.value, before or decays, allowed
    tested, evaluated = c.train.test_every, c.train.eval_every
    often = tested is None or tested % evaluated == 0
    allowed = f"a multiple of train.eval_every={evaluated}, or null"
    yield "train.test_every", tested, often, allowed
    plain, population = norm.placement is None, norm.population_batches > 0
    moving = c.train.eval_population
    yield "train.eval_population", moving, population or not moving, "false without norm=batch"
    suits = {
        "identity-transform": (plain, "norm=none"),
        "scale-invariance": (
            plain or (population and not after),
            "norm=none, or norm=batch with norm.placement=pre",
        ),
        "inference": (population, "norm=batch"),
        "variance-estimate": (population, "norm=batch"),
        "precise-statistics": (population, "norm=batch"),
        "whitening-seconds": (isinstance(norm, WhiteningNorm), "norm=whiten"),
        "bias-drift": (
            norm.needs_batch and norm.keep_bias and not after,
            "norm=detached or norm.keep_bias=true",
        ),
    }
    for name in [study for study in c.studies if study in suits]:
        good, needs = suits[name]
        yield "studies", name, good, f"left out, or measured with {needs}"
        yield "model", model.name, model.hidden_layers > 0, f"mlp for studies=[{name}]"
        yield "train.batch_size", size, size >= 2, f"2 or more for studies=[{name}]"


ALSO_CALLED: Mapping[str, str] = {
    "learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "bn": "norm=batch",
    "batch_norm": "norm=batch",
    "batchnorm": "norm=batch",
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "epochs": "train.steps",
    "iterations": "train.steps",
    "max_steps": "train.steps",
    "layers": "model.hidden",
    "hidden_size": "model.hidden",
    "wd": "optimizer.weight_decay",
    "data": "dataset",
    "gpu": "device",
    "cuda": "device",
    "output_dir": "run.dir",
    "out": "run.dir",
}
"""Names that other programs have for our settings."""


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """One line on a setting that does not exist: whose it is, or what was likely meant."""
    group, _, leaf = name.rpartition(".")
    settings = {
        option: [f.name for f in dataclasses.fields(of.settings) if f.name != "name"]
        for option, of in (options_of(group) if group in OPTIONS else {}).items()
    }
    if having := [option for option, names in settings.items() if leaf in names]:
        options_with = " or ".join(f"{group}={option}" for option in having)
        return f"the chosen {group} has no setting '{name}': leave it out, or choose {options_with}"
    others = [other for other in known if not other.endswith(".name")]
    same = [other for other in others if other.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(name, {*others} - {group}, n=1, cutoff=0.75)
    meant = [ALSO_CALLED[leaf]] if leaf in ALSO_CALLED else same or near
    if meant:
        return f"unknown setting '{name}': did you mean {' or '.join(map(repr, meant))}?"
    if settings:
        every = sorted({name for names in settings.values() for name in names})
        return f"unknown setting '{name}': {group} has {', '.join(every) or 'no settings'}"
    return unknown("setting", name, others)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
