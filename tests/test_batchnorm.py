"""Batch normalization against NumPy, against torch's layers, and against the paper's statements."""

import copy
import inspect
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from bnrepro.nn import batchnorm as ours
from bnrepro.nn.batchnorm import batch_norm
from bnrepro.nn.blocks import PointwiseConv2d
from bnrepro.nn.inference import batch_statistics, fold, population_statistics

SHAPES = [(7, 5), (60, 100), (4, 3, 6), (2, 3, 1), (5, 4, 3, 2), (1, 3, 2, 2), (8, 16, 5, 5)]
TOLERANCE: dict[torch.dtype, dict[str, float]] = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 2e-5, "atol": 2e-5},
    # One unit in the last place.
    torch.bfloat16: {"rtol": 2**-7, "atol": 2**-10},
    torch.float16: {"rtol": 2**-10, "atol": 2**-13},
}
gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def layer_name(shape: tuple[int, ...]) -> str:
    return f"BatchNorm{max(len(shape) - 2, 1)}d"


def pair(shape: tuple[int, ...], **arguments: Any) -> tuple[Any, Any]:
    """Our layer and torch's, with the same random parameters and running statistics."""
    name = layer_name(shape)
    mine = getattr(ours, name)(shape[1], **arguments)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in (*mine.parameters(), *mine.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    theirs = getattr(nn, name)(shape[1], **arguments)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def sample(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = 1 + torch.arange(shape[1], dtype=torch.float64).view(-1, *[1] * (len(shape) - 2)) / 10
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (noise * scale + scale).to(dtype)


def assert_same_state(mine: nn.Module, theirs: nn.Module, **tolerance: float) -> None:
    a, b = mine.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    for key in a:
        torch.testing.assert_close(
            a[key].to(b[key].dtype), b[key], msg=lambda m, k=key: f"{k}: {m}", **tolerance
        )


def same_step(mine: nn.Module, theirs: nn.Module, x: Tensor, seed: int = 9) -> None:
    """One forward and backward pass of each; outputs, gradients and buffers must agree.

    In low precision torch rounds between its steps and strays from the truth by more than we do,
    so there `theirs` is first moved to float64, with our parameters and buffers.
    """
    tolerance = TOLERANCE[x.dtype]
    exact = x.dtype
    if x.dtype in (torch.float16, torch.bfloat16):
        exact = torch.float64
        theirs.double().load_state_dict(mine.state_dict())
    dy = sample(tuple(x.shape), x.dtype, seed).to(x.device)
    results = []
    for layer, dtype in ((mine, x.dtype), (theirs, exact)):
        layer.zero_grad()
        leaf = x.detach().to(dtype).clone().requires_grad_()
        y = layer(leaf)
        y.backward(dy.to(dtype))
        results.append([y, leaf.grad, *(p.grad for p in layer.parameters())])
    assert [t.dtype for t in results[0][:2]] == [x.dtype] * 2
    for a, b in zip(*results, strict=True):
        # Relative to the largest: the sums over a batch may cancel in some features.
        torch.testing.assert_close(
            a.to(exact),
            b,
            rtol=tolerance["rtol"],
            atol=tolerance["atol"] * max(1, float(b.detach().abs().max())),
        )
    # Both ends of the step towards the batch's statistics, of size about 1, have been rounded.
    rounding = {**tolerance, "atol": max(tolerance["atol"], tolerance["rtol"])}
    assert_same_state(mine, theirs, **rounding)


# --- against the float64 oracle ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [s for s in SHAPES if len(s) != 3])
def test_agrees_with_the_oracle(shape: tuple[int, ...]) -> None:
    layer, _ = pair(shape, dtype=torch.float64, momentum=0.3)
    gamma, beta, mean, var = (
        t.detach().numpy().copy()
        for t in (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    )
    for k in range(4):
        x = sample(shape, seed=k).requires_grad_()
        dy = sample(shape, seed=100 + k)
        layer.zero_grad()
        y = layer(x)
        y.backward(dy)
        expected, cache = oracle.forward(x.detach().numpy(), gamma, beta, layer.eps)
        dx, dgamma, dbeta = oracle.backward(dy.numpy(), cache)
        mean, var = oracle.running(mean, var, cache, 0.3)
        for got, want in (
            (y.detach(), expected),
            (x.grad, dx),
            (layer.weight.grad, dgamma),
            (layer.bias.grad, dbeta),
            (layer.running_mean, mean),
            (layer.running_var, var),
        ):
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-10, atol=1e-11)
    layer.eval()
    x = sample(shape, seed=50)
    expected = oracle.inference(x.numpy(), mean, var, gamma, beta, layer.eps)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-10, atol=1e-11)


def test_the_oracle_agrees_with_finite_differences() -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(3, 2, 2, 2)), rng.normal(size=(3, 2, 2, 2))
    gamma, beta = rng.normal(size=2), rng.normal(size=2)
    gradients = oracle.backward(dy, oracle.forward(x, gamma, beta, 1e-3)[1])
    for value, gradient in zip((x, gamma, beta), gradients, strict=True):
        for i in np.ndindex(value.shape):
            losses = []
            for step in (1e-6, -2e-6):
                value[i] += step
                losses.append(np.sum(dy * oracle.forward(x, gamma, beta, 1e-3)[0]))
            value[i] += 1e-6
            assert gradient[i] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(2, 9), st.integers(1, 6)),
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(2, 4)),
    ),
    mean=st.floats(-100, 100),
    spread=st.floats(1e-2, 100),
    eps=st.sampled_from([1e-5, 1e-3, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_agrees_with_the_oracle_anywhere(
    shape: tuple[int, ...], mean: float, spread: float, eps: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = mean + spread * rng.normal(size=shape)
    dy, gamma, beta = rng.normal(size=shape), rng.normal(size=shape[1]), rng.normal(size=shape[1])
    x, weight, bias = (torch.tensor(v, requires_grad=True) for v in (values, gamma, beta))
    y = batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    y.backward(torch.tensor(dy))
    expected, cache = oracle.forward(values, gamma, beta, eps)
    dx, dgamma, dbeta = oracle.backward(dy, cache)
    for got, want in (
        (y.detach(), expected),
        (x.grad, dx),
        (weight.grad, dgamma),
        (bias.grad, dbeta),
    ):
        scale = float(np.max(np.abs(want))) + 1.0
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-7, atol=1e-8 * scale)


# --- against torch's layers -------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"affine": False},
        {"bias": False},
        {"track_running_stats": False},
        {"affine": False, "track_running_stats": False},
        {"momentum": None},
        {"momentum": 0.0},
        {"momentum": 1.0, "eps": 1e-2},
    ],
    ids=str,
)
def test_agrees_with_torch(
    shape: tuple[int, ...], dtype: torch.dtype, arguments: dict[str, Any]
) -> None:
    if "bias" in arguments and "bias" not in inspect.signature(nn.BatchNorm1d).parameters:
        pytest.skip("this torch has no bias argument")
    mine, theirs = pair(shape, dtype=dtype, **arguments)
    for k in range(3):
        same_step(mine, theirs, sample(shape, dtype, seed=k))
    mine.eval(), theirs.eval()
    same_step(mine, theirs, sample(shape, dtype, seed=7))


@pytest.mark.reliability
@pytest.mark.parametrize("shape", [(60, 100), (5, 4, 3, 2)])
def test_the_compiled_layer_agrees_with_torch(shape: tuple[int, ...]) -> None:
    mine, theirs = pair(shape)
    mine.compile()
    for k in range(2):
        x = sample(shape, torch.float32, seed=k).contiguous(
            memory_format=torch.channels_last if len(shape) == 4 else torch.contiguous_format
        )
        same_step(mine, theirs, x)
    assert torch.equal(mine.num_batches_tracked, theirs.num_batches_tracked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(60, 100), (5, 4, 3, 2)])
def test_low_precision_input_with_float32_parameters(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    mine, theirs = pair(shape)
    for k in range(2):
        same_step(mine, theirs, sample(shape, dtype, seed=k))
    assert mine(sample(shape, dtype)).dtype == dtype
    mine.eval(), theirs.eval()
    same_step(mine, theirs, sample(shape, dtype, seed=7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_has_float32_statistics(dtype: torch.dtype) -> None:
    # 2,000 ones and a 3: a sum in float16 or bfloat16 would stall or overflow long before the end.
    x = torch.ones(2_000, 1, dtype=dtype)
    x[0] = 3
    layer = ours.BatchNorm1d(1, momentum=1.0)
    layer(x)
    assert layer.running_mean.item() == pytest.approx(1 + 2 / 2_000, rel=1e-6)
    assert layer.running_var.item() == pytest.approx(4 / 2_000, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_last_stays_channels_last(training: bool, dtype: torch.dtype) -> None:
    shape = (4, 6, 5, 3)
    mine, theirs = pair(shape)
    mine.train(training), theirs.train(training)
    x = sample(shape, dtype).to(memory_format=torch.channels_last)
    same_step(mine, theirs, x)
    for layout in (torch.channels_last, torch.contiguous_format):
        leaf = x.clone(memory_format=layout).requires_grad_()
        y = mine(leaf)
        y.backward(x.to(memory_format=layout))
        assert leaf.grad is not None
        assert y.is_contiguous(memory_format=layout)
        assert leaf.grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::2],
        lambda x: x[:, 1::2],
        lambda x: x.transpose(0, 1),
        lambda x: x[:1].expand(6, *x.shape[1:]),
        lambda x: x.flip(0)[:, :3],
    ],
    ids=["rows", "columns", "transposed", "expanded", "flipped"],
)
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 3, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_views(view: Any, shape: tuple[int, ...], training: bool) -> None:
    x = view(sample(shape))
    mine, theirs = pair(tuple(x.shape), dtype=torch.float64)
    mine.train(training), theirs.train(training)
    before = x.clone()
    torch.testing.assert_close(mine(x), theirs(x), rtol=1e-10, atol=1e-10)
    assert torch.equal(x, before)
    leaf = sample(shape).requires_grad_()
    gradients = []
    for layer in (mine, theirs):
        y = layer(view(leaf))
        gradients.append(torch.autograd.grad(y, leaf, sample(tuple(y.shape), seed=4).mT.mT)[0])
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["ours", "torch"])
def test_tracking_switched_off_while_training(kind: str) -> None:
    """What probes rely on, of either layer."""
    layer = pair((6, 3))[kind == "torch"]
    state = copy.deepcopy(layer.state_dict())
    x = sample((6, 3), torch.float32)
    expected = batch_norm(x, None, None, layer.weight, layer.bias, training=True)
    layer.track_running_stats = False
    torch.testing.assert_close(layer(x), expected)
    assert all(torch.equal(state[k], v) for k, v in layer.state_dict().items())
    layer.eval()  # the buffers are there, so evaluation uses them
    expected = batch_norm(x, state["running_mean"], state["running_var"], layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_volumes_agree_with_torch(training: bool, layout: torch.memory_format) -> None:
    mine, theirs = pair((2, 3, 2, 3, 2))
    mine.train(training), theirs.train(training)
    x = sample((2, 3, 2, 3, 2), torch.float32).contiguous(memory_format=layout)
    for k in range(2):
        same_step(mine, theirs, x + k)
    assert mine(x).is_contiguous(memory_format=layout)


EMPTY = [
    ((0, 3), torch.contiguous_format),
    ((0, 3, 4), torch.contiguous_format),
    ((0, 3, 2, 2), torch.contiguous_format),
    ((0, 3, 2, 2), torch.channels_last),
    ((4, 3, 0, 2), torch.channels_last),
    ((0, 3, 2, 2, 2), torch.channels_last_3d),
]


@pytest.mark.parametrize("compiled", [False, True])
def test_an_empty_batch_changes_nothing(compiled: bool) -> None:
    for shape, layout in EMPTY[-3:] if compiled else EMPTY:
        mine, theirs = pair(shape)
        if compiled:
            mine.compile(backend="aot_eager", fullgraph=True)
        for layer in (mine, theirs):
            y = layer(torch.zeros(shape).contiguous(memory_format=layout))
            y.sum().backward()
            assert y.shape == shape
        assert_same_state(mine, theirs)
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("compiled", [False, True])
def test_statistics_in_half_precision_overflow_no_sooner_than_torchs(compiled: bool) -> None:
    x = torch.linspace(-700, 700, 1000).unsqueeze(1).half()  # a variance of 163,000
    layers = ours.BatchNorm1d(1).half(), nn.BatchNorm1d(1).half()
    if compiled:
        layers[0].compile(backend="aot_eager")
    for layer in layers:
        layer(x)
    assert layers[0].running_var.item() == layers[1].running_var.item()
    assert layers[0].running_var.item() == pytest.approx(16_300, rel=0.01)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_lazy_layer_becomes_ours_with_its_first_batch(dimensions: int) -> None:
    x = sample((4, 3, 2, 2, 2)[: dimensions + 2], torch.float32)
    name = f"LazyBatchNorm{dimensions}d"
    mine, theirs = getattr(ours, name)(), getattr(nn, name)()
    with Recorder() as recorder:
        y = mine(x)
    assert not [name for name in recorder.names if "batch_norm" in name]
    assert type(mine) is getattr(ours, f"BatchNorm{dimensions}d")
    torch.testing.assert_close(y, theirs(x))
    assert_same_state(mine, theirs)


# --- where torch's own tools look for a batch-norm layer --------------------------------------


def test_update_bn_sets_the_statistics() -> None:
    models = nn.Sequential(ours.BatchNorm1d(3)), nn.Sequential(nn.BatchNorm1d(3))
    loader = [(sample((9, 3), torch.float32, seed) + 7, torch.zeros(9)) for seed in range(3)]
    for model in models:
        torch.optim.swa_utils.update_bn(loader, model)
    assert_same_state(*models)
    assert (models[0][0].running_mean > 6).all()


def test_synchronized_layers_take_the_place_of_ours() -> None:
    model = nn.Sequential(pair((4, 3, 2, 2))[0]).eval()
    x = sample((4, 3, 2, 2), torch.float32)
    expected, weight = model(x), model[0].weight
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(model[0]) is nn.SyncBatchNorm
    assert model[0].weight is weight
    torch.testing.assert_close(model(x), expected)


def test_a_filter_for_weight_decay_finds_ours() -> None:
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        layer = getattr(ours, name)(3)
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        assert isinstance(layer, getattr(nn, name))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch scripts a function of its own
def test_functional_transforms_agree_with_torchs_layer() -> None:
    func = torch.func
    x, tangent = sample((6, 4, 3, 3)), sample((6, 4, 3, 3), seed=2)
    results = []
    for layer in pair((6, 4, 3, 3), dtype=torch.float64):
        model = nn.Sequential(nn.Conv2d(4, 4, 1, dtype=torch.float64), layer)
        for value in model[0].parameters():
            nn.init.ones_(value)
        func.replace_all_batch_norm_modules_(model)
        assert layer.running_mean is None

        def loss(parameters: Any, x: Tensor, model: Any = model) -> Tensor:
            y: Tensor = func.functional_call(model, parameters, (x,))
            return y.pow(3).sum()

        def gradient(x: Tensor, layer: Any = layer) -> Tensor:
            value: Tensor = func.grad(lambda x: layer(x).pow(3).sum())(x)
            return value

        parameters = dict(model.named_parameters())
        per_batch = func.vmap(func.grad(loss), (None, 0))(parameters, torch.stack([x, 2 * x]))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, tangent)
            forward_mode = torch.autograd.forward_ad.unpack_dual(layer(dual)).tangent
        found = [
            *func.grad(loss)(parameters, x).values(),
            *per_batch.values(),
            *func.jvp(layer, (x,), (tangent,)),
            forward_mode,
            func.jacrev(layer)(x[:2, :, :1, :1]),
            *func.jvp(gradient, (x,), (tangent,)),
        ]
        results.append(found)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_batch_of_gradients_at_once() -> None:
    for shape in ((6, 3), (4, 3, 2, 2)):
        layer = pair(shape)[0]
        x = sample(shape, torch.float32).requires_grad_()
        y = layer(x)
        upstream = torch.stack([sample(shape, torch.float32, seed) for seed in range(3)])
        inputs = x, layer.weight, layer.bias

        def backward(v: Tensor, y: Any = y, inputs: Any = inputs) -> tuple[Tensor, ...]:
            return torch.autograd.grad(y, inputs, v, retain_graph=True)

        one_by_one = [torch.stack(g) for g in zip(*map(backward, upstream), strict=True)]
        batched = torch.autograd.grad(y, inputs, upstream, is_grads_batched=True, retain_graph=True)
        for found in (batched, torch.func.vmap(backward)(upstream)):
            torch.testing.assert_close(list(found), one_by_one)


@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_no_tensor_outlives_its_call(kind: str) -> None:
    mode: Any = torch.device("meta") if kind == "meta" else FakeTensorMode()
    shape = (len(kind) + 30, 3)  # a size that no other batch of these tests has
    with mode:
        layer = ours.BatchNorm1d(3)
        y = layer(torch.zeros(shape, requires_grad=True))
    y.sum().backward()
    layer(torch.empty_like(y))  # of the mode's kind, but outside it
    same_step(*pair(shape), sample(shape, torch.float32))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 2), (4, 3, 2, 2, 2)])
@pytest.mark.parametrize(
    "arguments", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)  # fmt: skip
def test_the_scripted_layer_agrees_with_torch(
    shape: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    mine, theirs = pair(shape, dtype=torch.float64, **arguments)
    scripted = torch.jit.script(mine)
    for k in range(2):
        same_step(scripted, theirs, sample(shape, seed=k))
    stored = io.BytesIO()
    torch.jit.save(scripted, stored)
    stored.seek(0)
    x = sample(shape)
    torch.testing.assert_close(torch.jit.load(stored).eval()(x), theirs.eval()(x))


def test_a_symbolic_trace_has_the_layer_as_one_step_with_both_modes() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Sequential(ours.BatchNorm1d(3)), nn.ReLU())
    traced = torch.fx.symbolic_trace(copy.deepcopy(model))
    targets = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert targets == ["0", "1.0", "2"]
    for training in (True, False):
        model.train(training), traced.train(training)
        x = sample((6, 4), torch.float32)
        assert torch.equal(traced(x), model(x))
    assert_same_state(traced, model, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_a_trace_in_training_holds_for_other_batches() -> None:
    mine, theirs = pair((6, 3))
    traced = torch.jit.trace(mine, torch.zeros(6, 3), check_trace=False)
    mine.load_state_dict(theirs.state_dict())
    x = sample((6, 3), torch.float32)
    torch.testing.assert_close(traced(x), theirs(x))


def test_signature_attributes_and_repr_are_torchs() -> None:
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        mine, theirs = getattr(ours, name), getattr(nn, name)
        a, b = (inspect.signature(cls).parameters for cls in (mine, theirs))
        extra = set(a) - set(b)
        assert extra <= {"bias"}  # torch has it since 2.12
        assert [k for k in a if k not in extra] == list(b)
        assert all(a[k].default == b[k].default and a[k].kind == b[k].kind for k in b)
        for arguments in ({}, {"affine": False, "eps": 1e-3}, {"momentum": None}):
            x, y = mine(4, **arguments), theirs(4, **arguments)
            public = {k for k in vars(y) if not k.startswith("_")}
            assert {k: vars(x)[k] for k in public} == {k: vars(y)[k] for k in public}
            assert x._version == y._version
            if not extra:
                assert repr(x) == repr(y)
    a, b = (inspect.signature(f).parameters for f in (batch_norm, nn.functional.batch_norm))
    assert [p.default for p in a.values()] == [p.default for p in b.values()]
    assert list(a)[1:] == list(b)[1:]


def test_device_and_dtype_of_a_new_layer() -> None:
    layer = ours.BatchNorm2d(4, device="meta", dtype=torch.float64)
    values = [*layer.parameters(), *layer.buffers()]
    assert {v.device.type for v in values} == {"meta"}
    assert [v.dtype for v in values] == [torch.float64] * 4 + [torch.long]


def test_resetting() -> None:
    layer, _ = pair((6, 3))
    layer(sample((6, 3), torch.float32))
    weight = layer.weight.detach().clone()
    layer.reset_running_stats()
    assert torch.equal(layer.weight, weight)
    fresh = ours.BatchNorm1d(3).state_dict()
    assert torch.equal(layer.running_var, fresh["running_var"])
    layer.reset_parameters()
    assert all(torch.equal(fresh[k], v) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"track_running_stats": False}])
def test_state_dicts_are_exchanged_with_torch(arguments: dict[str, Any]) -> None:
    shape = (6, 3)
    layers = pair(shape, **arguments)
    for source in layers:
        for k in range(2):
            source(sample(shape, torch.float32, seed=k))
        for kind in (ours, nn):
            target = nn.Sequential(kind.BatchNorm1d(3, **arguments))
            result = target.load_state_dict(nn.Sequential(source).state_dict())
            assert not result.missing_keys
            assert not result.unexpected_keys
            assert_same_state(target[0], source, rtol=0, atol=0)


def test_state_dicts_without_a_batch_count_load() -> None:
    for kind in (ours, nn):
        state = pair((6, 3))[0].state_dict()
        del state["num_batches_tracked"]
        layer = kind.BatchNorm1d(3)
        layer.num_batches_tracked.fill_(5)
        with pytest.raises(RuntimeError, match="num_batches_tracked"):
            layer.load_state_dict(copy.deepcopy(state))  # its metadata says version 2
        state._metadata[""]["version"] = 1
        layer.load_state_dict(copy.deepcopy(state))
        assert layer.num_batches_tracked == 5
        layer.load_state_dict(dict(state))  # and without metadata
        assert torch.equal(layer.running_mean, state["running_mean"])


# --- input checks -----------------------------------------------------------------------------

ZEROS = torch.zeros
BAD_CALLS: dict[str, tuple[str, dict[str, Any], Tensor]] = {
    "1d of (C,)": ("BatchNorm1d", {}, ZEROS(3)),
    "1d of images": ("BatchNorm1d", {}, ZEROS(2, 3, 2, 2)),
    "2d of (N, C)": ("BatchNorm2d", {}, ZEROS(2, 3)),
    "2d of 5 dimensions": ("BatchNorm2d", {}, ZEROS(2, 3, 2, 2, 2)),
    "one example": ("BatchNorm1d", {}, ZEROS(1, 3)),
    "one example of length 1": ("BatchNorm1d", {}, ZEROS(1, 3, 1)),
    "one pixel": ("BatchNorm2d", {}, ZEROS(1, 3, 1, 1)),
    "one example, no buffers": ("BatchNorm1d", {"track_running_stats": False}, ZEROS(1, 3)),
    "channels": ("BatchNorm1d", {}, ZEROS(4, 5)),
    "channels, no affine": ("BatchNorm1d", {"affine": False}, ZEROS(4, 5)),
    "channels, no buffers": ("BatchNorm1d", {"track_running_stats": False}, ZEROS(4, 5)),
    "channels of images": ("BatchNorm2d", {}, ZEROS(4, 5, 2, 2)),
    "eps 0": ("BatchNorm1d", {"eps": 0.0}, ZEROS(4, 3)),
    "eps below 0": ("BatchNorm1d", {"eps": -1.0}, ZEROS(4, 3)),
}
OUTCOMES = {True: 14, False: 10}  # how many of them torch refuses in training, in evaluation


def outcome(call: Callable[..., Tensor], *args: Any) -> tuple[type[Exception], str] | None:
    try:
        call(*args)
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize("training", [True, False])
def test_refuses_what_torch_refuses_in_the_same_words(training: bool) -> None:
    refused = 0
    for label, (name, arguments, x) in BAD_CALLS.items():
        mine = getattr(ours, name)(3, **arguments).train(training)
        theirs = getattr(nn, name)(3, **arguments).train(training)
        refusal = outcome(mine, x)
        assert refusal == outcome(theirs, x), label
        refused += refusal is not None
    assert refused == OUTCOMES[training]


def test_the_function_refuses_what_torchs_refuses() -> None:
    x, one, two = torch.zeros(4, 3), torch.ones(3), torch.ones(2)
    for arguments in (
        (x, None, None, one, one, False),
        (x, one, None, one, one, False),
        (x, one, None, one, one, True),
        (x, one, two, None, None, True),
        (x, one, one, one, two, True),
        (x, one, one, one, two, False),
    ):
        refusal = outcome(batch_norm, *arguments)
        assert refusal is not None
        assert refusal == outcome(nn.functional.batch_norm, *arguments)


@pytest.mark.parametrize("training", [True, False])
def test_refuses_the_types_torch_refuses(training: bool) -> None:
    low, single, double = torch.bfloat16, torch.float32, torch.float64
    for x_type, own_type in ((single, double), (double, single), (single, low), (low, double)):
        for kind in (ours, nn):
            layer = kind.BatchNorm1d(3, dtype=own_type).train(training)
            with pytest.raises(RuntimeError, match="mixed dtype"):
                layer(torch.zeros(4, 3, dtype=x_type))
    for x_type in (torch.long, torch.complex64):
        for kind in (ours, nn):
            layer = kind.BatchNorm1d(3).train(training)
            with pytest.raises(NotImplementedError, match='"batch_norm" not implemented for'):
                layer(torch.zeros(4, 3, dtype=x_type))


# --- derivatives ------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2), (2, 2, 2, 2)])
@pytest.mark.parametrize("wanted", ["xgb", "x", "g", "b", "xg", "gb", "x-", "xg-"])
def test_first_and_second_derivatives(training: bool, shape: tuple[int, ...], wanted: str) -> None:
    """`wanted` names the inputs that need a gradient; with - there is no β, and with x- no γ."""
    x = sample(shape).requires_grad_("x" in wanted)
    gamma = sample((1, shape[1]), seed=2)[0].requires_grad_("g" in wanted)
    beta = sample((1, shape[1]), seed=3)[0].requires_grad_("b" in wanted)
    given = [x, *([gamma] if wanted != "x-" else []), *([beta] if "-" not in wanted else [])]
    mean, var = torch.zeros(shape[1]).double(), torch.full((shape[1],), 2.0).double()

    def function(*tensors: Tensor) -> Tensor:
        weight, bias = (*tensors[1:], None, None)[:2]
        return batch_norm(tensors[0], mean, var, weight, bias, training, 0.0, 1e-2)

    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)


def test_third_derivative() -> None:
    x, weight = sample((4, 2)), sample((1, 2), seed=2)[0]

    def gradient(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        y = batch_norm(x, None, None, weight, None, True, eps=1e-2)
        return torch.autograd.grad(y.pow(3).sum(), (x, weight), create_graph=True)

    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradgradcheck(gradient, inputs)


def test_hessian_vector_product_agrees_with_torchs() -> None:
    products = []
    mine, theirs = pair((6, 4, 3, 3))
    for layer in (mine, theirs):
        x = sample((6, 4, 3, 3), torch.float32).requires_grad_()
        loss = (layer(x) * sample((6, 4, 3, 3), torch.float32, 5)).square().sum()
        inputs = (x, layer.weight, layer.bias)
        gradients = torch.autograd.grad(loss, inputs, create_graph=True)
        dot = sum(
            (g * torch.ones_like(g) * (i + 1)).square().sum() for i, g in enumerate(gradients)
        )
        products.append(torch.autograd.grad(dot, inputs))
    for a, b in zip(*products, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_the_output_may_be_changed_in_place() -> None:
    """As nn.ReLU(inplace=True) does; the backward pass must not need the output."""
    gradients = []
    mine, theirs = pair((6, 4))
    for layer in (mine, theirs):
        x = sample((6, 4), torch.float32).requires_grad_()
        torch.relu_(layer(x)).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, **TOLERANCE[torch.float32])


def test_statistics_stay_out_of_the_graph() -> None:
    layer, _ = pair((6, 3))
    layer(sample((6, 3), torch.float32).requires_grad_())
    assert not layer.running_mean.requires_grad
    assert not layer.running_var.requires_grad
    mean, address = layer.running_mean, layer.running_mean.data_ptr()
    layer(sample((6, 3), torch.float32, 1).requires_grad_())
    assert layer.running_mean is mean
    assert mean.data_ptr() == address


# --- in groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("shape", "size"), [((12, 5), 4), ((12, 5), 12), ((6, 3, 4, 2), 2)])
def test_groups_are_normalized_as_by_a_layer_of_torchs_each(
    shape: tuple[int, ...], size: int, affine: bool, momentum: float | None
) -> None:
    groups = shape[0] // size
    mine, torchs = pair(shape, dtype=torch.float64, momentum=momentum, affine=affine)
    mine.ghost_size, each = size, [copy.deepcopy(torchs) for _ in range(groups)]
    for seed in range(2):  # the second finds the averages moved
        x, dy = sample(shape, seed=seed).requires_grad_(), sample(shape, seed=9 + seed)
        leaf, expected = x.detach().clone().requires_grad_(), torch.empty_like(x)
        mine.zero_grad()
        y = mine(x)
        y.backward(dy)
        for group, layer in enumerate(each):
            layer.zero_grad()
            part = layer(leaf[group::groups])
            part.backward(dy[group::groups])
            expected[group::groups] = part.detach()
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(x.grad, leaf.grad)
        for name, parameter in mine.named_parameters():
            total = sum(layer.get_parameter(name).grad for layer in each)
            torch.testing.assert_close(parameter.grad, total)
        for name in ("running_mean", "running_var"):
            mean = torch.stack([layer.get_buffer(name) for layer in each]).mean(0)
            torch.testing.assert_close(mine.get_buffer(name), mean)
        assert mine.num_batches_tracked == seed + 1


def test_groups_have_second_derivatives() -> None:
    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return ours.ghost_batch_norm(x, None, None, weight, bias, 0.1, 1e-5, 3)

    inputs = [t.requires_grad_() for t in (sample((6, 2)), sample((1, 2))[0], sample((2, 2))[1])]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_groups_are_formed_while_training_only() -> None:
    plain, _ = pair((8, 3))
    grouped, x = copy.deepcopy(plain), sample((8, 3), torch.float32)
    grouped.ghost_size = 4
    assert not torch.allclose(grouped(x), plain(x), atol=1e-2)
    grouped.load_state_dict(plain.state_dict())
    with batch_statistics(plain), batch_statistics(grouped):
        assert torch.equal(grouped(x), plain(x))
    assert torch.equal(grouped.eval()(x), plain.eval()(x))
    linear = nn.Linear(2, 3)
    assert torch.equal(fold(linear, grouped).weight, fold(linear, plain).weight)
    with pytest.raises(ValueError, match="groups of 4 examples"):
        grouped.train()(x[:6])


def test_population_statistics_are_those_of_groups() -> None:
    grouped, whole = pair((8, 3), dtype=torch.float64)
    grouped.ghost_size = 2
    batches = [sample((8, 3), seed=seed) for seed in range(3)]
    population_statistics(grouped, batches)
    population_statistics(whole, [batch[group::4] for batch in batches for group in range(4)])
    assert_same_state(grouped, whole)


# --- how it computes --------------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_no_batch_norm_kernel_and_no_host_sync(dimensions: int, training: bool) -> None:
    names = {}
    for kind in (ours, nn):
        layer = getattr(kind, f"BatchNorm{dimensions}d")(3, momentum=None).train(training)
        x = sample((4, 3, 2, 2, 2)[: dimensions + 2], torch.float32).requires_grad_()
        with Recorder() as recorder:
            layer(x).square().sum().backward()
        names[kind] = recorder.names
    assert any("batch_norm" in name for name in names[nn])  # or the recorder sees nothing
    forbidden = ("batch_norm", "layer_norm", "group_norm", "native_norm", "_local_scalar_dense")
    assert names[ours]
    assert not [name for name in names[ours] if any(word in name for word in forbidden)]


def test_repeats_bit_for_bit() -> None:
    for shape in ((60, 100), (8, 16, 5, 5)):
        runs = []
        for _ in range(2):
            layer, _ = pair(shape)
            x = sample(shape, torch.float32).requires_grad_()
            y = layer(x)
            y.backward(sample(shape, torch.float32, 3))
            runs.append([y, x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_mean_much_larger_than_the_standard_deviation() -> None:
    """Float32 at 10,000 ± 0.01, where E[x²] - E[x]² would have no correct digit left.

    Neighbouring float32 are 0.001 apart there, so the mean is uncertain by about 0.1 deviations;
    that shifts the output of a feature as a whole, and adds its square, 1 %, to the variance.
    """
    generator = torch.Generator().manual_seed(0)
    x = (1e4 + 1e-2 * torch.randn(256, 20, generator=generator, dtype=torch.float64)).float()
    dy = torch.randn(256, 20, generator=generator)
    eps = 1e-10
    layer = ours.BatchNorm1d(20, eps=eps, momentum=1.0)
    leaf = x.clone().requires_grad_()
    y = layer(leaf)
    y.backward(dy)
    expected, cache = oracle.forward(x.double().numpy(), np.ones(20), np.zeros(20), eps)
    dx, _, _ = oracle.backward(dy.double().numpy(), cache)
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=0.2)
    np.testing.assert_allclose(
        layer.running_var.numpy(), cache.var * 256 / 255, rtol=0.02, err_msg="variance"
    )
    assert leaf.grad is not None
    error = np.linalg.norm(leaf.grad.numpy() - dx) / np.linalg.norm(dx)
    assert error < 0.03
    naive = x.square().mean(0) - x.mean(0).square()
    assert float((naive / torch.tensor(cache.var) - 1).abs().max()) > 10


def test_a_constant_feature() -> None:
    x = sample((8, 3), torch.float32)
    x[:, 1] = 3.0
    layer, theirs = pair((8, 3), momentum=1.0)
    same_step(layer, theirs, x)
    y = layer(x)
    assert torch.equal(y[:, 1], layer.bias[1].detach().expand(8))
    assert layer.running_var[1] == 0
    assert layer.running_mean[1] == 3


# --- what the paper says of it ----------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_output_has_mean_0_and_variance_1(shape: tuple[int, ...]) -> None:
    x = sample(shape)
    y = batch_norm(x, None, None, training=True, eps=1e-5)
    dims = [0, *range(2, x.dim())]
    var = x.var(dims, correction=0)
    torch.testing.assert_close(y.mean(dims), torch.zeros(shape[1]).double(), rtol=0, atol=1e-12)
    # ε is inside the root, so the variance is not 1 but σ²/(σ² + ε).
    torch.testing.assert_close(y.var(dims, correction=0), var / (var + 1e-5), rtol=1e-10, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_gamma_and_beta_give_the_identity(shape: tuple[int, ...]) -> None:
    x = sample(shape)
    dims = [0, *range(2, x.dim())]
    gamma = (x.var(dims, correction=0) + 1e-5).sqrt()
    y = batch_norm(x, None, None, gamma, x.mean(dims), training=True, eps=1e-5)
    torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("a", [1e-2, 0.5, 3.0, 1e3, -2.0])
def test_the_scale_of_the_weights_does_not_matter(a: float) -> None:
    """§3.3: BN(aWu) = BN(Wu), and so for ∂/∂u, while ∂/∂(aW) is 1/a of ∂/∂W. a < 0: all flip."""
    tiny = 1e-30
    u, w = sample((12, 5)), sample((4, 5), seed=1)
    dy = sample((12, 4), seed=2)
    results = []
    for scale in (1.0, a):
        u_, w_ = u.clone().requires_grad_(), (scale * w).requires_grad_()
        y = batch_norm(u_ @ w_.T, None, None, training=True, eps=tiny)
        y.backward(dy)
        results.append((y.detach(), u_.grad, w_.grad))
    (y, du, dw), (y_a, du_a, dw_a) = results
    sign = math.copysign(1.0, a)
    torch.testing.assert_close(y_a, sign * y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(du_a, sign * du, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(dw_a * abs(a), dw, rtol=1e-8, atol=1e-9)
    # Hence w ↦ loss is constant along w: each unit's gradient is orthogonal to its weights.
    orthogonal = (w * dw).sum(1) / (w.norm(dim=1) * dw.norm(dim=1))
    torch.testing.assert_close(orthogonal, torch.zeros(4).double(), rtol=0, atol=1e-10)


def test_a_bias_before_the_layer_has_no_effect() -> None:
    x = sample((8, 5, 2, 2)).requires_grad_()
    b = sample((1, 5), seed=1)[0].view(5, 1, 1).requires_grad_()
    y = batch_norm(x + b, None, None, training=True)
    torch.testing.assert_close(y, batch_norm(x, None, None, training=True), rtol=0, atol=1e-12)
    dx, db = torch.autograd.grad(y, (x, b), sample((8, 5, 2, 2), seed=3))
    torch.testing.assert_close(db, torch.zeros_like(db), rtol=0, atol=1e-12)
    torch.testing.assert_close(dx.sum((0, 2, 3)), torch.zeros(5).double(), rtol=0, atol=1e-12)


# --- Algorithm 2 ------------------------------------------------------------------------------


def network(kind: Any = ours, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 5, bias=False),
        kind.BatchNorm1d(5),
        nn.Sigmoid(),
        nn.Dropout(0.5),
        nn.Linear(5, 3),
        kind.BatchNorm1d(3, momentum=0.3),
    ).to(dtype)
    for layer in (model[1], model[5]):
        layer.weight.data.uniform_(0.5, 1.5)
        layer.bias.data.uniform_(-1, 1)
    return model


@pytest.mark.parametrize("kind", [ours, nn], ids=["ours", "torch"])
def test_population_statistics_by_hand(kind: Any) -> None:
    model = network(kind)
    model[3].train(False)
    model[1].num_batches_tracked.fill_(17)
    parameters = [p.detach().clone() for p in model.parameters()]
    flags = [m.training for m in model.modules()]
    m = 6
    batches = [sample((m, 4), seed=k) for k in range(3)]
    assert population_statistics(model, iter(batches)) is None

    w1, g1, b1, w2, c2 = (p.numpy() for p in parameters[:5])
    means: list[list[Any]] = [[], []]
    variances: list[list[Any]] = [[], []]
    for batch in batches:
        h = batch.numpy() @ w1.T
        means[0].append(h.mean(0)), variances[0].append(h.var(0))
        h = g1 * (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5) + b1
        h = (1 / (1 + np.exp(-h))) @ w2.T + c2
        means[1].append(h.mean(0)), variances[1].append(h.var(0))
    for layer, mean, var in zip((model[1], model[5]), means, variances, strict=True):
        np.testing.assert_allclose(layer.running_mean, np.mean(mean, axis=0), rtol=1e-10)
        expected = m / (m - 1) * np.mean(var, axis=0)
        np.testing.assert_allclose(layer.running_var, expected, rtol=1e-10)

    assert [m.training for m in model.modules()] == flags
    assert (model[1].momentum, model[5].momentum) == (0.1, 0.3)
    assert model[1].track_running_stats
    assert model[1].num_batches_tracked == 17
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_population_statistics_of_convolutions_count_locations() -> None:
    model = nn.Sequential(ours.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)).double().eval()
    batches = [sample((2, 3, 2, 3), seed=k) for k in range(2)]
    population_statistics(model, batches)
    rows = [oracle.to_rows(b.numpy()) for b in batches]
    m = 2 * 2 * 3
    np.testing.assert_allclose(
        model[0].running_mean, np.mean([r.mean(0) for r in rows], axis=0), rtol=1e-10
    )
    expected = m / (m - 1) * np.mean([r.var(0) for r in rows], axis=0)
    np.testing.assert_allclose(model[0].running_var, expected, rtol=1e-10)
    assert not any(module.training for module in model.modules())


def test_population_statistics_that_fail_change_nothing() -> None:
    model = network()
    model[1].running_mean.fill_(3.0)
    model[3].eval()
    state = copy.deepcopy(model.state_dict())
    flags = [m.training for m in model.modules()]

    def interrupted() -> Any:
        yield sample((6, 4))
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="at least one batch"):
        population_statistics(model, [])
    with pytest.raises(KeyboardInterrupt):
        population_statistics(model, interrupted())
    with pytest.raises(ValueError, match="more than 1 value"):
        population_statistics(model, [sample((6, 4)), sample((1, 4))])
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert (model[1].momentum, model[5].momentum) == (0.1, 0.3)


def test_population_statistics_with_unusual_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.untracked = ours.BatchNorm1d(4, track_running_stats=False)
            self.switched_off = ours.BatchNorm1d(4)
            self.unreached = nn.BatchNorm1d(4)
            self.diverged = ours.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.diverged(self.switched_off(self.untracked(x)))

    net = Net().double()
    net.switched_off.track_running_stats = False
    net.unreached.running_mean.fill_(2.0)
    net.diverged.running_mean.fill_(math.nan)
    net.diverged.running_var.fill_(math.inf)
    population_statistics(net, [sample((6, 4), seed=k) for k in range(2)])
    assert not net.switched_off.track_running_stats
    assert not net.untracked.track_running_stats
    assert torch.equal(net.unreached.running_mean, torch.full((4,), 2.0).double())
    torch.testing.assert_close(  # the layer before has variance 1 up to ε
        net.switched_off.running_var, torch.full((4,), 6 / 5).double(), rtol=1e-3, atol=0
    )
    torch.testing.assert_close(
        net.diverged.running_var, torch.full((4,), 6 / 5).double(), rtol=1e-3, atol=0
    )


def test_population_statistics_of_a_loader_of_images_with_labels() -> None:
    images = [sample((6, 4), seed=k) for k in range(3)]
    expected, model = network(), network()
    population_statistics(expected, images)
    data = torch.utils.data.TensorDataset(torch.cat(images), torch.zeros(18))
    population_statistics(model, torch.utils.data.DataLoader(data, batch_size=6))
    assert_same_state(model, expected, rtol=1e-12, atol=1e-12)


def test_population_statistics_of_a_subclass_without_a_count() -> None:
    class Own(nn.modules.batchnorm._BatchNorm):
        def _check_input_dim(self, input: Tensor) -> None:
            assert input.dim() == 2

    images = [sample((6, 4), seed=k) for k in range(2)]
    for layer in (Own(4).double(), ours.BatchNorm1d(4).double()):
        layer.num_batches_tracked = None
        population_statistics(layer, images)
        assert layer.num_batches_tracked is None
        mean = torch.stack(images).mean((0, 1))
        torch.testing.assert_close(layer.running_mean, mean)


def test_population_statistics_says_what_the_model_lacks() -> None:
    batch = sample((6, 4), torch.float32)
    untracked = nn.Sequential(ours.BatchNorm1d(4, track_running_stats=False))
    for model in (nn.Sequential(nn.Linear(4, 3)), untracked):
        with pytest.raises(ValueError, match="this Sequential has none"):
            population_statistics(model, [batch])
    for lazy in (ours.LazyBatchNorm1d(), nn.LazyBatchNorm1d()):
        with pytest.raises(ValueError, match="pass a batch through the model first"):
            population_statistics(nn.Sequential(lazy), [batch])
        lazy(batch)
        population_statistics(nn.Sequential(lazy), [batch])
        torch.testing.assert_close(lazy.running_mean, batch.mean(0))


# --- a frozen network that normalises by the batch --------------------------------------------


@pytest.mark.parametrize("kind", [ours, nn], ids=["ours", "torch"])
def test_batch_statistics(kind: Any) -> None:
    model = network(kind)
    model[1].eval()
    model[5].track_running_stats = False
    state = copy.deepcopy(model.state_dict())
    flags = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    x = sample((6, 4))
    with batch_statistics(model):
        y = model(x)
        assert torch.equal(y, model(x))  # no dropout
        assert not model[0].training
        assert model[1].training
    y.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())

    h = batch_norm(model[0](x), None, None, model[1].weight, model[1].bias, training=True)
    h = model[4](torch.sigmoid(h))
    expected = batch_norm(h, None, None, model[5].weight, model[5].bias, training=True)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)

    with pytest.raises(ZeroDivisionError), batch_statistics(model):
        raise ZeroDivisionError
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    after = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    assert after == flags


# --- folding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ours, nn], ids=["ours", "torch"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("convolution", [True, False])
def test_fold(kind: Any, bias: bool, affine: bool, convolution: bool) -> None:
    torch.manual_seed(0)
    x = sample((5, 4, 6, 6)) if convolution else sample((5, 4))
    layer = (
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, padding_mode="reflect", bias=bias)
        if convolution
        else nn.Linear(4, 6, bias=bias)
    ).double()
    source, _ = pair((5, 6, 2, 2) if convolution else (5, 6), affine=affine, dtype=torch.float64)
    bn = getattr(kind, type(source).__name__)(6, affine=affine, eps=1e-3, dtype=torch.float64)
    bn.load_state_dict(source.state_dict())
    before = copy.deepcopy((layer.state_dict(), bn.state_dict()))

    folded = fold(layer, bn)  # in training mode, too, it is the running statistics that count
    bn.eval()
    assert type(folded) is type(layer)
    torch.testing.assert_close(folded(x), bn(layer(x)), rtol=1e-11, atol=1e-11)
    folded.weight.data.zero_()
    for state, module in zip(before, (layer, bn), strict=True):
        assert list(state) == list(module.state_dict())
        assert all(torch.equal(state[k], v) for k, v in module.state_dict().items())


def test_fold_refuses() -> None:
    linear, conv = nn.Linear(4, 6), nn.Conv2d(4, 6, 3)
    with pytest.raises(ValueError, match="running statistics"):
        fold(linear, ours.BatchNorm1d(6, track_running_stats=False))
    with pytest.raises(ValueError, match="5 features cannot follow a Linear of 6"):
        fold(linear, ours.BatchNorm1d(5))
    with pytest.raises(ValueError, match="4 features cannot follow a Conv2d of 6"):
        fold(conv, nn.BatchNorm2d(4))
    for layer, bn in (
        (nn.ConvTranspose2d(4, 6, 3), ours.BatchNorm2d(6)),
        (nn.Conv1d(4, 6, 3), ours.BatchNorm1d(6)),
        (linear, ours.BatchNorm2d(6)),
        (conv, nn.BatchNorm1d(6)),
        (linear, nn.LayerNorm(6)),
    ):
        with pytest.raises(ValueError, match=f"not a {type(bn).__name__} into a"):
            fold(layer, bn)


def test_fold_of_volumes() -> None:
    layer, bn = nn.Conv3d(3, 4, 2).double(), pair((2, 4, 1, 1, 1), dtype=torch.float64)[0]
    x = sample((2, 3, 4, 4, 4))
    torch.testing.assert_close(fold(layer, bn)(x), bn.eval()(layer(x)))


def test_fold_of_the_pointwise_convolution() -> None:
    layer, bn = PointwiseConv2d(3, 4, bias=False), pair((2, 4, 1, 1))[0]
    x = sample((2, 3, 4, 4), torch.float32)
    torch.testing.assert_close(fold(layer, bn)(x), bn.eval()(layer(x)))


def test_fold_keeps_what_is_frozen() -> None:
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    folded = fold(layer, ours.BatchNorm1d(3))
    assert (folded.weight.requires_grad, folded.bias.requires_grad) == (False, True)
    layer = nn.Linear(4, 3, bias=False).requires_grad_(False)
    assert not any(p.requires_grad for p in fold(layer, ours.BatchNorm1d(3)).parameters())


def test_a_folded_linear_refuses_data_whose_features_are_elsewhere() -> None:
    layer, bn = nn.Linear(4, 3), pair((6, 3))[0].eval()
    folded = fold(layer, bn)
    x = sample((6, 4), torch.float32)
    with pytest.raises(ValueError, match="2D input"):
        folded(x.expand(3, 6, 4))
    again = copy.deepcopy(fold(folded, bn))
    torch.testing.assert_close(again(x), bn(bn(layer(x))))
    with pytest.raises(ValueError, match="2D input"):
        again(x.expand(3, 6, 4))


@pytest.mark.parametrize("which", [0, 1])
def test_fold_refuses_a_layer_that_computes_more_than_its_class(which: int) -> None:
    def modules() -> list[Any]:
        return [nn.Linear(4, 3), ours.BatchNorm1d(3)]

    for register in ("register_forward_hook", "register_forward_pre_hook"):
        both = modules()
        getattr(both[which], register)(lambda *args: None)
        with pytest.raises(ValueError, match="forward hooks: remove them first"):
            fold(*both)
    both = modules()
    parametrize.register_parametrization(both[which], "weight", nn.Tanh())
    with pytest.raises(ValueError, match="parametrizations: remove them first"):
        fold(*both)
    both = modules()
    kind = type(both[which])
    own = type("Own", (kind,), {"forward": lambda self, x: 2 * kind.forward(self, x)})
    both[which] = own(*((4, 3), (3,))[which])
    with pytest.raises(ValueError, match="Own, whose forward is its own"):
        fold(*both)


# --- torch.compile ----------------------------------------------------------------------------


def compiled_agrees(
    shape: tuple[int, ...], training: bool, backend: str, arguments: dict[str, Any]
) -> None:
    torch._dynamo.reset()
    layer, _ = pair(shape, **arguments)
    layer.train(training)
    eager = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for k in range(2):
        results = []
        for call, module in ((compiled, layer), (eager, eager)):
            module.zero_grad()
            x = sample(shape, torch.float32, seed=k)
            if len(shape) == 4:
                x = x.to(memory_format=torch.channels_last)
            x.requires_grad_()
            y = call(x)
            y.backward(sample(shape, torch.float32, seed=5))
            assert len(shape) != 4 or y.is_contiguous(memory_format=torch.channels_last)
            results.append([y, x.grad, *(p.grad for p in module.parameters()), *module.buffers()])
        for a, b in zip(*results, strict=True):
            largest = max(1.0, float(b.detach().abs().max()))
            torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5 * largest)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.filterwarnings("default")
def test_the_layer_compiles_to_one_graph(training: bool) -> None:
    """Captured as one graph, with its backward pass; no code is generated, which is slow."""
    compiled_agrees((6, 4), training, "aot_eager", {})


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2), (4, 3, 5, 5)])
@pytest.mark.parametrize("arguments", [{}, {"affine": False}, {"momentum": None}], ids=str)
@pytest.mark.filterwarnings("default")
def test_inductor_computes_the_same(
    training: bool, shape: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    compiled_agrees(shape, training, "inductor", arguments)


# --- on a GPU ---------------------------------------------------------------------------------


@gpu
@needs_cuda
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_cuda_agrees_with_torch(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    mine, theirs = (layer.cuda() for layer in pair(shape, dtype=dtype))
    for k in range(3):
        same_step(mine, theirs, sample(shape, dtype, seed=k).cuda())
    mine.eval()
    theirs.eval()
    same_step(mine, theirs, sample(shape, dtype, seed=7).cuda())


@gpu
@needs_cuda
def test_cuda_never_waits_for_the_device() -> None:
    layer = ours.BatchNorm2d(3, momentum=None, device="cuda")
    x = torch.randn(4, 3, 2, 2, device="cuda", requires_grad=True)
    layer(x).sum().backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(x).sum().backward()
        layer.eval()(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_each_network_in_a_stack_is_normalized_by_itself() -> None:
    x = sample((3, 7, 5)).requires_grad_()  # of 3 networks 7 examples of 5 features
    weight, bias, mean, var = (sample((4, 3, 1, 5), seed=1).abs() + 0.5).unbind()
    weight.requires_grad_(), bias.requires_grad_()
    expected = [(m.clone(), v.clone()) for m, v in zip(mean[:, 0], var[:, 0], strict=True)]
    y = ours.stacked_batch_norm(x, mean, var, weight, bias, 0.3, 1e-5)
    alone = torch.stack([
        batch_norm(x[i], *expected[i], weight[i, 0], bias[i, 0], training=True, momentum=0.3)
        for i in range(3)
    ])  # fmt: skip
    torch.testing.assert_close(y, alone, **TOLERANCE[torch.float64])
    for got, i in ((mean, 0), (var, 1)):
        there = torch.stack([statistics[i] for statistics in expected]).unsqueeze(1)
        torch.testing.assert_close(got, there, **TOLERANCE[torch.float64])
    direction = sample((3, 7, 5), seed=2)
    inputs = (x, weight, bias)
    for a, b in zip(
        torch.autograd.grad(y, inputs, direction),
        torch.autograd.grad(alone, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(a, b, **TOLERANCE[torch.float64])
