"""The Inception: what stands where, what normalizes it, and runs of it by the command line."""

import json
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from alike import assert_same_run
from conftest import wait_for_step
from torch import nn

from bnrepro import config as c
from bnrepro.claims import input_shift
from bnrepro.cli import main
from bnrepro.config.compose import compose
from bnrepro.config.schema import INCEPTION_MODULES
from bnrepro.errors import ConfigError
from bnrepro.evidence import fig2_arms
from bnrepro.nn import build, pooling
from bnrepro.nn.batchnorm import BatchNorm1d, BatchNorm2d
from bnrepro.nn.blocks import LocalResponseNorm
from bnrepro.nn.build import nonlinearities
from bnrepro.nn.inception import MODULES, Convolution, Inception
from bnrepro.nn.norms import PerActivation
from bnrepro.store import StoredRun
from bnrepro.training.optim import schedule
from bnrepro.training.studies.input_shift import SHIFTS

FAST = ("experiment=cifar10-inception", "dataset=digits", "dataset.limit=300", "train.steps=12",
        "train.eval_every=6", "train.log_every=1", "train.checkpoint_every=5", "probe.size=60",
        "train.compile=false", "studies=[]", "tensorboard=false")  # fmt: skip


ALL = (f"model.modules=[{','.join(MODULES)}]", "model.stem_stride=2")
"""The paper's ten modules, on maps as small as theirs are to their images."""


def configured(*overrides: str) -> c.Config:
    return compose(["experiment=cifar10-inception", *overrides]).config


def network(*overrides: str, shape: tuple[int, ...] = (3, 32, 32)) -> Inception:
    model = build.build(configured(*overrides), shape, 10)
    assert isinstance(model, Inception)
    return model


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def shapes(model: nn.Module, images: torch.Tensor) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs, output: found.__setitem__(name, tuple(output.shape[1:]))

    for name, module in model.named_children():
        module.register_forward_hook(note(name))
    model(images)
    return found


def test_its_modules_and_their_sizes_are_the_papers_narrowed() -> None:
    model = network(*ALL, "model.lrn=false")
    found = shapes(model, torch.rand(2, 3, 32, 32))
    assert list(found) == ["conv1", "conv2", "pool", *MODULES, "mean", "dropout", "output"]
    assert [found[name][1:] for name in ("conv1", "conv2", "pool")] == [(16, 16), (16, 16), (8, 8)]
    assert {name: found[name][1] for name in MODULES} == dict(
        zip(MODULES, [8, 8, 4, 4, 4, 4, 4, 2, 2, 2], strict=True)
    )
    assert 1.0e5 < count(model) < 1.1e5
    assert sum(isinstance(module, nn.Linear) for module in model.modules()) == 1
    # Of full width, what the appendix says: 256, 320, 576, …, 1024.
    wide = network(*ALL, "model.width=1.0", "model.lrn=false")
    channels = [wide.get_submodule(name).channels for name in MODULES]
    assert channels == [256, 320, 576, 576, 576, 576, 576, 1024, 1024, 1024]
    assert 1.0e7 < count(wide) < 1.15e7


def test_the_stem_may_keep_the_resolution() -> None:
    found = shapes(network(*ALL, "model.stem_stride=1"), torch.rand(2, 3, 32, 32))
    assert found["pool"][1:] == (16, 16)


def test_a_network_may_have_some_of_the_modules() -> None:
    some = ["3a", "3c", "4a", "4e", "5b"]
    model = network(f"model.modules=[{','.join(some)}]", "model.stem_stride=1", "model.lrn=false")
    found = shapes(model, torch.rand(2, 3, 32, 32))
    assert list(found) == ["conv1", "conv2", "pool", *some, "mean", "dropout", "output"]
    assert [found[name][1] for name in some] == [16, 8, 8, 4, 4]
    assert 5.0e4 < count(model) < 5.4e4
    default = compose(["model=inception", "init=he"]).config.model
    assert isinstance(default, c.Inception)
    assert default.modules == [*MODULES] == [*INCEPTION_MODULES]
    last = network("model.modules=[3a]", "model.per_activation=true")
    places = [name for name, m in last.named_modules() if isinstance(m, PerActivation)]
    assert places
    assert all(name.startswith("3a.") for name in places)


@pytest.mark.parametrize("kind", ["batch", "torch"])
def test_every_convolution_is_normalized_map_by_map_before_its_nonlinearity(kind: str) -> None:
    model = network(*ALL, f"norm={kind}")
    layer = BatchNorm2d if kind == "batch" else nn.BatchNorm2d
    convolutions = [m for m in model.modules() if isinstance(m, Convolution)]
    assert len(convolutions) == sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 68
    for convolution in convolutions:
        conv, norm, nonlinearity = convolution
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is None
        assert type(norm) is layer
        assert norm.num_features == conv.out_channels
        assert isinstance(nonlinearity, nn.ReLU)
    assert len(list(nonlinearities(model))) == 68


def test_without_a_norm_and_with_one_behind_the_nonlinearity_there_are_biases() -> None:
    for overrides, kinds in (
        (("norm=none",), (nn.Conv2d, nn.ReLU)),
        (("norm=batch", "norm.placement=post"), (nn.Conv2d, nn.ReLU, BatchNorm2d)),
        (("norm=batch", "model.activation=sigmoid"), (nn.Conv2d, BatchNorm2d, nn.Sigmoid)),
    ):
        model = network(*overrides)
        [first] = [m for name, m in model.named_children() if name == "conv1"]
        assert tuple(map(type, first)) == kinds
        assert (first[0].bias is None) == (kinds[1] is BatchNorm2d)


def test_our_layer_and_torchs_compute_the_same_network() -> None:
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours, theirs = (
        network(f"norm={name}", "model.dropout=0").double() for name in ("batch", "torch")
    )
    for model in (ours, theirs):
        model(images.double()).square().sum().backward()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a, b)
        assert torch.allclose(a.grad, b.grad, rtol=1e-6, atol=1e-8), name
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(a, b)


def test_per_activation_the_last_module_has_a_unit_for_every_place() -> None:
    model = network("model.per_activation=true")
    by_place = {name: m for name, m in model.named_modules() if isinstance(m, BatchNorm1d)}
    assert {name.split(".")[0] for name in by_place} == {"5b"}
    assert len(by_place) == 4
    module = model.get_submodule("5b")
    assert sum(m.num_features for m in by_place.values()) == module.channels * 4 * 4
    model.eval()
    model(torch.rand(3, 3, 32, 32))
    model.train()
    x = torch.randn(40, 3, 32, 32)
    outputs: list[torch.Tensor] = []
    module.get_submodule("one.norm").register_forward_hook(
        lambda module, inputs, output: outputs.append(output)
    )
    model(x)
    [normalized] = outputs
    assert torch.allclose(normalized.mean(0), torch.zeros(()), atol=1e-5)
    assert normalized.mean((0, 2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize("channels", [3, 8, 20])
def test_local_response_normalization_is_torchs(channels: int) -> None:
    x = (30 * torch.randn(4, channels, 5, 6, dtype=torch.float64)).requires_grad_()
    ours, theirs = LocalResponseNorm(channels).double(), nn.LocalResponseNorm(5)
    for y, z in ((ours(x), theirs(x)),):
        assert torch.allclose(y, z, rtol=1e-6)
        (a,), (b,) = (torch.autograd.grad(each.square().sum(), x) for each in (y, z))
        assert torch.allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["norm=detached"], "(norm)"),
        (["norm=none", "model.per_activation=true"], "(model.per_activation)"),
        (["model.stem_stride=3"], "(model.stem_stride)"),
        (["model.width=0"], "(model.width)"),
        (["model.modules=[]"], "(model.modules)"),
        (["model.modules=[5b,3a]"], "(model.modules)"),
        (["model.modules=[3a,3a]"], "(model.modules)"),
        (["model.modules=[3a,6a]"], "(model.modules)"),
        (["schedule.horizon=0"], "(schedule.horizon)"),
        (["augment.shift=-1"], "(augment.shift)"),
        (["augment.distortion=1.5"], "(augment.distortion)"),
        (["schedule.speed=0"], "(schedule.speed)"),
        (["train.shuffling=none"], "train.shuffling"),
        (["studies=[inference]"], "mlp for studies=[inference]"),
    ],
)
def test_impossible_settings_are_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        configured(*overrides)
    assert told in str(error.value)


def test_a_faster_decay_reaches_the_same_rates_sooner() -> None:
    steps = ["train.steps=1201", "optimizer.lr=1.0", "schedule.final=0.1"]
    for kind, end in (("exponential", 1e-6), ("linear", 0.1)):
        slow, fast = (
            schedule(configured(*steps, f"schedule={kind}", f"schedule.speed={speed}"))
            for speed in (1, 6)
        )
        assert slow(0) == fast(0) == 1.0
        assert fast(100) == pytest.approx(slow(600))
        assert fast(200) == pytest.approx(slow(1200)) == pytest.approx(0.1)
        assert fast(1200) == pytest.approx(end)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_a_decay_may_have_another_end_than_the_run(kind: str) -> None:
    words = ["optimizer.lr=1.0", "schedule.final=0.1", f"schedule={kind}"]
    whole = schedule(configured("train.steps=1201", *words))
    for steps in (401, 1201, 2401):
        cut = schedule(configured(f"train.steps={steps}", "schedule.horizon=1201", *words))
        assert [cut(step) for step in range(0, 1201, 100)] == [
            whole(step) for step in range(0, 1201, 100)
        ]
    assert cut(2400) == pytest.approx(0.01 if kind == "exponential" else 0.1)


# By command line


def train(folder: Path, *overrides: str) -> StoredRun:
    assert main(["train", *FAST, *overrides, f"run.dir={folder}"]) == 0
    return StoredRun(folder)


@pytest.mark.reliability
def test_stored_predictions_give_the_accuracies_in_the_summary(tmp_path: Path) -> None:
    run = train(tmp_path / "run")
    kept = run.predictions()
    summary = run.summary()
    assert summary is not None
    for split, images in (("validation", 200), ("test", 300)):
        probabilities, labels = (kept[f"{split}/{name}"] for name in ("probabilities", "labels"))
        assert probabilities.shape == (images, 10)
        assert probabilities.dtype == np.float32
        assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
        assert (probabilities.argmax(1) == labels).mean() == summary[f"{split}_accuracy"]
    without = train(tmp_path / "without", "predictions=false")
    assert set(without.predictions()) == {"classes", "test/predicted", "test/labels"}
    right = without.correct()
    assert right is not None
    assert right.mean() == pytest.approx(summary["test_accuracy"], abs=1e-12)
    assert_same_run(without, run)


@pytest.mark.reliability
def test_images_are_augmented_in_training_only(tmp_path: Path) -> None:
    plain = ("augment.flip=false", "augment.shift=0", "augment.distortion=0", "train.steps=1",
             "model.dropout=0", "train.eval_every=1")  # fmt: skip
    first = [train(tmp_path / name, *plain, *words).metrics() for name, words in {
        "plain": (), "flip": ("augment.flip=true",), "shift": ("augment.shift=1",),
        "distortion": ("augment.distortion=0.4",)
    }.items()]  # fmt: skip
    assert len({rows[0]["test_loss"] for rows in first}) == 1  # before any step
    assert len({rows[1]["train_loss"] for rows in first}) == 4


@pytest.mark.reliability
def test_killed_in_mid_epoch_and_resumed_it_ends_the_same(tmp_path: Path) -> None:
    words = (*FAST, "train.steps=40", "norm.population_batches=2", "predictions=false")
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "run"
    assert main(["train", *words, f"run.dir={undisturbed}"]) == 0
    process = forked.Command("train", *words, f"run.dir={folder}")
    wait_for_step(folder, 17)  # of 10 in an epoch
    process.kill()
    process.wait()
    assert StoredRun(folder).summary() is None
    assert main(["train", *words, f"run.dir={folder}"]) == 0
    assert_same_run(StoredRun(folder), StoredRun(undisturbed))
    assert len(StoredRun(folder).manifest()["resumes"]) == 1


def test_the_study_of_shifted_inputs(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "studies=[input-shift]", "norm.population_batches=3")
    found = json.loads((run.folder / "summary.json").read_text())["studies"]["input-shift"]
    assert list(found) == list(SHIFTS) == [input_shift.NONE, *input_shift.SHIFTS]
    assert found["none"]["frozen"] == run.summary()["test_accuracy"]  # type: ignore[index]
    assert found["recolored"] == found["none"]  # gray
    assert all(0 <= each["again"] <= 1 for each in found.values())
    none = train(tmp_path / "none", "studies=[input-shift]", "norm=none")
    found = none.summary()["studies"]["input-shift"]  # type: ignore[index]
    assert {each["again"] for each in found.values()} == {None}


def test_what_shifts_do_to_images() -> None:
    light = torch.rand(3, 2, 5, 5)

    def shifted(name: str, images: torch.Tensor = light) -> torch.Tensor:
        shift, strength = SHIFTS[name]
        return shift(images, strength, torch.Generator().manual_seed(0))

    assert torch.equal(shifted("none"), light)
    assert torch.equal(shifted("dimmed to 0.3"), 0.3 * light)
    assert torch.allclose(shifted("inverted"), 1 - light)
    assert torch.equal(shifted("recolored"), light[:, [1, 0]])
    blurred = shifted("blurred 1×")
    assert torch.allclose(blurred[:, :, 2, 3], light[:, :, 1:4, 2:5].mean((2, 3)))
    assert torch.allclose(blurred[:, :, 0, 0], light[:, :, :2, :2].mean((2, 3)))
    assert torch.allclose(shifted("blurred 2×"), shifted("blurred 1×", blurred))
    squares = shifted("pixels of 2")
    assert torch.allclose(squares[:, :, 3, 2], light[:, :, 2:4, 2:4].mean((2, 3)))
    assert torch.allclose(squares[:, :, 4, 1], light[:, :, 4, :2].mean(2))  # cut off
    gray = torch.full((50, 1, 20, 20), 0.5)
    noise = shifted("noise of 0.1", gray) - gray
    assert abs(noise.std() - 0.1) < 0.003
    assert abs(noise.mean()) < 0.003
    strong = shifted("noise of 0.2", gray)
    assert (strong.min(), strong.max()) == (0, 1)
    assert torch.equal(shifted("noise of 0.2", gray), strong)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_pooling_agrees_with_torchs_eager_and_compiled(layout: torch.memory_format) -> None:
    x = torch.randint(0, 9, (2, 4, 7, 8)).float().to(memory_format=layout).requires_grad_()
    theirs, ours = nn.MaxPool2d(3, 2, padding=1), pooling.MaxPool2d(3, 2, padding=1)
    assert torch.equal(theirs(x), ours(x))
    opaque, _ = pooling._opaque(x, 3, 2, 1)
    assert torch.equal(theirs(x), opaque)
    (a,), (b,) = (torch.autograd.grad(y.square().sum(), x) for y in (theirs(x), opaque))
    assert torch.equal(a, b)
    told = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(pooling._opaque, (x, 3, 2, 1), test_utils=told)


def test_the_experiment_has_the_learning_rate_of_the_claims() -> None:
    config = configured("norm=none")
    assert config.optimizer.lr == fig2_arms.LR
    settings = dict(words.split("=") for words in fig2_arms.CHANGES.values())
    known = c.flat(c.to_dict(config))
    assert all(str(known[name]) != value for name, value in settings.items())
    assert len(settings) == 7
