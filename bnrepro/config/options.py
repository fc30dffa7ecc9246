"""Which options there are, those of installed packages too, and what makes each.

A package brings options by entry points (`bnrepro.norms`, `bnrepro.models`, `bnrepro.datasets`);
each is an `Entry`.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from bnrepro.config import schema as s
from bnrepro.config.schema import BASES, OPTIONS, Entry
from bnrepro.errors import BnreproError, ConfigError

GUESTS = {"norm": "bnrepro.norms", "model": "bnrepro.models", "dataset": "bnrepro.datasets"}
"""The entry points by which installed packages bring options."""


def options_of(group: str) -> dict[str, Entry]:
    """The options of a group that can be chosen, by name, those of installed packages too."""
    return _options(group)[0]


@cache
def _options(group: str) -> tuple[dict[str, Entry], dict[str, ConfigError]]:
    """The options that are whole, and of each other one why it cannot be used."""
    entries, errors = dict(OPTIONS[group]), {}
    for point in entry_points(group=GUESTS[group]) if group in GUESTS else ():
        name, package = point.name, point.module
        if point.dist is not None:
            package = f"{point.dist.name} {point.dist.version}"
        try:
            entry = point.load()
        except Exception as error:  # a stranger's module may raise anything
            errors[name] = _broken(group, name, package, f"{type(error).__name__}: {error}")
            continue
        if name in entries:
            continue  # the first to have a name keeps it
        if not isinstance(entry, Entry):
            errors[name] = _broken(group, name, package, f"{point.value} is no Entry")
        else:
            entries[name] = replace(entry, package=package)
    for name, entry in list(entries.items()):
        if lack := _lack(group, name, entry):
            errors[name] = _broken(group, name, entry.package or "bnrepro", lack)
            del entries[name]
    return entries, errors


def _broken(group: str, name: str, package: str, why: str) -> ConfigError:
    return ConfigError(f"{group}={name} cannot be used: {why} ({package}): mend or remove it")


def _lack(group: str, name: str, entry: Entry) -> str | None:
    """What an option has not that every option of its group must have; None if it is whole."""
    base, settings = BASES[group], entry.settings
    if not issubclass(settings, base) or "__dataclass_fields__" not in vars(settings):
        return f"{settings.__name__} is no dataclass derived from {base.__name__}"
    asked = [*get_type_hints(base), *(["placement"] if group == "norm" else [])]
    if missing := [what for what in asked if not hasattr(settings, what)]:
        return f"{settings.__name__} does not say '{missing[0]}'"
    if not defaults(group, name, entry).is_file():
        return f"no default values, {defaults(group, name, entry)}"
    return None


def defaults(group: str, name: str, entry: Entry) -> Path:
    """The YAML file of an option's default values."""
    return entry.defaults or conf_dir() / group / f"{name}.yaml"


def why_not(group: str, name: str) -> str | None:
    """Why an option that somebody brings cannot be used; None if there is no such option."""
    error = _options(group)[1].get(name)
    return None if error is None else str(error)


def option(group: str, name: str) -> Entry:
    """One option of a group.

    Raises:
        ConfigError: there is none of that name, or it is not whole.
    """
    entries, errors = _options(group)
    if name in errors:
        raise errors[name]
    if name not in entries:
        raise ConfigError(unknown(group, name, entries))
    return entries[name]


def maker(settings: s.Option) -> Callable[..., Any]:
    """What makes the thing that these settings describe.

    Raises:
        ConfigError: a module that it requires is not installed, or it is not there. What a guest's
            function raises becomes one, too.
    """
    group = next(group for group, base in BASES.items() if isinstance(settings, base))
    entry = option(group, settings.name)
    for module in settings.requires:
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"no module '{module}' ({group}={settings.name}): install it")
    module, _, function = entry.make.partition(":")
    try:
        make: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        package = entry.package or "bnrepro"
        raise _broken(group, settings.name, package, f"no {entry.make}: {error}") from error
    return make if entry.package is None else _one_line_errors(make, group, settings.name, entry)


def _one_line_errors(
    make: Callable[..., Any], group: str, name: str, entry: Entry
) -> Callable[..., Any]:
    def made(*arguments: Any) -> Any:
        try:
            return make(*arguments)
        except BnreproError:
            raise
        except Exception as error:  # a stranger's function may raise anything
            why = f"{type(error).__name__}: {error}"
            raise _broken(group, name, str(entry.package), why) from error

    return made


def brought_by(config: s.Config) -> dict[str, str]:
    """The packages that this run's options come from, with their versions, but for bnrepro."""
    chosen = {group: option(group, getattr(config, group).name).package for group in GUESTS}
    return {group: package for group, package in chosen.items() if package is not None}


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, next to it in a checkout."""
    package = Path(str(files("bnrepro")))
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no configurations (looked next to {package}): install bnrepro again")


def choices() -> dict[str, list[str]]:
    """The options of every group, and the packaged experiments, without asking Hydra."""
    experiments = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
    return {group: list(options_of(group)) for group in OPTIONS} | {"experiment": experiments}


def unknown(what: str, name: str, names: Iterable[str]) -> str:
    """One line on a name that does not exist: the nearest that does, and all where they are few."""
    names = sorted(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else ""
    if len(names) <= 12:
        hint = f"{hint} choose one of {', '.join(names)}".strip()
    return f"unknown {what} '{name}'" + (f": {hint}" if hint else "")
