"""What a run is made of: the configuration's schema, its types and its limits.

Values live in YAML (`conf/`); here stands what they may be. Hydra composes the YAML, `parse`
turns the result into the dataclasses below and refuses what does not fit. Below this module a
configuration is always one of these dataclasses, never a `DictConfig`.

Each option of a group has a dataclass of its own, found by the option's `name` in a closed
table, so that no configuration can name code to run.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bnrepro import mirrors
from bnrepro.errors import ConfigError
from bnrepro.reading import is_unicode

if TYPE_CHECKING:
    from omegaconf import DictConfig

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given


class Placement(Enum):
    """Where the normalization stands: before the nonlinearity (§3.2) or after it."""

    pre = "pre"
    post = "post"


class Activation(Enum):
    """The nonlinearity between layers."""

    sigmoid = "sigmoid"
    relu = "relu"
    tanh = "tanh"


class Inputs(Enum):
    """How pixels are scaled: the data set's own way (`default`), or well or badly on purpose."""

    default = "default"
    standardized = "standardized"
    raw = "raw"
    shifted = "shifted"
    uneven = "uneven"


class Shuffling(Enum):
    """What is shuffled in every epoch: the examples, or batches that stay together throughout."""

    examples = "examples"
    batches = "batches"


class Device(Enum):
    """Where tensors live; `auto` is CUDA where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass
class Dataset:
    """Which images: `root` holds the files, `validation` images of training are held out.

    Of the others the first `limit`, in an order that is as good as random, are trained on.
    """

    name: str = MISSING
    root: str = MISSING
    validation: int = MISSING
    limit: int | None = None
    inputs: Inputs = Inputs.default


@dataclass
class Mnist(Dataset):
    """MNIST; `binary` turns grey pixels into 0 and 1, as the paper's input was (§4.1)."""

    binary: bool = MISSING
    mirror: str | None = None


@dataclass
class Cifar10(Dataset):
    """CIFAR-10, every channel standardized."""

    mirror: str | None = None


@dataclass
class Digits(Dataset):
    """scikit-learn's 8×8 digits: bundled, for a first try and for tests, never for a verdict."""


@dataclass
class Folder(Dataset):
    """Any train/CLASS/*.png, test/CLASS/*.png tree, or zips of one, below `root`.

    Without `validation`, a tenth of the training images is held out. `fingerprint` is that of the
    images, since `root` does not say which they are; without it, whatever lies there is taken.
    With `size`, the middle square of every image is resized to `size` pixels in height and width.
    """

    validation: int | None = None  # type: ignore[assignment]
    fingerprint: str | None = None
    size: int | None = None


@dataclass
class Norm:
    """What stands between a layer and its nonlinearity."""

    name: str = MISSING


@dataclass
class NoNorm(Norm):
    """No normalization: the paper's baseline."""


@dataclass
class BatchNorm(Norm):
    """Batch normalization: `momentum` in PyTorch's sense, new = (1-m)·old + m·batch.

    `population_batches` is the number of training batches whose statistics are averaged at the
    end of the run for inference as Algorithm 2 has it. `keep_bias` leaves the layer before its
    bias, which β makes useless.
    """

    eps: float = MISSING
    momentum: float | None = MISSING
    placement: Placement = MISSING
    population_batches: int = MISSING
    keep_bias: bool = False


@dataclass
class TorchNorm(BatchNorm):
    """`torch.nn.BatchNorm*`, for comparison."""


@dataclass
class DetachedNorm(Norm):
    """Normalization outside the gradient step (§2), before the nonlinearity, without γ and β.

    `scaling` divides by the deviation as well as taking the mean away. The bias of the layer before
    is what §2 is about: it stays.
    """

    placement: ClassVar[Placement] = Placement.pre
    keep_bias: ClassVar[bool] = True
    scaling: bool = MISSING
    eps: float = MISSING
    momentum: float | None = MISSING


@dataclass
class Model:
    """The network."""

    name: str = MISSING
    activation: Activation = MISSING
    dropout: float = MISSING


@dataclass
class Mlp(Model):
    """Fully connected layers, one width each in `hidden`."""

    hidden: list[int] = MISSING


@dataclass
class Inception(Model):
    """The Inception of §4.2: `width` times the paper's channels, for images of about 32×32.

    `stem_stride` is that of the first convolution, `lrn` puts local response normalization behind
    the first two. `per_activation` normalizes the last module's outputs activation by activation,
    not map by map (§4.2.3).
    """

    width: float = MISSING
    stem_stride: int = MISSING
    lrn: bool = MISSING
    per_activation: bool = MISSING


@dataclass
class Init:
    """Initial weights. `scale` is the standard deviation (gaussian) or a gain (xavier, he)."""

    name: str = MISSING
    scale: float = MISSING


@dataclass
class Optimizer:
    """How a gradient becomes a step."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING


@dataclass
class Sgd(Optimizer):
    """Stochastic gradient descent, plain unless `momentum` is above 0."""

    momentum: float = MISSING


@dataclass
class Adam(Optimizer):
    """Adam, with torch's defaults for what is not named here."""


@dataclass
class Schedule:
    """How the learning rate changes over the run."""

    name: str = MISSING


@dataclass
class ConstantSchedule(Schedule):
    """The learning rate stays as it is."""


@dataclass
class DecaySchedule(Schedule):
    """Decay, linear or exponential, from `optimizer.lr` to `final` times it at the last step.

    `speed` times as fast: linear decay is there after 1/`speed` of the steps, and stays there;
    exponential decay continues, to `final` to the power of `speed`.
    """

    final: float = MISSING
    speed: float = 1.0


@dataclass
class Train:
    """How long to train and how often to look; every interval is in steps.

    `compile` turns a step's computing into machine code of its own (torch.compile), which takes
    seconds or minutes at first and needs a C++ compiler on a CPU; the last bits differ from
    uncompiled. None takes the faster choice that is available.
    """

    steps: int = MISSING
    batch_size: int = MISSING
    log_every: int = MISSING
    eval_every: int = MISSING
    checkpoint_every: int = MISSING
    compile: bool | None = MISSING
    shuffling: Shuffling = Shuffling.examples


@dataclass
class Augment:
    """How training images are varied, again in every epoch; not those that are evaluated on.

    `flip`: left and right change places in half of them; `shift`: pixels at most in each
    direction, the mean coming in; `distortion`: saturation and contrast of each by factors up to so
    far from 1, and up to so much added to its brightness.
    """

    flip: bool = False
    shift: int = 0
    distortion: float = 0.0


@dataclass
class Probe:
    """How often (0: never) and on how many training images the activations are measured.

    `jacobian` measures the singular values of the Jacobians between hidden layers as well (§3.3).
    """

    every: int = MISSING
    size: int = MISSING
    jacobian: bool = False


@dataclass
class RunFolder:
    """Where the run is written; without `dir`, a new folder under outputs/.

    `overwrite` reruns what is there; `allow_drift` resumes an unfinished run although
    the configuration, the versions, the machine or the data are not those it began with.
    """

    dir: str | None = None
    overwrite: bool = False
    allow_drift: bool = False


@dataclass
class SweepFolder:
    """Where a sweep's members are; without `dir`, a folder under outputs/ named after the sweep."""

    dir: str | None = None


@dataclass
class Config:
    """One run, whole."""

    dataset: Dataset = field(default_factory=Dataset)
    norm: Norm = field(default_factory=Norm)
    model: Model = field(default_factory=Model)
    init: Init = field(default_factory=Init)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    train: Train = field(default_factory=Train)
    augment: Augment = field(default_factory=Augment)
    probe: Probe = field(default_factory=Probe)
    run: RunFolder = field(default_factory=RunFolder)
    sweep: SweepFolder = field(default_factory=SweepFolder)
    seed: int = MISSING
    device: Device = MISSING
    threads: int = MISSING
    tensorboard: bool = MISSING
    predictions: bool = False
    studies: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


OPTIONS: Mapping[str, Mapping[str, type]] = {
    "dataset": {"mnist": Mnist, "cifar10": Cifar10, "digits": Digits, "folder": Folder},
    "norm": {"batch": BatchNorm, "none": NoNorm, "torch": TorchNorm, "detached": DetachedNorm},
    "model": {"mlp": Mlp, "inception": Inception},
    "init": {"gaussian": Init, "xavier": Init, "he": Init},
    "optimizer": {"sgd": Sgd, "adam": Adam},
    "schedule": {
        "constant": ConstantSchedule,
        "linear": DecaySchedule,
        "exponential": DecaySchedule,
    },
}
"""The closed table: the options of every group and the dataclass of each."""

STUDIES = ("identity-transform", "scale-invariance", "inference", "input-shift")
"""What can be measured of the network a run ends with, see `bnrepro.studies`."""

TEXT = (
    "run.dir", "sweep.dir", "dataset.root", "dataset.mirror", "dataset.fingerprint", "tags",
    "studies",
)  # fmt: skip
"""Settings that are text, or lists of it, so that 1e3 is a name there and no number."""

FOLDERS = ("run.dir", "sweep.dir", "dataset.root")
"""Settings that name a folder; a leading ~ is the user's home."""

RESULTS_NUMBER = 1
"""The results number: raised when a change is meant to change the numbers of runs.

With its configuration and the data it read it says what a run is, wherever the code stands and
however it is worded.
"""

NOT_THE_EXPERIMENT = ("run", "sweep", "tags", "tensorboard", "dataset.root", "dataset.mirror")
"""Settings that say where things lie and what is shown, not what is computed: they may differ
between two configurations of the same run."""

FINGERPRINT = "dataset.fingerprint"

ADDED: Mapping[str, Any] = {
    "augment.distortion": 0.0,
    "augment.flip": False,
    "augment.shift": 0,
    FINGERPRINT: None,
    "dataset.inputs": "default",
    "dataset.limit": None,
    "dataset.size": None,
    "norm.keep_bias": False,
    "predictions": False,
    "probe.jacobian": False,
    "schedule.speed": 1.0,
    "studies": [],
    "train.compile": False,
    "train.shuffling": "examples",
}
"""Settings younger than some runs, and the value at which a run is the one it was without them."""


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, next to it in a checkout."""
    package = Path(str(files("bnrepro")))
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no configurations (looked next to {package}): install bnrepro again")


def packaged() -> dict[str, list[str]]:
    """The packaged options of every group, and the packaged experiments, without asking Hydra."""
    experiments = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
    return {group: list(found) for group, found in OPTIONS.items()} | {"experiment": experiments}


def parse(composed: DictConfig) -> Config:
    """Turn Hydra's composed configuration into a checked `Config`.

    Raises:
        ConfigError: for an unknown or missing setting, a wrong type, a `_target_`, or a value
            out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    values = _plain(composed)
    _refuse_targets(values)
    top = {f.name for f in dataclasses.fields(Config)}
    for key in values:
        if key not in top:
            raise ConfigError(unknown_setting(key, top))
    for group, options in OPTIONS.items():
        if group not in values:
            raise ConfigError(f"group '{group}' is missing: choose one of {', '.join(options)}")
        if not isinstance(values[group], dict):
            raise ConfigError(
                f"bad value {values[group]!r} ({group}): choose one of {', '.join(options)}"
            )
        name = str(values[group].get("name"))
        if name not in options:
            raise ConfigError(unknown(f"{group}.name", name, options))
    _require_text(values)
    groups = {group: OPTIONS[group][values[group]["name"]]() for group in OPTIONS}
    schema = OmegaConf.structured(Config(**groups))
    try:
        typed = OmegaConf.merge(schema, escaped(values))
        config = OmegaConf.to_object(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error, schema)) from error
    assert isinstance(config, Config)
    check(config)
    return config


def of_the_sweep(composed: DictConfig) -> Any:
    """What a sweep reads of a configuration before it has members: `run`, `sweep` and `threads`.

    Raises:
        ConfigError: for a wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    own = ["run", "sweep", "threads"]
    schema = OmegaConf.masked_copy(OmegaConf.structured(Config), own)
    values = {key: value for key, value in _plain(composed).items() if key in own}
    _require_text(values)
    try:
        return OmegaConf.merge(schema, escaped(values))
    except OmegaConfBaseException as error:
        raise ConfigError(explain_value(error, schema)) from error


def _require_text(values: dict[str, Any]) -> None:
    """Refuse a number where text is asked for, and put the home folder in for a leading ~."""
    for name in TEXT:
        group, _, key = name.rpartition(".")
        holder = values.get(group) if group else values
        value = holder.get(key) if isinstance(holder, dict) else None
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool | int | float):
                raise ConfigError(f"bad value {item} ({name}): it must be text, in quotes")
            if isinstance(item, str) and not is_unicode(item):
                raise ConfigError(f"not UTF-8 ({name}): give text")
        if name in FOLDERS and isinstance(holder, dict) and isinstance(value, str):
            if "\0" in value:
                raise ConfigError(f"a folder's name cannot hold NUL ({name}): give another")
            holder[key] = os.path.expanduser(value)


REFERENCES = 20
"""References (`${…}`) in one configuration: each may hold several others, and they multiply."""


def refuse_many_references(composed: DictConfig) -> None:
    """Count the references of a configuration before any is resolved.

    Raises:
        ConfigError: there are too many.
    """
    from omegaconf import OmegaConf

    node: Any = OmegaConf.to_container(composed, resolve=False)
    own = {key: value for key, value in node.items() if key != "hydra"}
    found = _references([own, node.get("hydra", {}).get("sweeper", {}).get("params")])
    if found > REFERENCES:
        raise ConfigError(f"too many references ({found} of ${{…}}): use at most {REFERENCES}")


def _references(node: Any) -> int:
    if isinstance(node, dict):
        return sum(_references(value) for value in node.values())
    if isinstance(node, list):
        return sum(_references(value) for value in node)
    return node.count("${") if isinstance(node, str) else 0


def _plain(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain containers, interpolations resolved."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    refuse_many_references(composed)
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        container = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{first_line(error)}: mend the reference") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def escaped(node: Any) -> Any:
    """The same with references taken for text.

    They are resolved already; a text with a dollar sign is not to be taken for one.
    """
    if isinstance(node, dict):
        return {key: escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [escaped(value) for value in node]
    return node.replace("${", "\\${") if isinstance(node, str) else node


def _refuse_targets(node: Any, path: str = "") -> None:
    """No configuration names code to run, however it came in."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if str(key).startswith("_") and str(key).endswith("_"):
                raise ConfigError(f"'{path}{key}' is refused: a configuration cannot name code")
            _refuse_targets(value, f"{path}{key}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _refuse_targets(value, f"{path}{index}.")


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted setting name of a configuration dataclass or mapping."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        items = [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node)]
    elif isinstance(node, Mapping):
        items = [(str(key), value) for key, value in node.items()]
    else:
        return
    for key, value in items:
        yield prefix + key
        yield from keys(value, f"{prefix}{key}.")


def unknown(what: str, name: str, choices: Iterable[str]) -> str:
    """One line on a name that does not exist: the nearest that does, and all where they are few."""
    names = sorted(choices)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else ""
    if len(names) <= 12:
        hint = f"{hint} choose one of {', '.join(names)}".strip()
    return f"unknown {what} '{name}'" + (f": {hint}" if hint else "")


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
    own = {
        option: [f.name for f in dataclasses.fields(of) if f.name != "name"]
        for option, of in OPTIONS.get(group, {}).items()
    }
    if having := [option for option, settings in own.items() if leaf in settings]:
        others = " or ".join(f"{group}={option}" for option in having)
        return f"the chosen {group} has no setting '{name}': leave it out, or choose {others}"
    names = [other for other in known if not other.endswith(".name")]
    same = [other for other in names if other.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(name, {*names} - {group}, n=1, cutoff=0.75)
    meant = [ALSO_CALLED[leaf]] if leaf in ALSO_CALLED else same or near
    if meant:
        return f"unknown setting '{name}': did you mean {' or '.join(map(repr, meant))}?"
    if own:
        every = sorted({setting for settings in own.values() for setting in settings})
        return f"unknown setting '{name}': {group} has {', '.join(every) or 'no settings'}"
    return unknown("setting", name, names)


def explain_value(error: Exception, schema: DictConfig) -> str:
    """One line on a value or key that OmegaConf refused."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue

    key = str(getattr(error, "full_key", None) or "")
    reason = first_line(error)
    if "not in" in reason:
        return unknown_setting(key, keys(OmegaConf.to_container(schema)))
    if isinstance(error, MissingMandatoryValue):
        return f"'{key}' has no value: give one ({key}=…)"
    if key == "device" and "'cuda:" in reason:
        return f"{reason} ({key}): choose device=cuda, and the GPU by CUDA_VISIBLE_DEVICES"
    return f"{reason} ({key or 'a group of settings'}): give a value of the right type"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


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
    for name, value, good, allowed in _limits(config):
        if not good:
            raise ConfigError(f"bad value {value} ({name}): it must be {allowed}")


def _limits(c: Config) -> Iterator[tuple[str, Any, bool, str]]:
    """Setting, value, whether it is good, and what is allowed."""
    finite = math.isfinite
    t, p = c.train, c.probe
    yield "train.steps", t.steps, t.steps >= 1, "1 or more"
    yield "train.batch_size", t.batch_size, t.batch_size >= 1, "1 or more"
    yield "train.log_every", t.log_every, t.log_every >= 1, "1 or more"
    yield "train.eval_every", t.eval_every, t.eval_every >= 1, "1 or more"
    yield "train.checkpoint_every", t.checkpoint_every, t.checkpoint_every >= 1, "1 or more"
    yield "probe.every", p.every, p.every >= 0, "0 (never) or more"
    yield "probe.size", p.size, p.size >= 2, "2 or more"
    yield "seed", c.seed, 0 <= c.seed < 2**63, "between 0 and 2**63 - 1"
    yield "threads", c.threads, 1 <= c.threads <= 1024, "between 1 and 1024"
    a = c.augment
    yield "augment.shift", a.shift, a.shift >= 0, "0 or more"
    yield "augment.distortion", a.distortion, 0 <= a.distortion <= 1, "in [0, 1]"
    d = c.dataset
    yield "dataset.root", repr(d.root), bool(d.root), "a folder's name"
    held_out = isinstance(d, Folder) and d.validation is None
    yield "dataset.validation", d.validation, held_out or d.validation >= 1, "1 or more"
    yield "dataset.limit", d.limit, d.limit is None or d.limit >= 1, "1 or more, or null for all"
    if isinstance(d, Folder) and d.fingerprint is not None:
        digest = re.fullmatch("[0-9a-f]{64}", d.fingerprint) is not None
        yield FINGERPRINT, repr(d.fingerprint), digest, "64 hexadecimal digits, or null"
    if isinstance(d, Folder) and d.size is not None:
        yield "dataset.size", d.size, 1 <= d.size <= 4096, "between 1 and 4096, or null"
    if isinstance(d, Mnist | Cifar10) and d.mirror is not None:
        good = mirrors.objection(d.mirror) is None
        allowed = f"as {mirrors.FORM}, without name or password"
        yield "dataset.mirror", mirrors.shown(d.mirror), good, allowed
    m = c.model
    yield "model.dropout", m.dropout, 0 <= m.dropout < 1, "in [0, 1)"
    if isinstance(m, Mlp):
        widths = bool(m.hidden) and all(1 <= width <= 2**20 for width in m.hidden)
        yield "model.hidden", m.hidden, widths, "a list of one or more widths, each 1 or more"
    if isinstance(m, Inception):
        yield "model.width", m.width, finite(m.width) and 0 < m.width <= 16, "in (0, 16]"
        yield "model.stem_stride", m.stem_stride, m.stem_stride in (1, 2), "1 or 2"
        possible = isinstance(c.norm, BatchNorm) or not m.per_activation
        yield "model.per_activation", m.per_activation, possible, "false without norm=batch"
        yield "norm", c.norm.name, not isinstance(c.norm, DetachedNorm), "batch, torch or none"
    scale = c.init.scale
    yield "init.scale", scale, finite(scale) and scale >= 0, "a finite number, 0 or more"
    o = c.optimizer
    yield "optimizer.lr", o.lr, finite(o.lr) and o.lr > 0, "a finite number above 0"
    decay = o.weight_decay
    yield (
        "optimizer.weight_decay",
        decay,
        finite(decay) and decay >= 0,
        "a finite number, 0 or more",
    )
    if isinstance(o, Sgd):
        yield "optimizer.momentum", o.momentum, 0 <= o.momentum < 1, "in [0, 1)"
    if isinstance(c.schedule, DecaySchedule):
        final, speed = c.schedule.final, c.schedule.speed
        yield "schedule.final", final, 0 < final <= 1, "in (0, 1]"
        yield "schedule.speed", speed, finite(speed) and speed > 0, "a finite number above 0"
    n = c.norm
    if isinstance(n, BatchNorm | DetachedNorm):
        yield "norm.eps", n.eps, finite(n.eps) and n.eps > 0, "a finite number above 0"
        rate = n.momentum is None or 0 <= n.momentum <= 1
        yield "norm.momentum", n.momentum, rate, "in [0, 1], or null for a cumulative average"
        enough = t.batch_size >= 2
        yield "train.batch_size", t.batch_size, enough, "2 or more with batch normalization"
    between = isinstance(m, Mlp) and len(m.hidden) >= 2 and not _after(n)
    allowed = "false without two hidden layers, or with a norm after the nonlinearity"
    yield "probe.jacobian", p.jacobian, between or not p.jacobian, allowed
    if isinstance(n, BatchNorm):
        batches = n.population_batches
        most = 100_000  # they are counted out before the first is seen
        good = 1 <= batches <= most
        yield "norm.population_batches", batches, good, f"between 1 and {most:,}"
    yield from _studies(c)


def _studies(c: Config) -> Iterator[tuple[str, Any, bool, str]]:
    """The same of the studies: what network each needs."""
    plain, batch = isinstance(c.norm, NoNorm), isinstance(c.norm, BatchNorm)
    suits = {
        "identity-transform": (plain, "norm=none"),
        "scale-invariance": (
            plain or (batch and not _after(c.norm)),
            "norm=none, or norm=batch with norm.placement=pre",
        ),
        "inference": (batch, "norm=batch"),
    }
    for name in [study for study in c.studies if study in suits]:
        good, needs = suits[name]
        yield "studies", name, good, f"left out, or measured with {needs}"
        yield "model", c.model.name, isinstance(c.model, Mlp), f"mlp for studies=[{name}]"
        size = c.train.batch_size
        yield "train.batch_size", size, size >= 2, f"2 or more for studies=[{name}]"


def _after(norm: Norm) -> bool:
    """Whether there is a normalization after the nonlinearity."""
    return isinstance(norm, BatchNorm) and norm.placement is Placement.post


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain containers, as it is written to `config.yaml`."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    result = plain(dataclasses.asdict(config))
    assert isinstance(result, dict)
    return result


def to_yaml(config: Config) -> str:
    """The configuration as YAML; read again it gives the same configuration."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted names."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[prefix + key] = value
    return result


def what_is_computed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by dotted names, that make this run another run."""
    skipped = tuple(f"{name}." for name in NOT_THE_EXPERIMENT)
    settings = flat(values).items()
    return {
        name: value
        for name, value in settings
        if not f"{name}.".startswith(skipped) and not (name in ADDED and value == ADDED[name])
    }


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Settings in which two configurations are not the same run, as `name: theirs -> ours`.

    A configuration without the fingerprint of its data takes whatever data there is: that is no
    difference. What a run has read stands in its manifest.
    """
    a, b = what_is_computed(theirs), what_is_computed(ours)
    names = sorted({*a, *b} - ({FINGERPRINT} if FINGERPRINT not in a.keys() & b.keys() else set()))
    return [f"{n}: {_show(a, n)} -> {_show(b, n)}" for n in names if a.get(n) != b.get(n)]


def _show(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "not set"


def other_results(manifest: Mapping[str, Any]) -> list[str]:
    """How the results numbers that a run was made and resumed with differ from today's.

    Args:
        manifest: of a stored run; of none, which tells nothing, no difference is found.

    Returns:
        A line for each, as those of `differences`.
    """
    made = [manifest, *manifest.get("resumes", ())] if manifest else []
    numbers = dict.fromkeys(each.get("results") for each in made)
    return [f"results: {n} -> {RESULTS_NUMBER}" for n in numbers if n != RESULTS_NUMBER]
