"""What a sweep goes over: Hydra's sweep syntax expanded into members with whole configurations.

Everything is composed here, once, before the first member runs: a file edited meanwhile changes
nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnrepro import config as c
from bnrepro.config import hydra
from bnrepro.config.compose import compose_config, parse, sweep_settings
from bnrepro.config.overrides import prepare
from bnrepro.errors import ConfigError
from bnrepro.store.sweep import Member
from bnrepro.sweeps import launchers

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

MOST = 100_000
"""Members that a sweep may have: composing and reading this many takes an hour."""

NAME_LENGTH = 60  # characters of a member's name that say what differs, for lists and legends


@dataclass(frozen=True)
class Grid:
    """What was asked for, before its members are composed.

    `digest` tells one request from another: the words and all configurations they build on.
    `source` tells whether the members are still the same: it is None if only composing can tell.
    `asked` counts the combinations as they were typed, equal ones as often as they came.
    """

    words: tuple[str, ...]
    axes: dict[str, list[str]]
    asked: int
    digest: str
    source: str | None
    sweep_dir: str | None
    overwrites: bool
    launcher: str
    launcher_words: tuple[str, ...]
    threads: int
    jobs: int
    _said_by: str
    _combinations: list[tuple[tuple[str, ...], DictConfig, list[Override]]]

    def __len__(self) -> int:
        return len(self._combinations)

    def members(self, on_progress: Callable[[int], None] = lambda done: None) -> list[Member]:
        """Compose and check every member; `on_progress` gets how many are done.

        Raises:
            ConfigError: naming the member that cannot work.
        """
        members: dict[str, Member] = {}
        read = _Fingerprints()
        with hydra.context("sweep"):
            for done, (overrides, base, values) in enumerate(self._combinations):
                with _naming(" ".join(overrides) + self._said_by):
                    config = _with(base, values, read)
                digest, member = self._member(overrides, config)
                members.setdefault(digest, member)  # the same configuration twice is one run
                on_progress(done + 1)
        return list(members.values())

    def _member(self, overrides: tuple[str, ...], config: dict[str, Any]) -> tuple[str, Member]:
        settings = c.flat(config)
        chosen = dict(word.split("=", 1) for word in overrides)
        values = {axis: settings.get(axis, chosen[axis]) for axis in self.axes}
        name = folder_name({axis: chosen[axis] for axis in self.axes}, config)
        return c.run_id(config), Member(name, overrides, values, config)


def folder_name(chosen: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """A run's folder, named by the settings that were chosen for it and by a digest of all.

    A setting that has no room is left out, unless it is the first: that one is cut.
    """
    name = ""
    for axis, short in _short(chosen).items():
        # No comma: typed as run.dir=…, the name must not be taken for several.
        value = re.sub(r"[^\w.+-]+", "-", chosen[axis].strip("[]"), flags=re.ASCII)
        if not name or len(name) + len(short) + len(value) + 2 <= NAME_LENGTH:
            name += f"_{short}={value}"
    name = name[1 : NAME_LENGTH + 1].strip(".-")
    digest = c.run_id(config)
    return f"{name}_{digest}" if name else digest


def _short(axes: Iterable[str]) -> dict[str, str]:
    """Each axis by the last part of its name, where that tells it apart."""
    last = [axis.rpartition(".")[2] for axis in axes]
    return {
        axis: short if last.count(short) == 1 else axis
        for axis, short in zip(axes, last, strict=True)
    }


def grid(words: Sequence[str], config_dir: Path | None = None) -> Grid:
    """Read the overrides of a sweep, and what an experiment says a sweep of it goes over.

    As in Hydra, an override replaces those of the same key before it; what is typed comes after
    what an experiment says.

    Raises:
        ConfigError: one line on what is wrong and what would be right.
    """
    with hydra.context("sweep"):
        typed = hydra.parse_overrides(prepare(words, config_dir))
        params = _own_sweep(typed)
        with _naming(SAID_BY_AN_EXPERIMENT.strip(" ()")):
            from_experiment = hydra.parse_overrides(
                [f"{key}={value}" for key, value in params.items()]
            )
        ordered = [*from_experiment, *typed]
        swept = [
            place
            for place, override in enumerate(ordered)
            if (place < len(from_experiment) or override.is_sweep_override())
            and not any(_replaces(later, override) for later in ordered[place + 1 :])
        ]
        late = [  # they change what a sweep has set before them: composed after it
            place
            for place, override in enumerate(ordered)
            if place not in swept
            and not override.is_sweep_override()
            and any(before < place and _changes(override, ordered[before]) for before in swept)
        ]
        fixed = [
            str(override.input_line)
            for place, override in enumerate(ordered[len(from_experiment) :], len(from_experiment))
            if not override.is_sweep_override() and place not in late
        ]
        axes, asked = _axes([ordered[place] for place in swept])
        applied = sorted([*swept, *late])
        combinations, bases = [], {}
        for chosen in itertools.product(*axes.values()):
            overrides = [f"{key}={value}" for key, value in zip(axes, chosen, strict=True)]
            word = dict(zip(swept, overrides, strict=True))
            word |= {place: str(ordered[place].input_line) for place in late}
            structure = tuple(word[place] for place in applied if _chooses(ordered[place]))
            if structure not in bases:
                with _naming(
                    " ".join(structure) + (SAID_BY_AN_EXPERIMENT if from_experiment else "")
                ):
                    bases[structure] = compose_config([*fixed, *structure])
            values = [word[place] for place in applied if not _chooses(ordered[place])]
            combinations.append((overrides, structure, values))
        for base in bases.values():
            if (base.hydra.sweeper.get("params") or {}) != params:
                raise ConfigError(
                    "an experiment with a sweep of its own (hydra.sweeper.params) cannot be one of "
                    "several: give that experiment alone"
                )
        parsed = {
            word: hydra.parse_overrides([word])[0]
            for word in {w for _, _, v in combinations for w in v}
        }
    first = next(iter(bases.values()))
    settings = sweep_settings(first)
    request = [sorted(axes.items()), *sorted(_text(base) for base in bases.values())]
    request += [[str(ordered[place].input_line) for place in late]] if late else []
    return Grid(
        tuple(words),
        {key.lstrip("+"): values for key, values in axes.items()},
        asked,
        _sha256(request),
        _source(bases, combinations),
        settings.sweep.dir,
        settings.run.overwrite,
        str(first.hydra.runtime.choices["hydra/launcher"]),
        tuple(word for word in fixed if word.lstrip("+~").startswith("hydra")),
        settings.threads,
        launchers.jobs_of(first),
        SAID_BY_AN_EXPERIMENT if any(place < len(from_experiment) for place in swept) else "",
        [
            (tuple(w.lstrip("+") for w in words), bases[structure], [parsed[w] for w in values])
            for words, structure, values in combinations
        ],
    )


SAID_BY_AN_EXPERIMENT = " (hydra.sweeper.params of the experiment)"


def _own_sweep(typed: Sequence[Override]) -> dict[str, Any]:
    """What an experiment that is typed says a sweep of it goes over: values as text by key."""
    composed = compose_config(
        [
            str(override.input_line)
            for override in typed
            if not override.is_sweep_override()
            and (_chooses(override) or override.is_hydra_override())
        ]
    )
    params = dict(composed.hydra.sweeper.get("params") or {})
    for key, value in params.items():
        if key == "experiment":
            raise ConfigError(
                "hydra.sweeper.params varies 'experiment': give it on the command line instead"
            )
        if isinstance(value, Mapping):
            raise ConfigError(
                f"hydra.sweeper.params has settings below '{key}': write each in one line, such as "
                f"{key}.{next(iter(value), 'setting')}: 1,2"
            )
    return params


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say in front of an error what it comes from."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}" if what else str(error)) from error


def _key(override: Override) -> tuple[bool, str, str | None]:
    return _chooses(override), override.key_or_group, override.package


def _replaces(later: Override, earlier: Override) -> bool:
    """Whether nothing is left of an override after another: a dictionary is merged instead."""
    return _key(later) == _key(earlier) and not hydra.has_dictionary(later)


def _changes(later: Override, earlier: Override) -> bool:
    """Whether two overrides set the same setting, or one sets some of the other's."""
    if _chooses(later) or _chooses(earlier):
        return False
    a, b = f"{later.key_or_group}.", f"{earlier.key_or_group}."
    return a.startswith(b) or b.startswith(a)


def _axes(swept: Sequence[Override]) -> tuple[dict[str, list[str]], int]:
    """The values of every axis by its key, and how many combinations were typed.

    They are counted before they are listed: a range can be longer than any memory.
    """
    for override in swept:
        key = override.get_key_element().lstrip("+")
        if f"{key}.".startswith(("run.", "sweep.", "hydra")):
            raise ConfigError(f"a sweep cannot vary '{key}': give one value, quoted")
    with hydra.one_line_errors():
        lengths = {str(o.input_line): _length(o) for o in swept}
    asked = math.prod(lengths.values())
    if asked > MOST:
        longest = max(lengths, key=lambda line: lengths[line])
        count = f"{asked:,.0f}" if math.isfinite(asked) else "endlessly many"
        raise ConfigError(f"{count} members ({longest[:60]}): a sweep has {MOST:,} at most")
    for line, length in lengths.items():
        if length < 1:
            raise ConfigError(f"nothing matches ({line}): give at least one value")
    with hydra.one_line_errors():
        listed = {str(o.get_key_element()): _values(o) for o in swept}
    if len({key.lstrip("+") for key in listed}) < len(swept):
        raise ConfigError(f"two lists for one key ({', '.join(lengths)}): give one")
    axes = {key: list(dict.fromkeys(values)) for key, values in listed.items()}
    return axes, math.prod(len(values) for values in listed.values())


def _length(override: Override) -> float:
    """How many values an axis has, without listing those of a range."""
    if bounds := hydra.range_of(override):
        start, stop, step = bounds
        if not step:
            raise ConfigError(f"a range needs a step other than 0 ({override.input_line})")
        if all(isinstance(number, int) for number in (start, stop, step)):
            return int(max(0, -((start - stop) // step)))
        length = (float(stop) - float(start)) / float(step)
        return max(0, math.ceil(length)) if math.isfinite(length) else math.inf
    if override.is_sweep_override() and override.is_discrete_sweep():
        return sum(1 for _ in override.sweep_string_iterator())
    return 1


def _source(
    bases: Mapping[tuple[str, ...], DictConfig],
    combinations: Sequence[tuple[Sequence[str], tuple[str, ...], Sequence[str]]],
) -> str | None:
    """What tells whether members that were composed before are those that would be now.

    None if only composing can tell: what a reference stands for, such as a variable of the
    environment, may have changed.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if any("$" in word for _, _, values in combinations for word in values):
        return None
    try:
        texts = {
            structure: _sha256(OmegaConf.to_yaml(hydra.masked(base, "hydra"), resolve=True))
            for structure, base in bases.items()
        }
    except OmegaConfBaseException:
        return None
    return _sha256([[*overrides, texts[key], *values] for overrides, key, values in combinations])


def configurations(
    requests: Sequence[Sequence[str]], on_progress: Callable[[int], None] = lambda done: None
) -> list[dict[str, Any]]:
    """The checked configuration of every list of overrides; `on_progress` gets how many are done.

    What chooses options of groups is composed once for all that choose alike.

    Raises:
        ConfigError: naming the overrides that cannot work.
    """
    configs: list[dict[str, Any]] = []
    read = _Fingerprints()
    bases: dict[tuple[str, ...], DictConfig] = {}
    parsed: dict[str, Override] = {}
    with hydra.context("compose"):
        for words in requests:
            try:
                parsed |= {
                    word: hydra.parse_overrides([word])[0] for word in words if word not in parsed
                }
                structure = tuple(word for word in words if _chooses(parsed[word]))
                if structure not in bases:
                    bases[structure] = compose_config(list(structure))
                values = [parsed[word] for word in words if not _chooses(parsed[word])]
                configs.append(_with(bases[structure], values, read))
            except ConfigError as error:
                raise ConfigError(f"{' '.join(words)}: {error}") from error
            on_progress(len(configs))
    return configs


def steps(words: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """The training steps of runs by their overrides.

    Only those overrides are composed that say how many: all of them take ten times as long.
    """
    say = ("experiment=", "train.steps=", "train=")
    said = {of: tuple(word for word in of if word.lstrip("+").startswith(say)) for of in words}
    different = list(dict.fromkeys(said.values()))
    composed = dict(zip(different, configurations(different), strict=True))
    return {of: int(composed[those]["train"]["steps"]) for of, those in said.items()}


def _text(base: DictConfig) -> str:
    """A composed configuration as text, but for where things lie."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(hydra.masked(base, "hydra", "run", "sweep"))


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _values(override: Override) -> list[str]:
    """The values one axis goes over, as they would be typed."""
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"not a grid ({override.input_line}): give values, range(…), choice(…) or glob(…)"
            )
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


def _chooses(override: Override) -> bool:
    """Whether it chooses an option of a group, so that other files are composed."""
    name = override.key_or_group
    is_group = name in c.OPTIONS or name == "experiment" or "/" in name
    return is_group and not hydra.has_dictionary(override)


def same_data(members: Iterable[Member]) -> bool:
    """Whether the data lie there still that the members were composed for.

    Raises:
        DataError: they are missing, or cannot be read.
    """
    read = _Fingerprints()
    datasets = {json.dumps(member.config["dataset"]): member for member in members}
    every = [c.from_dict(member.config).dataset for member in datasets.values()]
    return all(read(d) == d.fingerprint for d in every if isinstance(d, c.OwnImages))


class _Fingerprints:
    """Fingerprints of the images in folders, each read once, not for every member."""

    def __init__(self) -> None:
        self._read: dict[str, str] = {}

    def __call__(self, dataset: c.Dataset) -> str:
        key = json.dumps(c.plain(vars(dataset)), sort_keys=True)
        if key not in self._read:
            from bnrepro import data  # which loads torch

            self._read[key] = data.fingerprint(dataset)
        return self._read[key]


def _with(base: DictConfig, values: list[Override], read: _Fingerprints) -> dict[str, Any]:
    """A checked configuration: a composed one with some values set, as Hydra itself sets them.

    Of a data set that its folder does not name, it says the fingerprint that `read` finds there.
    """
    config = parse(hydra.apply(values, base))
    dataset = config.dataset
    if isinstance(dataset, c.OwnImages) and dataset.fingerprint is None:
        config = replace(config, dataset=replace(dataset, fingerprint=read(dataset)))
    return c.to_dict(config)
