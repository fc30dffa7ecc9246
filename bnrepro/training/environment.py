"""What a run runs on: this machine, these versions, this code."""

import hashlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import bnrepro
from bnrepro import config as c
from bnrepro.errors import ConfigError
from bnrepro.store import git
from bnrepro.store.source_digest import source_digest

RUN_MAKING = (
    "config/schema.py",
    "data",
    "nn",
    *(f"training/{name}.py" for name in ("environment", "jacobian", "loop", "optim", "probes")),
    *(f"training/{name}.py" for name in ("gradient_shift", "landscape", "restriction")),
    *(f"training/{name}.py" for name in ("program", "run", "stacked", "stacked_step", "step")),
    "training/studies",
)
"""Files and folders whose code decides what numbers a run has."""

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "tensorboard", "typer")


ARITHMETIC = (
    "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE",
    "OPENBLAS_CORETYPE", "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
"""Environment variables by which libraries choose how to compute: other values, other bits."""


def resolve_device(device: c.Device) -> torch.device:
    """The device a configuration means.

    Raises:
        ConfigError: CUDA is asked for and there is none. The CPU never takes its place silently.
    """
    available = torch.cuda.is_available()
    if device is c.Device.cuda and not available:
        raise ConfigError("no CUDA device here (device=cuda): use device=cpu or device=auto")
    return torch.device("cuda" if available and device is not c.Device.cpu else "cpu")


def make_deterministic(seed: int, threads: int) -> None:
    """Make torch compute the same bits again: one seed, a fixed number of threads, no choices."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_num_threads(threads)
    # What `use_deterministic_algorithms(True)` does, without importing torch's compiler (seconds).
    torch.set_deterministic_debug_mode("error")
    # Filling fresh memory serves to find bugs in torch's operations, and costs time in each.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(seed)  # only dropout draws from the global generator


def arithmetic(device: torch.device) -> dict[str, Any]:
    """What the last bits of a computation depend on, besides the computation."""
    return {
        "torch_build": _torch_build(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
    }


def facts(device: torch.device) -> dict[str, Any]:
    """Everything about this machine, these versions and this command that a result depends on."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "bnrepro": bnrepro.__version__,
        "git": revision(),
        "results": c.RESULTS_NUMBER,
        "code": code_digest(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        **arithmetic(device),
        "cores": os.cpu_count(),
        "device": str(device),
        "environment": {name: os.environ[name] for name in ARITHMETIC if name in os.environ},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def revision() -> dict[str, Any] | None:
    """The commit of bnrepro's checkout, and whether it is `dirty`; None if it is installed."""
    return git.revision(Path(bnrepro.__file__).resolve().parents[1])


def code_digest() -> str:
    """SHA-256 (hex) of what the sources of `RUN_MAKING` mean, for the record.

    What a run is does not depend on it: that is its configuration, its data and
    `config.RESULTS_NUMBER`.
    """
    package = Path(bnrepro.__file__).parent
    places = (package / place for place in RUN_MAKING)
    files = (
        path for place in places
        for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))
    )  # fmt: skip
    return source_digest(path.read_text(encoding="utf-8") for path in files)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torch_build() -> str:
    """A digest of what torch was built with and from: one version comes in several builds."""
    kept = ("Math Kernel Library", "MKL-DNN", "Build settings")  # what a GPU adds is left out
    lines = torch.__config__.show().splitlines()
    built = "\n".join(line for line in lines if any(name in line for name in kept))
    return hashlib.sha256(built.encode()).hexdigest()[:12]


def _cpu() -> str:
    """The processor's name; /proc/cpuinfo knows more than `platform` where it is there."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
