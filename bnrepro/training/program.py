"""Functions of tensors as compiled programs, kept in a cache: the door to torch's compiler.

A program is named by all that decides what it computes: the operations, the shapes of its inputs,
this torch, this processor. So a cache cannot be out of date. A program that is damaged is compiled
again. It is code: a cache that others can write is not used.

Nothing here imports torch's compiler, which takes seconds, unless a program has to be compiled.
"""

import hashlib
import logging
import os
import stat
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

from bnrepro.training import environment

CACHE = "BNREPRO_CACHE"
"""The environment variable that names another folder for programs."""

OPTIONS = {"fallback_random": True}  # random numbers are those that are drawn uncompiled

Function = Callable[[list[Tensor]], Sequence[Tensor]]


class CompileError(Exception):
    """A function cannot be compiled here; the message says why, in a line."""


def can_compile(device: torch.device) -> bool:
    """Whether torch can compile for a device: on the CPU that takes a C++ compiler."""
    if device.type != "cpu":
        return True
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def compiled(
    function: Function,
    read: list[Tensor],
    written: list[Tensor],
    what: str,
    note: Callable[[str], None],
) -> Function:
    """A function as one program for inputs of these shapes, from the cache where it is there.

    Args:
        function: of the tensors it reads and those that it changes in place, one list. Others that
            it uses are taken for constants.
        read: an example of the former.
        written: of the latter; they stay what they are here.
        what: the function in words.
        note: called with a line when compiling begins, for it takes a minute.

    Raises:
        CompileError: it cannot be compiled.
    """
    inputs = [*read, *(tensor.clone() for tensor in written)]

    def begin() -> None:
        note(f"compiling {what}, once: this can take a minute")

    try:
        name = _name(function, inputs)
        folder = _cache()
        if folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                return _loaded(_compile(function, inputs, Path(temporary) / name, begin))
        path = folder / name
        # One compiles, and those that want the same meanwhile wait for it.
        with FileLock(path.with_suffix(".lock")):
            return _kept(path) or _loaded(_compile(function, inputs, path, begin))
    except Exception as error:  # a compiler's are of any kind
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CompileError(lines[0]) from error


def _name(function: Function, inputs: list[Tensor]) -> str:
    """A file's name for a function: a digest of all that decides what is computed.

    The function is run once, which takes less time than importing what could trace it.
    """
    operations = _Operations(inputs)
    with torch.random.fork_rng(devices=[]), operations:
        outputs = function(inputs)
    operations.add("outputs", outputs)
    machine = environment.arithmetic(inputs[0].device)
    operations.add("options", OPTIONS, torch.__version__, machine)
    return f"{operations.digest.hexdigest()[:32]}.pt2"


class _Operations(TorchDispatchMode):
    """A digest of the operations that are done while it is entered, and on what.

    Tensors are numbered as they come, inputs first; one that nothing made is a constant.
    """

    def __init__(self, inputs: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.digest = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no other tensor gets its place in memory
        for tensor in inputs:
            self._number(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch imports its compiler to keep it out of here."""
        return False

    def add(self, *what: Any) -> None:
        """Count in what is made of tensors, numbers and text."""
        self.digest.update(repr(tree_map(self._told, what)).encode())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.add(str(func), args, kwargs)
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._number, result)
        return result

    def _told(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._numbers:
            content = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            self._number(value)
            return hashlib.sha256(content).hexdigest(), value.shape, value.dtype
        return f"%{self._numbers[id(value)]}"

    def _number(self, tensor: Tensor) -> None:
        if id(tensor) not in self._numbers:
            self._numbers[id(tensor)] = len(self._alive)
            self._alive.append(tensor)
            self.digest.update(
                repr((tensor.dtype, tensor.shape, tensor.stride(), str(tensor.device))).encode()
            )


def _compile(
    function: Function, inputs: list[Tensor], path: Path, begin: Callable[[], None]
) -> Path:
    """Compile a program into a file, which is there whole or not at all."""
    import torch._inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    if not can_compile(inputs[0].device):
        raise CompileError("no C++ compiler here: install g++")
    # It warns where torch could use a GPU and there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    begin()
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        # Forward, backward and all, as a graph of operations.
        graph = make_fx(lambda *each: function(list(each)), tracing_mode="fake")(*inputs)
        exported = torch.export.export(graph, tuple(inputs), strict=False)
        torch._inductor.aoti_compile_and_package(
            exported,
            package_path=str(part),
            inductor_configs={**OPTIONS},  # it adds to them
        )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _kept(path: Path) -> Function | None:
    """The program in a file, None where it is missing or damaged."""
    if not path.exists():
        return None
    with suppress(Exception):
        with zipfile.ZipFile(path) as package:
            whole = package.testzip() is None
        if whole:
            return _loaded(path)
    return None


def _loaded(path: Path) -> Function:
    from torch._C._aoti import AOTIModelPackageLoader

    loader = AOTIModelPackageLoader(str(path), "model", True, 1, -1)
    run: Function = loader.boxed_run
    return run


def _cache() -> Path | None:
    """The folder of programs; None where there is none that is ours alone to write."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get(CACHE) or Path(home) / "bnrepro")
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        ours = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if ours and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None
