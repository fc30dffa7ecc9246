"""Compiled programs and the cache they are kept in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bnrepro.training import program

pytestmark = pytest.mark.skipif(
    not program.can_compile(torch.device("cpu")), reason="needs a C++ compiler"
)


def function(inputs: list[Tensor]) -> list[Tensor]:
    """Reads one tensor, adds its sine to another in place, returns the sum."""
    read, written = inputs
    written.add_(read.sin())
    return [written.sum()]


class Notes(list[str]):
    """What was told."""

    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for programs with that of `function` in it."""
    folder = tmp_path_factory.mktemp("programs")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(program.CACHE, str(folder))
        program.compiled(function, [torch.ones(3)], [torch.zeros(3)], "a sum", Notes())
        yield folder


@pytest.fixture(autouse=True)
def threads() -> None:
    """As many as when the program was compiled: the name has them."""
    torch.set_num_threads(1)


def kept(cache: Path) -> Path:
    [path] = cache.glob("*.pt2")
    return path


def run(told: Notes) -> Tensor:
    read, written = torch.arange(3.0), torch.ones(3)
    compiled = program.compiled(function, [read], [written], "a sum", told)
    assert torch.equal(written, torch.ones(3)), "an example stays what it is"
    (total,) = compiled([read, written])
    torch.testing.assert_close(written, 1 + read.sin())
    return total


def test_a_program_computes_what_the_function_does_and_is_compiled_once(cache: Path) -> None:
    told = Notes()
    torch.testing.assert_close(run(told), (1 + torch.arange(3.0).sin()).sum())
    assert told == [], "the fixture compiled it"
    assert torch.equal(run(told), run(told))


@pytest.mark.reliability
@pytest.mark.parametrize("damage", ["cut off", "a bit flipped", "empty", "something else"])
def test_a_damaged_program_is_compiled_again(cache: Path, damage: str) -> None:
    path = kept(cache)
    content = path.read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    damaged = {"cut off": content[:half], "a bit flipped": flipped, "empty": b""}
    path.write_bytes(damaged.get(damage, b"#!/bin/sh\n"))
    told = Notes()
    run(told)
    assert len(told) == 1
    run(told)
    assert len(told) == 1, "it is kept again"


@pytest.mark.reliability
def test_a_cache_that_others_can_write_is_not_used(cache: Path) -> None:
    before = kept(cache).read_bytes()
    cache.chmod(0o777)
    try:
        told = Notes()
        run(told)
        assert len(told) == 1
    finally:
        cache.chmod(0o700)
    assert kept(cache).read_bytes() == before


@pytest.mark.reliability
def test_where_no_folder_can_be_made_a_program_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(program.CACHE, str(tmp_path / "file" / "folder"))
    told = Notes()
    run(told)
    assert len(told) == 1


def test_what_cannot_be_compiled_is_an_error_in_a_line(cache: Path) -> None:
    def reads_a_number(inputs: list[Tensor]) -> list[Tensor]:
        return [inputs[0] * float(inputs[1].sum())]

    with pytest.raises(program.CompileError) as caught:
        program.compiled(reads_a_number, [torch.ones(2)], [torch.ones(2)], "a product", Notes())
    assert "\n" not in str(caught.value)
    assert len(list(cache.glob("*.pt2"))) == 1


def test_a_full_disk_is_an_error_in_a_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(program.CompileError, match="No space left on device"):
        program.compiled(lambda inputs: [inputs[0] + inputs[1]], [torch.ones(2)],
                         [torch.ones(2)], "a product", Notes())  # fmt: skip
    assert len(list(cache.glob("*.pt2"))) == 1
    assert not list(cache.glob(".*"))


@pytest.mark.parametrize(
    ("read", "written", "other"),
    [
        (torch.ones(4), torch.ones(4), function),
        (torch.ones(3, 1), torch.ones(3, 1), function),
        (torch.ones(3).double(), torch.ones(3).double(), function),
        (torch.ones(3), torch.ones(3), lambda inputs: [inputs[1].add_(inputs[0].cos()).sum()]),
        (torch.ones(3), torch.ones(3), lambda inputs: [inputs[0].add_(inputs[1].sin()).sum()]),
        (torch.ones(3), torch.ones(3), lambda inputs: [inputs[1].add_(inputs[0].sin()).mean()]),
        (torch.ones(3), torch.ones(3), lambda inputs: [inputs[1].add_(inputs[0].sin())[1:].sum()]),
    ],
)
def test_programs_of_other_operations_or_shapes_have_other_names(
    read: Tensor, written: Tensor, other: program.Function
) -> None:
    name = program._name(function, [torch.ones(3), torch.zeros(3)])
    assert program._name(function, [torch.zeros(3), torch.ones(3)]) == name
    assert program._name(other, [read, written]) != name


def test_a_constant_and_a_number_are_part_of_the_name() -> None:
    def named(constant: Tensor, number: float) -> str:
        return program._name(lambda inputs: [inputs[0] * constant + number], [torch.ones(2)])

    names = [named(torch.tensor([1.0, value]), number) for value in (0, 1) for number in (2, 3)]
    assert len(set(names)) == 4
    assert named(torch.tensor([1.0, 0.0]), 2) == names[0]


def test_naming_a_program_draws_no_random_numbers_and_imports_no_compiler() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    program._name(lambda inputs: [inputs[0].bernoulli()], [torch.full((3,), 0.5)])
    assert torch.equal(torch.get_rng_state(), before)
    code = (
        "import sys, torch; from bnrepro.training import program\n"
        "program._name(lambda inputs: [inputs[0].sin()], [torch.ones(3)])\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.reliability
def test_of_two_that_want_the_same_program_one_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(program.CACHE, str(tmp_path))
    code = (
        "import torch; from bnrepro.training import program\n"
        "f = lambda inputs: [inputs[1].add_(inputs[0].sin()).sum()]\n"
        "f = program.compiled(f, [torch.ones(3)], [torch.zeros(3)], 'a sum', print)\n"
        "print(f([torch.ones(3), torch.zeros(3)])[0].item())"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0].splitlines() for process in both]
    assert sorted(map(len, outputs)) == [1, 2], "one said that it compiles"
    assert outputs[0][-1] == outputs[1][-1]
    assert len(list(tmp_path.glob("*.pt2"))) == 1
