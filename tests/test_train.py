"""The loop against one written out by hand, its order, its end, and starting in the middle."""

import copy
import itertools
from collections import Counter

import pytest
import torch
from torch.nn.functional import cross_entropy, dropout

from bnrepro import config as c
from bnrepro.config.compose import compose
from bnrepro.data import Dataset, permutation
from bnrepro.errors import ConfigError
from bnrepro.nn import build
from bnrepro.training import optim
from bnrepro.training.loop import DivergedError, LoopState, evaluate, first_step, train
from bnrepro.training.step import CompiledStep, EagerStep, UniformDropout

SHORT = ["dataset=digits", "train.steps=50", "train.log_every=1", "train.eval_every=25",
         "train.checkpoint_every=20", "probe.every=10", "model.hidden=[20,20]"]  # fmt: skip


CONVOLUTIONS = ("model=inception", "init=he", "model.modules=[3a]", "model.stem_stride=1",
                "model.lrn=true")  # fmt: skip


def configured(*overrides: str) -> c.Config:
    return compose([*SHORT, *overrides]).config


class Notes:
    """Callbacks that write down what they hear."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.probed: list[int] = []
        self.kept: list[int] = []

    def record(self, step: int, values: dict[str, float]) -> None:
        self.lines.append((step, values))

    def probe(self, step: int) -> None:
        self.probed.append(step)

    def checkpoint(self, state: LoopState) -> None:
        self.kept.append(state.step)

    def stopping(self) -> bool:
        return False

    @property
    def losses(self) -> list[float]:
        return [values["train_loss"] for _, values in self.lines if "train_loss" in values]


def fresh(config: c.Config, digits: Dataset) -> tuple[torch.nn.Module, optim.Optimizer]:
    torch.manual_seed(config.seed)
    model = build.build(config, digits.image_shape, 10)
    return model, optim.build(config.optimizer, model.parameters())


def run(
    config: c.Config, digits: Dataset, *, compiled: bool = False
) -> tuple[torch.nn.Module, Notes]:
    model, optimizer = fresh(config, digits)
    notes = Notes()
    step: EagerStep | CompiledStep = EagerStep(model, optimizer, digits.train)
    if compiled:
        example = first_step(config, digits.train.labels)
        model.train()
        step = CompiledStep(model, optimizer, digits.train, example, lambda line: None)
    train(step, model, optim.schedule(config), digits, config, notes, LoopState())
    return model, notes


def train_eagerly(
    model: torch.nn.Module,
    optimizer: optim.Optimizer,
    digits: Dataset,
    config: c.Config,
    notes: Notes,
    state: LoopState | None = None,
) -> None:
    step, schedule = EagerStep(model, optimizer, digits.train), optim.schedule(config)
    train(step, model, schedule, digits, config, notes, state or LoopState())


@pytest.mark.parametrize("norm", ["none", "batch", "torch"])
@pytest.mark.parametrize("optimizer", ["optimizer.momentum=0.9", "optimizer=adam"])
def test_training_is_the_plain_loop(digits: Dataset, norm: str, optimizer: str) -> None:
    config = configured(f"norm={norm}", optimizer, "model.dropout=0.1", "schedule=linear")
    model, notes = run(config, digits)
    plain, steps = fresh(config, digits)
    rate = optim.schedule(config)
    losses = []
    plain.train()
    while len(losses) < 50:
        order = permutation(config.seed, len(losses) // 22, len(digits.train.labels))
        for batch in order.split(60)[: 50 - len(losses)]:
            steps.zero_grad()
            loss = cross_entropy(plain(digits.train.images[batch]), digits.train.labels[batch])
            loss.backward()
            steps.step(rate(len(losses)))
            losses.append(loss.item())
    assert notes.losses == losses
    for ours, theirs in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("norm", "optimizer"),
    [("batch", "sgd"), ("torch", "adam"), ("none", "adam"), ("detached", "sgd"),
     ("batch norm.ghost_size=4 norm.affine=false train.steps=20", "adagrad")],
)  # fmt: skip
def test_the_compiled_loop_computes_the_same(digits: Dataset, norm: str, optimizer: str) -> None:
    config = configured(
        *f"norm={norm}".split(), f"optimizer={optimizer}", "optimizer.lr=0.01", "model.dropout=0.1",
        "optimizer.weight_decay=0.001", "schedule=linear", "augment.shift=1",
    )  # fmt: skip
    with UniformDropout():  # the same masks
        plain, notes = run(config, digits)
    compiled, told = run(config, digits, compiled=True)
    assert told.losses == pytest.approx(notes.losses, rel=1e-3)
    for ours, theirs in zip(compiled.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    again, repeated = run(config, digits, compiled=True)
    assert repeated.lines == told.lines
    for ours, theirs in zip(again.parameters(), compiled.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_dropout_by_uniform_numbers_is_dropout() -> None:
    x = torch.ones(100, 1000, requires_grad=True)

    def dropped(seed: int, **options: bool) -> torch.Tensor:
        torch.manual_seed(seed)
        with UniformDropout():
            return dropout(x, 0.2, **options)

    y = dropped(0)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())
    kept = y > 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / 0.8))
    deviation = (0.8 * 0.2 / x.numel()) ** 0.5
    assert abs(kept.double().mean().item() - 0.8) < 5 * deviation
    assert torch.equal(dropped(0), y)
    assert not torch.equal(dropped(1), y)
    assert torch.equal(dropped(0, training=False), x)


def test_the_listener_is_called_at_the_right_steps(digits: Dataset) -> None:
    _, notes = run(configured("train.log_every=20"), digits)
    assert [step for step, _ in notes.lines] == [0, 20, 25, 40, 50]
    assert [step for step, values in notes.lines if "test_accuracy" in values] == [0, 25, 50]
    assert notes.probed == [0, 10, 20, 30, 40, 50]
    assert notes.kept == [20, 40, 50]


def test_a_line_is_the_mean_loss_since_the_last(digits: Dataset) -> None:
    each = run(configured(), digits)[1].losses
    lines = run(configured("train.log_every=20"), digits)[1].losses
    ends = [0, 20, 25, 40, 50]
    expected = [sum(each[a:b]) / (b - a) for a, b in itertools.pairwise(ends)]
    assert lines == pytest.approx(expected, rel=1e-6)


def test_every_image_is_seen_once_an_epoch(digits: Dataset) -> None:
    seen: list[torch.Tensor] = []
    config = configured("train.steps=44", "probe.every=0", "train.eval_every=1000")
    model, optimizer = fresh(config, digits)
    model.register_forward_pre_hook(lambda m, x: seen.append(x[0]) if m.training else None)
    train_eagerly(model, optimizer, digits, config, Notes())
    assert [len(batch) for batch in seen] == [*[60] * 21, 37] * 2

    def images(batches: list[torch.Tensor]) -> Counter[bytes]:
        return Counter(image.numpy().tobytes() for image in torch.cat(batches))

    expected = images([digits.train.images])
    assert images(seen[:22]) == images(seen[22:]) == expected
    assert not torch.equal(seen[0], seen[22])


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_training_from_the_middle_is_the_same(digits: Dataset, norm: str) -> None:
    config = configured(f"norm={norm}", "model.dropout=0.3", "optimizer=adam", "train.log_every=7")
    whole, notes = run(config, digits)
    half = configured(f"norm={norm}", "model.dropout=0.3", "optimizer=adam", "train.log_every=7",
                      "train.steps=31")  # fmt: skip
    model, optimizer = fresh(config, digits)
    state = LoopState()

    class StopError(Exception):
        pass

    class Stopping(Notes):
        def probe(self, step: int) -> None:
            if step == 30:
                raise StopError

    with pytest.raises(StopError):
        train_eagerly(model, optimizer, digits, half, Stopping(), state)
    assert state.step == 30
    assert len(state.losses) == 2  # since the line at 28
    states = copy.deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))
    again, fresh_optimizer = fresh(config, digits)
    again.load_state_dict(states[0])
    fresh_optimizer.load_state_dict(states[1])
    torch.set_rng_state(states[2])
    rest = Notes()
    train_eagerly(again, fresh_optimizer, digits, config, rest, state)
    assert rest.lines == [line for line in notes.lines if line[0] > 30]
    for ours, theirs in zip(again.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("bad", [1, 7, 20, 50])
def test_the_first_non_finite_loss_ends_training(digits: Dataset, bad: int) -> None:
    config = configured("train.log_every=9", "norm=none")
    model, optimizer = fresh(config, digits)
    calls = 0

    def poison(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += module.training
        return output * float("nan") if module.training and calls == bad else output

    model.register_forward_hook(poison)
    notes = Notes()
    with pytest.raises(DivergedError) as error:
        train_eagerly(model, optimizer, digits, config, notes)
    assert error.value.step == bad
    assert all(step < bad for step, _ in notes.lines)
    assert all(step < bad for step in [*notes.probed, *notes.kept])


def test_weights_ruined_by_the_last_update_are_found(digits: Dataset) -> None:
    config = configured("train.steps=1", "norm=none")
    model, _ = fresh(config, digits)

    class Ruining(optim.Sgd):
        def step(self, lr: float) -> None:
            next(iter(model.parameters())).data.fill_(float("nan"))

    optimizer = Ruining(config.optimizer, model.parameters())
    with pytest.raises(DivergedError) as error:
        train_eagerly(model, optimizer, digits, config, Notes())
    assert error.value.step == 1


def test_evaluation_sees_every_image_and_changes_nothing(digits: Dataset) -> None:
    model, _ = run(configured("model.dropout=0.5"), digits)
    model.train()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    found = evaluate(model, digits)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    model.eval()
    with torch.no_grad():
        logits = model(digits.test.images)
    assert len(digits.test.labels) == 300
    right = (logits.argmax(1) == digits.test.labels).sum().item()
    assert found["test_accuracy"] == right / 300
    assert found["test_loss"] == pytest.approx(cross_entropy(logits, digits.test.labels).item())


@pytest.mark.parametrize("words", [(), CONVOLUTIONS])
@pytest.mark.parametrize("chunk", [7, 100, 299, 300, 1000])
def test_evaluation_covers_the_whole_split_whatever_the_chunks(
    digits: Dataset, chunk: int, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "EVALUATION_BATCH_OF_MAPS" if words else "EVALUATION_BATCH"
    monkeypatch.setattr(f"bnrepro.training.loop.{name}", chunk)
    few = [word for word in SHORT if not (words and word.startswith("model"))]
    model, _ = run(compose([*few, *words, "train.steps=5"]).config, digits)
    found = evaluate(model, digits)
    model.eval()
    with torch.no_grad():
        for name, split in (("test", digits.test), ("validation", digits.validation)):
            logits = model(split.images)
            right = (logits.argmax(1) == split.labels).double().mean().item()
            assert found[f"{name}_accuracy"] == pytest.approx(right, abs=1e-12)
            loss = cross_entropy(logits.double(), split.labels).item()
            assert found[f"{name}_loss"] == pytest.approx(loss, rel=1e-6)


def test_test_images_are_looked_at_as_often_as_is_said(digits: Dataset) -> None:
    often = ["train.steps=50", "train.eval_every=10"]
    model, notes = run(configured(*often, "train.test_every=20"), digits)
    same, usual = run(configured(*often), digits)
    tested = [step for step, values in notes.lines if "test_accuracy" in values]
    validated = [step for step, values in notes.lines if "validation_accuracy" in values]
    assert tested == [0, 20, 40, 50]
    assert validated == [0, 10, 20, 30, 40, 50]
    for (step, values), (_, all_of_them) in zip(notes.lines, usual.lines, strict=True):
        assert values == {name: all_of_them[name] for name in values}, step
    for ours, theirs in zip(model.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ConfigError, match=r"25 \(train.test_every\): .* train.eval_every=10"):
        configured(*often, "train.test_every=25")


@pytest.mark.parametrize(
    ("logged", "evaluated"), [(1, 1000), (4, 1000), (50, 1000), (50, 1), (50, 2), (1, 3)]
)
def test_divergence_has_the_same_step_whatever_the_logging(
    digits: Dataset, logged: int, evaluated: int
) -> None:
    config = configured("norm=none", "model.activation=relu", "init=he", "optimizer.lr=30",
                        "model.hidden=[100,100,100]", "probe.every=0", f"train.log_every={logged}",
                        f"train.eval_every={evaluated}", "train.checkpoint_every=1000")  # fmt: skip
    plain, steps = fresh(config, digits)
    for expected in range(1, 22):  # within the first epoch
        batch = permutation(config.seed, 0, len(digits.train.labels))[60 * (expected - 1) :][:60]
        loss = cross_entropy(plain(digits.train.images[batch]), digits.train.labels[batch])
        if not loss.isfinite():
            break
        steps.zero_grad()
        loss.backward()
        steps.step(30)
    assert 4 < expected < 21
    model, optimizer = fresh(config, digits)
    notes = Notes()
    with pytest.raises(DivergedError, match=f"at step {expected}$") as error:
        train_eagerly(model, optimizer, digits, config, notes)
    assert error.value.step == expected
    lines = {0, *range(logged, expected, logged), *range(evaluated, expected, evaluated)}
    assert [step for step, _ in notes.lines] == sorted(lines)


def test_schedules_begin_at_the_learning_rate_and_end_at_their_floor() -> None:
    for name in ("linear", "exponential"):
        config = configured(f"schedule={name}", "schedule.final=0.1", "optimizer.lr=0.5")
        rate = optim.schedule(config)
        assert rate(0) == 0.5
        assert rate(49) == pytest.approx(0.05)
        assert all(rate(step) > rate(step + 1) for step in range(49))
    assert optim.schedule(configured())(49) == 0.07
    linear = optim.schedule(configured("schedule=linear", "schedule.final=0.5"))
    assert linear(7) - linear(8) == pytest.approx(linear(30) - linear(31))
