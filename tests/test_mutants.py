"""The tests of the layer, tested: each sign, factor and dimension of its arithmetic made wrong.

`pytest -m slow tests/test_mutants.py` changes a copy of the package in one place at a time and runs
the layer's own tests on it. Every one has to be found.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT

MUTANTS = (
    # What a statistic is taken over
    ("for dim in range(2, x.dim()):", "for dim in range(3, x.dim()):"),
    ("return [1], x.size(1)", "return [1], x.size(0)"),
    ("dims.pop(1)", "dims.pop(0)"),
    ("return dims, max(_count(x), 1)", "return dims, _count(x)"),
    # Running statistics
    ("new.lerp_(batch, momentum.to(batch.dtype))", "new.lerp_(batch, 1 - momentum)"),
    ("new.lerp_(batch, momentum)", "new.lerp_(batch, 1 - momentum)"),
    ("running.copy_(new)", "pass"),
    ("_move(running_mean, mean, momentum)", "_move(running_mean, -mean, momentum)"),
    ("_number(1 / (m - 1), x)", "_number(1 / m, x)"),
    ("_number(1 / (m - 1), x)", "_number(1 / (m + 1), x)"),
    ("_move(running_mean, mean.detach(), momentum)", "_move(running_mean, -mean, momentum)"),
    ("var.detach() * (m / (m - 1))", "var.detach()"),
    ("var.detach() * (m / (m - 1))", "var.detach() * (m / (m + 1))"),
    ("count.add_(1)", "count.add_(2)"),
    (".reciprocal()", ""),
    ("layer.momentum = None", "layer.momentum = 0.5"),
    ("layer.training = True", "layer.training = False"),
    # Algorithm 1 by hand
    ("share = _number(1 / m, x)", "share = _number(1 / (m - 1), x)"),
    ("centred = x - _per_feature(mean, x)", "centred = x + _per_feature(mean, x)"),
    ("y = centred * centred", "y = centred.abs()"),
    ("var.add_(_number(eps, x))", "var.sub_(_number(eps, x))"),
    ("var.add_(_number(eps, x)).rsqrt_()", "var.rsqrt_().add_(_number(eps, x))"),
    (" if weight is None else inv_std * weight\n        # The squares", "\n        # The squares"),
    ("_affine(centred, scale, bias, y)", "_affine(centred, scale, None, y)"),
    ("torch.addcmul(shift, x, scale, out=out)", "torch.addcmul(-shift, x, scale, out=out)"),
    (".add_(_per_feature(shift, x))", ".sub_(_per_feature(shift, x))"),
    # Its derivatives
    ("grad_bias = grad_y.sum(dims, stacked)", "grad_bias = -grad_y.sum(dims, stacked)"),
    ("products.sum(dims, stacked) * inv_std", "products.sum(dims, stacked)"),
    ("step = -(scale * share)", "step = scale * share"),
    ("step = -(scale * share)", "step = -scale"),
    ("offset = step * grad_bias", "offset = 0 * grad_bias"),
    ("slope = step * inv_std * grad_weight", "slope = step * grad_weight"),
    ("slope = step * inv_std * grad_weight", "slope = -step * inv_std * grad_weight"),
    (".addcmul_(grad_y, factor)", ".add_(grad_y)"),
    ("offset - grad_centred.sum(", "offset + grad_centred.sum("),
    ("grad_centred.sum(dims, stacked) / m", "grad_centred.sum(dims, stacked) / (m - 1)"),
    ("slope - grad_inv_std * inv_std**3 / m", "slope + grad_inv_std * inv_std**3 / m"),
    ("grad_inv_std * inv_std**3 / m", "grad_inv_std * inv_std**2 / m"),
    ("grad_x = grad_x + grad_centred", "grad_x = grad_x - grad_centred"),
    ("out = products if reuse else None", "out = products"),
    # Algorithm 1 for compilers
    ("correction=0", "correction=1"),
    ("scale = torch.rsqrt(var + eps)", "scale = torch.rsqrt(var - eps)"),
    ("scale = torch.rsqrt(var + eps)", "scale = torch.rsqrt(var) + eps"),
    ("y = (x - _per_feature(mean, x))", "y = (x + _per_feature(mean, x))"),
    ("else y + _per_feature(bias, x)", "else y - _per_feature(bias, x)"),
    # Algorithm 2, line 11
    ("torch.rsqrt(running_var.to(x.dtype) + eps)", "torch.rsqrt(running_var.to(x.dtype) - eps)"),
    ("torch.rsqrt(running_var.to(x.dtype) + eps)", "torch.rsqrt(running_var.to(x.dtype)) + eps"),
    ("shift = -running_mean * scale", "shift = running_mean * scale"),
    ("shift = -running_mean * scale", "shift = -running_mean"),
    ("        shift = shift + bias\n", "        shift = shift - bias\n"),
    # A folded layer
    ("shift = -norm.running_mean", "shift = norm.running_mean"),
    ("shift = shift + layer.bias", "shift = shift - layer.bias"),
    ("to(compute_dtype) + norm.eps", "to(compute_dtype) - norm.eps"),
    ("scale = scale * norm.weight", "scale = scale + norm.weight"),
    ("shift = shift * scale", "shift = shift"),
    ("shift = shift + norm.bias", "shift = shift - norm.bias"),
    ("weight = layer.weight * scale", "weight = layer.weight / scale"),
)
LAYER = Path("bnrepro", "batchnorm.py")


def found(folder: Path, old: str, new: str) -> bool:
    """Whether the layer's tests fail on a copy of the package with this change."""
    for name in ("bnrepro", "conf"):
        shutil.copytree(ROOT / name, folder / name)
    source = (folder / LAYER).read_text()
    assert source.count(old) == 1, old
    (folder / LAYER).write_text(source.replace(old, new))
    words = ["-P", "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words, str(ROOT / "tests" / "test_batchnorm.py")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    shutil.rmtree(folder)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1


@pytest.mark.slow
def test_every_mutant_of_the_layer_is_found(tmp_path: Path) -> None:
    assert not found(tmp_path / "none", "dims.pop(1)", "dims.pop(True)")  # the same
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(found, tmp_path / str(number), *mutant)
            for number, mutant in enumerate(MUTANTS)
        ]
        lived = [mutant for mutant, job in zip(MUTANTS, jobs, strict=True) if not job.result()]
    assert lived == []
