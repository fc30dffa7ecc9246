"""A reproduction on disk: which claims were asked for at which scale, and which runs are theirs.

Its folder holds `reproduce.json`, which is what stands here, the run folders of all claims in
`runs/`, and the report.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bnrepro import reading
from bnrepro.errors import StorageError, UnreadableError
from bnrepro.store import atomic

FILE, RUNS = "reproduce.json", "runs"
SCALES = ("smoke", "short", "paper")


@dataclass(frozen=True)
class AskedArm:
    """An arm as it was asked for: its overrides, and its runs' folders in the order of seeds."""

    words: tuple[str, ...]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Reproduction:
    """What was asked for.

    Args:
        scale: one of a claim's scales.
        results: of each claim by its id, the results number that its runs were to have.
        claims: of each by its id, its arms by name.
        data: the fingerprint of every data set known by name, as the runs were to read it.
        pilot: the runs have the pilots' seed, and judge nothing.
    """

    scale: str
    results: Mapping[str, int]
    claims: Mapping[str, Mapping[str, AskedArm]]
    data: Mapping[str, str] = field(default_factory=dict)
    pilot: bool = False

    def runs(self) -> list[str]:
        """The folders of all runs, each once."""
        arms = (arm for arms in self.claims.values() for arm in arms.values())
        return list(dict.fromkeys(run for arm in arms for run in arm.runs))


def is_reproduction(folder: Path) -> bool:
    """Whether claims were reproduced into this folder."""
    return (folder / FILE).is_file()


def write(folder: Path, asked: Reproduction) -> None:
    """Write down what was asked for.

    Raises:
        OSError: the folder cannot be written.
    """
    text = json.dumps(asdict(asked), indent=1, ensure_ascii=False) + "\n"
    atomic.make_folder(folder)
    atomic.write(folder / FILE, lambda file: file.write(text.encode()))


def read(folder: Path) -> Reproduction:
    """What was asked for.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return parse(reading.read_json(folder / FILE))
    except (StorageError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = error.why if isinstance(error, UnreadableError) else str(error)
        raise StorageError(
            f"not readable: {why} ({folder / FILE}): rerun 'bnrepro reproduce'"
        ) from error


def parse(values: Any) -> Reproduction:
    """What was asked for, from what `asdict` made of it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    claims = {
        claim: {arm: AskedArm(tuple(one["words"]), tuple(one["runs"])) for arm, one in arms.items()}
        for claim, arms in values["claims"].items()
    }
    results = {claim: int(values["results"][claim]) for claim in claims}
    if values["scale"] not in SCALES:
        raise ValueError(f"unknown scale {values['scale']!r}")
    data, pilot = dict(values.get("data", {})), bool(values.get("pilot", False))
    asked = Reproduction(values["scale"], results, claims, data, pilot)
    for run in asked.runs():
        run_name(run)
    return asked


def run_name(name: str) -> str:
    """The name of a run's folder, which is no way out of the folder it is in.

    Raises:
        ValueError: it is.
    """
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise ValueError(f"no name of a run: {name!r}")
    return name
