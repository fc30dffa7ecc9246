"""The dataclasses of a run's configuration: its settings, their types and their limits.

Values live in YAML (`conf/`); here stands what they may be. What Hydra composes becomes these
dataclasses in `bnrepro.config.compose`; from there on a configuration is never a `DictConfig`.

Each option of a group has a dataclass of its own, which also says what the rest of the program has
to know of it: whether a norm needs a batch, for example, and whether a network can be stacked. The
table of all options stands at the end; since it is closed, no configuration can name code to run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from bnrepro.config import mirrors

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given

FINGERPRINT = "dataset.fingerprint"

STUDIES = (
    "identity-transform", "scale-invariance", "inference", "input-shift", "amplification",
    "step-seconds", "bias-drift", "variance-estimate", "whitening-seconds",
    "depth", "precise-statistics",
)  # fmt: skip
"""Measurements of the network a run ends with, see `bnrepro.training.studies`."""

FOLDERS = ("run.dir", "sweep.dir", "dataset.root")
"""Settings that name a folder; a leading ~ is the user's home."""

TEXT = (*FOLDERS, "dataset.mirror", FINGERPRINT, "model.modules", "tags", "studies")
"""Settings that are text, or lists of it, so that 1e3 is a name there and no number."""


class Limit(NamedTuple):
    """What a setting may be, in words and as a test; None is good wherever its type allows it."""

    allowed: str
    holds: Callable[[Any], bool]
    shown: Callable[[Any], str] = str


def between(low: float, high: float) -> Limit:
    """A number from `low` to `high`, both included."""
    return Limit(f"between {low:,} and {high:,}", lambda value: low <= value <= high)


AT_LEAST_1 = Limit("1 or more", lambda value: value >= 1)
POSITIVE = Limit("a finite number above 0", lambda value: isfinite(value) and value > 0)
NOT_NEGATIVE = Limit("a finite number, 0 or more", lambda value: isfinite(value) and value >= 0)
SHARE = Limit("in [0, 1)", lambda value: 0 <= value < 1)
UP_TO_1 = Limit("in (0, 1]", lambda value: 0 < value <= 1)
WIDTHS = Limit(
    "a list of one or more widths, each 1 or more",
    lambda widths: bool(widths) and all(1 <= width <= 2**20 for width in widths),
)
INCEPTION_MODULES = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
MODULES = Limit(
    f"one or more of {', '.join(INCEPTION_MODULES)}, in this order",
    lambda names: bool(names) and names == [name for name in INCEPTION_MODULES if name in names],
)
MOMENTUM = Limit("in [0, 1], or null for a cumulative average", lambda value: 0 <= value <= 1)
HORIZON = Limit("1 or more steps, or null for the run's", lambda steps: steps >= 1)
GROUP = Limit("2 or more, or null for the whole batch", lambda images: images >= 2)
MIRROR = Limit(
    f"as {mirrors.FORM}, without name or password",
    lambda address: mirrors.objection(address) is None,
    mirrors.shown,
)
SHA256 = Limit(
    "64 hexadecimal digits, or null",
    lambda text: re.fullmatch("[0-9a-f]{64}", text) is not None,
    repr,
)


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
    whitened = "whitened"


class Shuffling(Enum):
    """What is shuffled in every epoch: the examples, or batches that stay together throughout."""

    examples = "examples"
    batches = "batches"


class Trained(Enum):
    """Which parameters are trained: all, γ and β of the norms, or as many weights at random."""

    all = "all"
    norms = "norms"
    random = "random"


class Decayed(Enum):
    """Which parameters weight decay holds for: all, or the weights before a norm."""

    all = "all"
    normalized = "normalized"


class Device(Enum):
    """Where tensors live; `auto` is CUDA where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


@dataclass
class Option:
    """One option of a group, by its name."""

    name: str = MISSING

    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be installed, and are not with bnrepro itself."""


@dataclass
class Dataset(Option):
    """Which images: `root` holds the files, `validation` images of training are held out.

    Of the others the first `limit`, in an order that is as good as random, are trained on.
    """

    root: Annotated[str, Limit("a folder's name", bool, repr)] = MISSING
    validation: Annotated[int, AT_LEAST_1] = MISSING
    limit: Annotated[int | None, AT_LEAST_1._replace(allowed="1 or more, or null for all")] = None
    inputs: Inputs = Inputs.default


@dataclass
class Mnist(Dataset):
    """MNIST; `binary` turns grey pixels into 0 and 1, as the paper's input was (§4.1)."""

    binary: bool = MISSING
    mirror: Annotated[str | None, MIRROR] = None


@dataclass
class Cifar10(Dataset):
    """CIFAR-10, every channel standardized."""

    mirror: Annotated[str | None, MIRROR] = None


@dataclass
class Digits(Dataset):
    """scikit-learn's 8×8 digits: bundled, for a first try and for tests, never for a verdict."""


@dataclass
class OwnImages(Dataset):
    """Images that nothing is known of beforehand.

    Without `validation`, a tenth of the training images is held out. `fingerprint` is that of the
    images, since `root` does not say which they are; without it, whatever lies there is taken.
    """

    validation: Annotated[int | None, AT_LEAST_1] = None  # type: ignore[assignment]
    fingerprint: Annotated[str | None, SHA256] = None


@dataclass
class Folder(OwnImages):
    """Any train/CLASS/*.png, test/CLASS/*.png tree, or zips of one, below `root`.

    With `size`, the middle square of every image is resized to `size` pixels in height and width.
    """

    size: Annotated[int | None, between(1, 4096)] = None


@dataclass
class Norm(Option):
    """What stands between a layer and its nonlinearity."""

    needs_batch: ClassVar[bool]
    """Whether it takes statistics over a batch, so that one of a single image cannot train."""

    dimensions: ClassVar[tuple[int, ...]]
    """Dimensions of the maps it can normalize: 0 of features (N, C), 2 of maps (N, C, H, W)."""

    has_jacobian: ClassVar[bool] = False
    """Whether it is x̂ = (x - μ)/σ of each feature, as §3.3's Jacobians assume."""

    if TYPE_CHECKING:

        @property
        def placement(self) -> Placement | None:
            """Where it stands; None if it does not stand anywhere."""

    @property
    def keep_bias(self) -> bool:
        """Whether the layer before keeps its bias although the norm follows it directly."""
        return False

    @property
    def stackable(self) -> bool:
        """Whether networks with it can train together as one computation."""
        return False

    @property
    def ghost_size(self) -> int | None:
        """How many images of a batch are normalized by themselves; None: the whole batch."""
        return None

    @property
    def population_batches(self) -> int:
        """How many batches Algorithm 2 averages the statistics of; 0 if it does not apply."""
        return 0


@dataclass
class NoNorm(Norm):
    """No normalization: the paper's baseline."""

    placement = None
    needs_batch = False
    dimensions = (0, 2)
    stackable = True
    has_jacobian = True


@dataclass
class BatchNorm(Norm):
    """Batch normalization: `momentum` in PyTorch's sense, new = (1-m)·old + m·batch.

    `population_batches` is the number of training batches whose statistics are averaged at the
    end of the run for inference as Algorithm 2 has it. `keep_bias` leaves the layer before its
    bias, which β makes useless. Without `affine` γ is 1 and β 0. In training every `ghost_size`
    images of a batch are normalized by themselves (Hoffer et al. 2017); None: the whole batch.
    """

    eps: Annotated[float, POSITIVE] = MISSING
    momentum: Annotated[float | None, MOMENTUM] = MISSING
    placement: Placement = MISSING
    # They are counted out before the first is seen.
    population_batches: Annotated[int, between(1, 100_000)] = MISSING
    keep_bias: bool = False
    affine: bool = True
    ghost_size: Annotated[int | None, GROUP] = None

    needs_batch = True
    dimensions = (0, 2)
    has_jacobian = True

    @property
    def stackable(self) -> bool:
        """A stack normalizes whole batches only."""
        return self.ghost_size is None


@dataclass
class TorchNorm(BatchNorm):
    """`torch.nn.BatchNorm*`, for comparison."""

    stackable = False


@dataclass
class DetachedNorm(Norm):
    """Normalization outside the gradient step (§2), before the nonlinearity, without γ and β.

    `scaling` divides by the deviation as well as taking the mean away. The bias of the layer before
    is what §2 is about: it stays.
    """

    scaling: bool = MISSING
    eps: Annotated[float, POSITIVE] = MISSING
    momentum: Annotated[float | None, MOMENTUM] = MISSING

    placement = Placement.pre
    keep_bias = True
    needs_batch = True
    dimensions = (0,)
    has_jacobian = True


@dataclass
class LaterNorm(Norm):
    """A norm of a later paper, before the nonlinearity or after it."""

    placement: Placement = MISSING

    dimensions = (0, 2)


@dataclass
class OverBatch(LaterNorm):
    """One that takes statistics over the batch; `eps` and `momentum` are as in `BatchNorm`."""

    eps: Annotated[float, POSITIVE] = MISSING
    momentum: Annotated[float | None, MOMENTUM] = MISSING

    needs_batch = True


@dataclass
class NoisyNorm(OverBatch):
    """Batch normalization followed by noise (Santurkar et al. 2018)."""


@dataclass
class L1Norm(OverBatch):
    """Batch normalization by the mean absolute deviation (Hoffer et al. 2018)."""


@dataclass
class LinfNorm(OverBatch):
    """Batch normalization by the largest deviation (Hoffer et al. 2018)."""


@dataclass
class WhiteningNorm(OverBatch):
    """Full whitening of each layer over the batch (§2); `eps` is added to every variance."""


@dataclass
class LayerNorm(LaterNorm):
    """Layer normalization (Ba et al. 2016): of each image by itself, over all of a layer."""

    eps: Annotated[float, POSITIVE] = MISSING

    needs_batch = False
    keep_bias = True  # a shift of one unit is not what it takes away


@dataclass
class GroupNorm(LayerNorm):
    """Group normalization (Wu & He 2018): the same over each of `groups` parts of a layer."""

    groups: Annotated[int, AT_LEAST_1] = MISSING


@dataclass
class DynamicTanh(LaterNorm):
    """γ·tanh(α·x) + β in the place of a norm (Zhu et al. 2025); α starts at `alpha`."""

    alpha: Annotated[float, POSITIVE] = MISSING

    needs_batch = False
    keep_bias = True


@dataclass
class Model(Option):
    """The network."""

    activation: Activation = MISSING
    dropout: Annotated[float, SHARE] = MISSING

    dimensions: ClassVar[tuple[int, ...]]
    """Dimensions of the maps that its norms see, as in `Norm.dimensions`."""

    stackable: ClassVar[bool] = False
    """Whether several can train together as one computation."""

    compiled_from: ClassVar[int] = 20_000
    """Steps from which on a run is compiled unless it says otherwise. Alone it wins back what
    compiling takes with two to three times as many, and most programs serve several runs."""

    probed: ClassVar[int | None] = None
    """Of how many nonlinearities the inputs are measured unless `probe.layers` says which; None: of
    all."""

    @property
    def hidden_layers(self) -> int:
        """Fully connected hidden layers in a row; 0 for a network of another kind."""
        return 0

    @property
    def multiples(self) -> list[int]:
        """Numbers such that every layer's channels are a multiple of one; none if unknown."""
        return []


@dataclass
class Mlp(Model):
    """Fully connected layers, one width each in `hidden`."""

    hidden: Annotated[list[int], WIDTHS] = MISSING

    dimensions = (0,)
    stackable = True

    @property
    def hidden_layers(self) -> int:
        """As many as there are widths."""
        return len(self.hidden)

    @property
    def multiples(self) -> list[int]:
        """The widths."""
        return self.hidden


@dataclass
class Inception(Model):
    """The Inception of §4.2: `width` times the paper's channels, for images of about 32×32.

    `modules` are those of the paper's ten that it has (Fig. 5). `stem_stride` is that of the first
    convolution, `lrn` puts local response normalization behind the first two. `per_activation`
    normalizes the last module's outputs activation by activation, not map by map (§4.2.3).
    """

    width: Annotated[float, Limit("in (0, 16]", lambda width: 0 < width <= 16)] = MISSING
    stem_stride: Annotated[int, Limit("1 or 2", lambda stride: stride in (1, 2))] = MISSING
    lrn: bool = MISSING
    per_activation: bool = MISSING
    modules: Annotated[list[str], MODULES] = field(default_factory=lambda: [*INCEPTION_MODULES])

    dimensions = (2,)
    compiled_from = 6_000
    probed = 3

    @property
    def multiples(self) -> list[int]:
        """Channels come in fours, whatever the width."""
        return [4]


@dataclass
class Init(Option):
    """Initial weights. `scale` is the standard deviation (gaussian), or a gain on it (others)."""

    scale: Annotated[float, NOT_NEGATIVE] = MISSING

    mean: ClassVar[float] = 0.0
    """That of hidden units, which biases take away from a layer's inputs at the start."""


@dataclass
class ShiftedInit(Init):
    """Initial weights for sigmoids: biases take their mean away."""

    mean = 0.5


@dataclass
class Optimizer(Option):
    """How a gradient becomes a step."""

    lr: Annotated[float, POSITIVE] = MISSING
    weight_decay: Annotated[float, NOT_NEGATIVE] = MISSING

    stackable: ClassVar[bool] = False
    """Whether several can train together as one computation."""


@dataclass
class Sgd(Optimizer):
    """Stochastic gradient descent, plain unless `momentum` is above 0."""

    momentum: Annotated[float, SHARE] = MISSING

    stackable = True


@dataclass
class Adam(Optimizer):
    """Adam, with torch's defaults for what is not named here."""


@dataclass
class Adagrad(Optimizer):
    """Adagrad, which §3.1 names, with torch's defaults for what is not named here."""


@dataclass
class Schedule(Option):
    """How the learning rate changes over the run."""


@dataclass
class ConstantSchedule(Schedule):
    """The learning rate stays as it is."""


@dataclass
class DecaySchedule(Schedule):
    """Decay, linear or exponential, from `optimizer.lr` to `final` times it at the last step.

    With `horizon` it is there after as many steps as that says, whenever the run ends.

    `speed` times as fast: linear decay is there after 1/`speed` of the steps, and stays there;
    exponential decay continues, to `final` to the power of `speed`.
    """

    final: Annotated[float, UP_TO_1] = MISSING
    speed: Annotated[float, POSITIVE] = 1.0
    horizon: Annotated[int | None, HORIZON] = None


@dataclass
class Train:
    """How long to train and how often to look; every interval is in steps.

    Without `test_every` each evaluation is on validation and test images. With it those between are
    on validation images alone: the best test accuracy, and the steps to one, do not know of them.
    `compile` makes one program of a whole step, which takes a minute at first, is kept for other
    runs, and needs a C++ compiler; the last bits differ from uncompiled. None does so for runs that
    are long enough to win, where there is a compiler. `eval_population` has every evaluation also
    take the statistics of Algorithm 2 and judge the network by them. `parameters` are those that
    are trained; the others stay as they were drawn. Weight decay holds for those that are
    `decayed`.
    """

    steps: Annotated[int, AT_LEAST_1] = MISSING
    batch_size: Annotated[int, AT_LEAST_1] = MISSING
    log_every: Annotated[int, AT_LEAST_1] = MISSING
    eval_every: Annotated[int, AT_LEAST_1] = MISSING
    test_every: Annotated[int | None, AT_LEAST_1] = None
    checkpoint_every: Annotated[int, AT_LEAST_1] = MISSING
    compile: bool | None = None
    eval_population: bool = False
    shuffling: Shuffling = Shuffling.examples
    parameters: Trained = Trained.all
    decayed: Decayed = Decayed.all


@dataclass
class Augment:
    """How training images are varied, again in every epoch; not those that are evaluated on.

    `flip`: left and right change places in half of them; `shift`: pixels at most in each
    direction, the mean coming in; `distortion`: saturation and contrast of each by factors up to so
    far from 1, and up to so much added to its brightness.
    """

    flip: bool = False
    shift: Annotated[int, Limit("0 or more", lambda pixels: pixels >= 0)] = 0
    distortion: Annotated[float, Limit("in [0, 1]", lambda most: 0 <= most <= 1)] = 0.0


@dataclass
class Probe:
    """How often (0: never) and on how many training images the activations are measured.

    `layers` are the nonlinearities whose inputs are measured; without, as many as the model's
    `probed` says. `jacobian` measures the singular values of the Jacobians between hidden layers as
    well (§3.3), `moments` skewness, kurtosis and sparsity on both sides of each nonlinearity,
    `gradient_shift` how a step of the layers before changes a layer's gradient, and `landscape` how
    loss and gradient vary along the gradient, and the largest curvature.
    """

    every: Annotated[int, Limit("0 (never) or more", lambda steps: steps >= 0)] = MISSING
    size: Annotated[int, Limit("2 or more", lambda images: images >= 2)] = MISSING
    layers: list[str] | None = None
    jacobian: bool = False
    moments: bool = False
    gradient_shift: bool = False
    landscape: bool = False


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
    seed: Annotated[int, Limit("between 0 and 2**63 - 1", lambda seed: 0 <= seed < 2**63)] = MISSING
    device: Device = MISSING
    threads: Annotated[int, between(1, 1024)] = MISSING
    tensorboard: bool = MISSING
    predictions: bool = False
    studies: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    @property
    def compiled(self) -> bool:
        """Whether its training step is to be one program; a clock or a cache has no say in it."""
        long = self.train.steps >= self.model.compiled_from
        return long if self.train.compile is None else self.train.compile


@dataclass(frozen=True)
class Entry:
    """One option of a group.

    Args:
        settings: a dataclass derived from the group's own, such as `Norm`.
        make: `MODULE:FUNCTION`, imported when it is needed; `docs/extending.md` has the arguments.
        defaults: the YAML file of default values; by default `conf/GROUP/NAME.yaml`.
        package: the distribution that brings it, and its version; None for bnrepro's own.
    """

    settings: type[Option]
    make: str
    defaults: Path | None = None
    package: str | None = None


OPTIONS: Mapping[str, Mapping[str, Entry]] = {
    "dataset": {
        "mnist": Entry(Mnist, "bnrepro.data.mnist:Mnist"),
        "cifar10": Entry(Cifar10, "bnrepro.data.cifar10:Cifar10"),
        "digits": Entry(Digits, "bnrepro.data.digits:Digits"),
        "folder": Entry(Folder, "bnrepro.data.folder:Folder"),
    },
    "norm": {
        "batch": Entry(BatchNorm, "bnrepro.nn.norms:batch"),
        "none": Entry(NoNorm, "torch.nn:Identity"),
        "torch": Entry(TorchNorm, "bnrepro.nn.norms:torch"),
        "detached": Entry(DetachedNorm, "bnrepro.nn.norms:detached"),
        "noisy": Entry(NoisyNorm, "bnrepro.nn.noisy:make"),
        "layer": Entry(LayerNorm, "bnrepro.nn.group_norm:layer"),
        "group": Entry(GroupNorm, "bnrepro.nn.group_norm:group"),
        "dyt": Entry(DynamicTanh, "bnrepro.nn.dynamic_tanh:make"),
        "l1": Entry(L1Norm, "bnrepro.nn.deviations:l1"),
        "linf": Entry(LinfNorm, "bnrepro.nn.deviations:linf"),
        "whiten": Entry(WhiteningNorm, "bnrepro.nn.whitening:make"),
    },
    "model": {
        "mlp": Entry(Mlp, "bnrepro.nn.mlp:Mlp"),
        "inception": Entry(Inception, "bnrepro.nn.inception:Inception"),
    },
    "init": {
        "gaussian": Entry(Init, "bnrepro.nn.build:gaussian"),
        "xavier": Entry(Init, "bnrepro.nn.build:xavier"),
        "he": Entry(Init, "bnrepro.nn.build:he"),
        "shifted": Entry(ShiftedInit, "bnrepro.nn.build:shifted"),
    },
    "optimizer": {
        "sgd": Entry(Sgd, "bnrepro.training.optim:Sgd"),
        "adam": Entry(Adam, "bnrepro.training.optim:Adam"),
        "adagrad": Entry(Adagrad, "bnrepro.training.optim:Adagrad"),
    },
    "schedule": {
        "constant": Entry(ConstantSchedule, "bnrepro.training.optim:constant"),
        "linear": Entry(DecaySchedule, "bnrepro.training.optim:linear"),
        "exponential": Entry(DecaySchedule, "bnrepro.training.optim:exponential"),
    },
}
"""bnrepro's own options of every group."""

BASES: Mapping[str, type[Option]] = {
    "dataset": Dataset,
    "norm": Norm,
    "model": Model,
    "init": Init,
    "optimizer": Optimizer,
    "schedule": Schedule,
}
"""What the settings of each group's options derive from."""
