"""What a sweep goes over: Hydra's sweep syntax expanded into members with whole configurations.

Everything is composed here, once, before the first member runs: a file edited meanwhile changes
nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnrepro import config as c
from bnrepro.errors import ConfigError
from bnrepro.launch import compose_here, explaining, fingerprint, hydra_context, prepared
from bnrepro.sweepfolder import Member

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

NAME_LENGTH = 80  # characters of a member's name that say what differs; a file's name has 255


@dataclass(frozen=True)
class Grid:
    """What was asked for, before its members are composed.

    `digest` tells one request from another: the words and all configurations they build on.
    """

    words: tuple[str, ...]
    axes: dict[str, list[str]]
    digest: str
    sweep_dir: str | None
    overwrites: bool
    launcher: str
    launcher_words: tuple[str, ...]
    threads: int
    _combinations: list[tuple[tuple[str, ...], DictConfig, list[Override]]]

    def __len__(self) -> int:
        return len(self._combinations)

    def members(self, told: Callable[[int], None] = lambda done: None) -> list[Member]:
        """Compose and check every member; `told` how many are done.

        Raises:
            ConfigError: naming the member that cannot work.
        """
        found: dict[str, Member] = {}
        read = cache(fingerprint)  # once, not for every member
        with hydra_context("sweep"):
            for done, (overrides, base, values) in enumerate(self._combinations):
                try:
                    config = _with(base, values, read)
                except ConfigError as error:
                    raise ConfigError(f"{' '.join(overrides)}: {error}") from error
                digest, member = self._member(overrides, config)
                found.setdefault(digest, member)  # the same configuration twice is one run
                told(done + 1)
        return list(found.values())

    def _member(self, overrides: tuple[str, ...], config: dict[str, Any]) -> tuple[str, Member]:
        settings = c.flat(config)
        chosen = dict(word.split("=", 1) for word in overrides)
        values = {axis: settings.get(axis, chosen[axis]) for axis in self.axes}
        name = folder_name({axis: chosen[axis] for axis in self.axes}, config)
        return computed_digest(config), Member(name, overrides, values, config)


def computed_digest(config: Mapping[str, Any]) -> str:
    """What tells one run from another, in ten characters."""
    computed = json.dumps(c.what_is_computed(config), sort_keys=True)
    return hashlib.sha256(computed.encode()).hexdigest()[:10]


def folder_name(chosen: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """A run's folder, named by the settings that were chosen for it and by all it computes."""
    # No comma: typed as run.dir=…, the name must not be taken for several.
    said = "_".join(f"{short}={chosen[axis]}" for axis, short in _short(chosen).items())
    name = re.sub(r"[^\w.=+-]", "-", said, flags=re.ASCII)[:NAME_LENGTH].strip(".-")
    digest = computed_digest(config)
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

    Raises:
        ConfigError: one line on what is wrong and what would be right.
    """
    with hydra_context("sweep"):
        typed = _parsed(prepared(words, config_dir))
        fixed = [override for override in typed if not override.is_sweep_override()]
        fixed_words = [str(override.input_line) for override in fixed]
        composed = compose_here(fixed_words)
        own = composed.hydra.sweeper.get("params") or {}
        said = _parsed([f"{key}={value}" for key, value in own.items()])
        swept = {str(o.get_key_element()): o for o in said}
        swept |= {str(o.get_key_element()): o for o in typed if o.is_sweep_override()}
        for key in swept:
            if f"{key}.".startswith(("run.", "sweep.", "hydra")):
                raise ConfigError(f"a sweep cannot go over '{key}': give one value, quoted")
        for override in fixed:
            swept.pop(str(override.get_key_element()), None)
        with explaining():
            axes = {key: _values(override) for key, override in swept.items()}
        combinations, bases = [], {}
        for chosen in itertools.product(*axes.values()):
            overrides = tuple(f"{key}={value}" for key, value in zip(axes, chosen, strict=True))
            pairs = list(zip(overrides, swept.values(), strict=True))
            structure = tuple(word for word, o in pairs if _chooses(o))
            if structure not in bases:
                bases[structure] = compose_here([*fixed_words, *structure])
            values = [word for word, o in pairs if not _chooses(o)]
            combinations.append((overrides, structure, values))
        parsed = {word: _parsed([word])[0] for word in {w for _, _, v in combinations for w in v}}
    asked = [sorted(axes.items()), *sorted(_text(base) for base in bases.values())]
    return Grid(
        tuple(words),
        {key.lstrip("+"): values for key, values in axes.items()},
        hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        composed.sweep.dir,
        bool(composed.run.overwrite),
        str(composed.hydra.runtime.choices["hydra/launcher"]),
        tuple(word for word in fixed_words if word.lstrip("+~").startswith("hydra")),
        int(composed.threads),
        [
            (tuple(w.lstrip("+") for w in words), bases[structure], [parsed[w] for w in values])
            for words, structure, values in combinations
        ],
    )


def configurations(
    requests: Sequence[Sequence[str]], told: Callable[[int], None] = lambda done: None
) -> list[dict[str, Any]]:
    """The checked configuration of every list of overrides; `told` how many are done.

    What chooses options of groups is composed once for all that choose alike.

    Raises:
        ConfigError: naming the overrides that cannot work.
    """
    found: list[dict[str, Any]] = []
    read = cache(fingerprint)
    bases: dict[tuple[str, ...], DictConfig] = {}
    parsed: dict[str, Override] = {}
    with hydra_context("compose"):
        for words in requests:
            try:
                parsed |= {word: _parsed([word])[0] for word in words if word not in parsed}
                structure = tuple(word for word in words if _chooses(parsed[word]))
                if structure not in bases:
                    bases[structure] = compose_here(list(structure))
                values = [parsed[word] for word in words if not _chooses(parsed[word])]
                found.append(_with(bases[structure], values, read))
            except ConfigError as error:
                raise ConfigError(f"{' '.join(words)}: {error}") from error
            told(len(found))
    return found


def _text(base: DictConfig) -> str:
    """A composed configuration as text, but for where things lie."""
    from omegaconf import OmegaConf

    skipped = ("hydra", "run", "sweep")
    kept = OmegaConf.masked_copy(base, [str(key) for key in base if key not in skipped])
    return OmegaConf.to_yaml(kept)


def _parsed(words: Sequence[str]) -> list[Override]:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    with explaining():
        return parser.parse_overrides(list(words))


def _values(override: Override) -> list[str]:
    """The values one axis goes over, as they would be typed."""
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(
                f"no grid ({override.input_line}): give values, range(…), choice(…) or glob(…)"
            )
        return list(dict.fromkeys(override.sweep_string_iterator()))
    return [override.get_value_element_as_str()]


def _chooses(override: Override) -> bool:
    """Whether it chooses an option of a group, so that other files are composed."""
    name = override.key_or_group
    return name in c.OPTIONS or name == "experiment" or "/" in name


def same_data(members: Iterable[Member]) -> bool:
    """Whether the data lie there still that the members were composed for.

    Raises:
        DataError: they are missing, or cannot be read.
    """
    every = [member.config["dataset"] for member in members]
    meant = {(d["root"], d.get("fingerprint")) for d in every if d["name"] == "folder"}
    return all(fingerprint(root) == expected for root, expected in meant)


def _with(base: DictConfig, values: list[Override], read: Callable[[str], str]) -> dict[str, Any]:
    """A checked configuration: a composed one with some values set, as Hydra itself sets them.

    Of a data set that its folder does not name, it says the fingerprint that `read` finds there.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import OmegaConf

    with explaining():
        changed = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])
        OmegaConf.set_struct(changed, True)  # as composed: no setting that is not there
        ConfigLoaderImpl._apply_overrides_to_config(values, changed)
    config = c.parse(changed)
    if isinstance(config.dataset, c.Folder) and config.dataset.fingerprint is None:
        config.dataset.fingerprint = read(config.dataset.root)
    return c.to_dict(config)
