"""The one place where the command line hands over to Hydra.

Hydra composes the configuration from `conf/`, a user's own `--config-dir` and the overrides, once;
`bnrepro.config` checks it; the run's folder is taken; Hydra's `run_job` writes its record there
(`.hydra/`) and calls the task.
What Hydra and OmegaConf have to say about a bad override becomes one line here.
"""

from __future__ import annotations

import filecmp
import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bnrepro.config import (
    FINGERPRINT,
    OPTIONS,
    STUDIES,
    TEXT,
    Config,
    Folder,
    conf_dir,
    differences,
    first_line,
    flat,
    keys,
    other_results,
    parse,
    refuse_many_references,
    to_dict,
    to_yaml,
    unknown,
    unknown_setting,
)
from bnrepro.errors import ConfigError, Interrupted, RunInUseError, StorageError
from bnrepro.reading import is_unicode
from bnrepro.signals import StopSignals
from bnrepro.store import RunWriter, StoredRun, new_folder

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

T = TypeVar("T")

LAUNCHERS = {
    "joblib": ("joblib", "hydra_joblib_launcher"),
    "submitit_local": ("slurm", "hydra_submitit_launcher"),
    "submitit_slurm": ("slurm", "hydra_submitit_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
}
"""Launchers of Hydra's that come as extras of this package: the extra, and Hydra's plugin."""


LONGEST = 10_000
"""Characters of one override: Hydra's parser takes seconds for more, and then minutes."""


@dataclass(frozen=True)
class Job:
    """A composed configuration: Hydra's, with its own `hydra` node, and the checked one."""

    composed: DictConfig
    config: Config


@contextmanager
def hydra_context(job_name: str) -> Iterator[Hydra]:
    """Hydra, set up over our configurations."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from bnrepro import configfiles

    configfiles.install()
    # What we say of a launcher is merged into what its plugin says, as both have the same name.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), job_name=job_name, version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        yield hydra


def compose(overrides: Sequence[str], config_dir: Path | None = None, name: str = "train") -> Job:
    """Compose and check the configuration of one run; nothing is written.

    Raises:
        ConfigError: one line on what is wrong and what would be right.
    """
    overrides = prepared(overrides, config_dir)
    with hydra_context(name):
        composed = compose_here(overrides)
    return Job(composed, parse(composed))


def prepared(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """The overrides as Hydra gets them: text stays text, and the user's own folder is searched.

    Raises:
        ConfigError: the folder is missing, or holds a file that Hydra would never read.
    """
    for word in overrides:
        if len(word) > LONGEST:
            raise ConfigError(f"too long ({word[:60]}…): give at most {LONGEST:,} characters")
        if not is_unicode(word):
            raise ConfigError(f"not UTF-8 ({word}): give text")
        if word.lstrip("+~").startswith("hydra.searchpath"):
            raise ConfigError(f"not taken ({word[:80]}): give the folder by --config-dir DIR")
    words = [_text_quoted(word) for word in overrides]
    if config_dir is None:
        return words
    if not config_dir.is_dir():
        raise ConfigError(f"no such folder ({config_dir}): --config-dir takes a folder")
    _refuse_shadowed(config_dir)
    return [*words, f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]"]


def _text_quoted(word: str) -> str:
    """`KEY=VALUE`, the value of a text setting in quotes where Hydra would read it as a number.

    A folder called 2026_11_26 would become 20261126, and 1e3 would become 1000.0.
    """
    key, _, value = word.partition("=")
    if key.lstrip("+") not in TEXT:
        return word
    if value.startswith("~"):  # a home folder, which Hydra's grammar has no place for
        return f"{key}={quoted(value)}"
    if not re.fullmatch(r"[\w./+,\[\]-]+", value):
        return word
    return f"{key}=" + re.sub(r"[\w./+-]+", lambda found: _as_text(found[0]), value)


def _as_text(value: str) -> str:
    """A bare value, in quotes unless Hydra reads it as text or null by itself."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not value.isascii():  # Hydra's grammar has no letters but a to z
        return quoted(value)
    read = OverridesParser.create().parse_override(f"key={value}").value()
    return value if read is None or isinstance(read, str) else quoted(value)


def _refuse_shadowed(config_dir: Path) -> None:
    """Hydra reads the first file of a name that it finds, and a packaged one comes first."""
    for root in (conf_dir(), Path(str(files("hydra.conf")))):
        for packaged in sorted(root.rglob("*.yaml")):
            own = config_dir / packaged.relative_to(root)
            if own.is_file() and not filecmp.cmp(own, packaged, shallow=False):
                raise ConfigError(
                    f"the packaged {packaged} would be read in place of your file ({own}): "
                    "give yours another name"
                )


ELSEWHERE = {
    "train": {
        "sweep.dir": "the folder of one run is run.dir=DIR",
        "hydra/launcher": "one run is made here, 'bnrepro sweep' takes launchers",
        "hydra.launcher": "one run is made here, 'bnrepro sweep' takes launchers",
        "hydra.sweeper": "'bnrepro sweep' takes several values",
    },
    "sweep": {"run.dir": "the folder of a sweep is sweep.dir=DIR"},
}
"""Settings that one command has no use for, and what to do instead."""


def refuse_elsewhere(command: str, overrides: Sequence[str]) -> None:
    """Refuse what another command would heed and this one would drop.

    Raises:
        ConfigError: naming the setting, and what to give instead.
    """
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        for name, instead in ELSEWHERE[command].items():
            if f"{key}.".startswith(f"{name}."):
                raise ConfigError(f"not a setting of 'bnrepro {command}' ({word[:80]}): {instead}")


HYDRAS_OWN = {
    "run.dir": "run.dir=DIR",
    "sweep.dir": "sweep.dir=DIR with 'bnrepro sweep'",
    "sweep.subdir": "sweep.dir=DIR with 'bnrepro sweep', which names the folders below itself",
    "mode": "'bnrepro sweep' for several values",
    "job.chdir": "absolute paths: bnrepro stays in the folder where it was started",
}
"""Settings of Hydra's below `hydra.` that bnrepro sets itself, and what to give instead."""


def _refuse_hydras_own(composed: DictConfig) -> None:
    """Refuse what Hydra would take and bnrepro would drop."""
    said, plain = _hydra_settings(composed), _hydra_settings(_compose([]))
    for name, instead in HYDRAS_OWN.items():
        if said.get(name) != plain.get(name):
            raise ConfigError(f"not taken (hydra.{name}={said.get(name)}): use {instead}")


def _refuse_several(composed: DictConfig) -> None:
    """Hydra would take a list of a group's options, one merged over the other."""
    for group, options in OPTIONS.items():
        if group in composed and composed.hydra.runtime.choices.get(group) is None:
            raise ConfigError(f"not one option ({group}): choose one of {', '.join(options)}")


def _refuse_renamed(composed: DictConfig) -> None:
    """A group's option is chosen as a whole; its name alone would leave the other's settings."""
    for group, options in OPTIONS.items():
        chosen = composed.hydra.runtime.choices.get(group)
        name = str(composed.get(group, {}).get("name", chosen))
        if chosen in options and name in options and name != chosen:
            raise ConfigError(
                f"{group}.name={name}, but {group}={chosen} is chosen: write {group}={name}, or in "
                f"a file 'override /{group}: {name}' below 'defaults'"
            )


def _refuse_odd_words(overrides: Sequence[str]) -> None:
    """Refuse words that Hydra answers with what nobody typed."""
    groups = {**OPTIONS, "experiment": ()}
    for word in overrides:
        key, equals, value = word.lstrip("+~").partition("=")
        if word.startswith("~"):
            if key in OPTIONS:
                raise ConfigError(
                    f"a group cannot be left out ({word}): choose one of {', '.join(OPTIONS[key])}"
                )
            if not key.startswith(("hydra", "experiment")):
                raise ConfigError(f"a setting cannot be left out ({word}): give one ({key}=…)")
        elif not equals:
            raise ConfigError(f"no value ({word}): write KEY=VALUE, such as seed=1")
        elif key in groups and word.startswith("+"):
            raise ConfigError(f"one is chosen already ({word}): write {key}={value}")
        elif key == "norm" and value.lower() in ("null", "false"):
            raise ConfigError(f"no option ({word}): write norm=none")
        elif key == "experiment" and value.lower() in ("null", "none", ""):
            raise ConfigError(f"no experiment ({word}): leave it out")
        elif key in groups and value.lower() == "null":
            raise ConfigError(f"no option ({word}): choose one of {', '.join(OPTIONS[key])}")


def _refuse_hydra_settings(composed: DictConfig, overrides: list[str]) -> None:
    """Hydra's own settings can name code to run: they come from the command line only.

    All that a file may say of them is what a sweep goes over (`hydra.sweeper.params`).
    """
    typed = [word for word in overrides if word.lstrip("+~").startswith("hydra")]
    said, plain = _hydra_settings(composed), _hydra_settings(_compose(typed))
    if said != plain:
        names = sorted(name for name in {*said, *plain} if said.get(name) != plain.get(name))
        raise ConfigError(
            f"a configuration file sets {', '.join(names[:3])}: give it on the command line"
        )


def _hydra_settings(composed: DictConfig) -> dict[str, Any]:
    """Hydra's own settings, by dotted names, but for what it writes there itself."""
    from omegaconf import OmegaConf

    node = OmegaConf.to_container(composed.hydra, resolve=False)
    assert isinstance(node, dict)
    own = ("overrides.", "runtime.", "job.override_dirname", "job.name", "sweeper.params")
    return {
        name: value
        for name, value in flat({str(key): value for key, value in node.items()}).items()
        if not name.startswith(own) and name != "overrides"
    }


def _refuse_missing_launcher(overrides: list[str]) -> None:
    """Say what to install where a launcher is ours to configure and somebody else's to bring."""
    for word in overrides:
        name = word.lstrip("+").removeprefix("hydra/launcher=")
        if name in LAUNCHERS and not _is_installed(name):
            raise ConfigError(_not_installed(name))


def _is_installed(launcher: str) -> bool:
    _, plugin = LAUNCHERS[launcher]
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # without any plugin there is no hydra_plugins either
        return False


def _not_installed(launcher: str) -> str:
    extra, _ = LAUNCHERS[launcher]
    return f"launcher '{launcher}' is not installed: pip install '.[{extra}]' in bnrepro's folder"


def quoted(text: str) -> str:
    """Text as a quoted string of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def compose_here(overrides: list[str]) -> DictConfig:
    """Compose within a `hydra_context`; what can be refused without the schema is refused."""
    _refuse_missing_launcher(overrides)
    _refuse_odd_words(overrides)
    composed = _compose(overrides)
    refuse_many_references(composed)
    if any("hydra.searchpath" in word for word in overrides):
        _refuse_hydra_settings(composed, overrides)
    if any("hydra" in word for word in overrides):
        _refuse_hydras_own(composed)
    _refuse_several(composed)
    _refuse_renamed(composed)
    return composed


def _compose(overrides: list[str]) -> DictConfig:
    from hydra import compose

    with explaining():
        return compose("config", overrides, return_hydra_config=True)


@contextmanager
def explaining() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # for odd overrides also ValueError, AssertionError and the like
        raise ConfigError(_explain(error)) from error


def _explain(error: Exception) -> str:
    """One line for what Hydra, OmegaConf or the YAML parser raised while composing."""
    import yaml
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        GrammarParseError,
        OmegaConfBaseException,
    )

    chain: list[BaseException] = [error]
    # Under a debugger or a measurement of coverage OmegaConf's errors have causes of their own,
    # even themselves.
    while not isinstance(chain[-1], OmegaConfBaseException) and chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    root = chain[-1]
    if isinstance(root, yaml.YAMLError):
        return " ".join(str(root).split()) + ": mend that file"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        choices = set(error.options or [])
        if group == "hydra/launcher":
            if option in LAUNCHERS:
                return _not_installed(option)
            choices |= set(LAUNCHERS)
        return unknown(f"option of {group or 'config'}", option, choices)
    text = first_line(error)
    if isinstance(error, OverrideParseException) or isinstance(root, GrammarParseError):
        return f"{text}: write KEY=VALUE, and quote what has special characters"
    if "Ambiguous value" in text:
        return f"{text}: one run takes one value; 'bnrepro sweep' takes many; a list is KEY=[A,B]"
    settings = _defaults()
    key = getattr(root, "full_key", None)
    if isinstance(
        root, ConfigKeyError | ConfigAttributeError
    ) or "No match in the defaults list" in str(error):
        name = str(key or text.split("'")[1] if "'" in text else text)
        if name in (*OPTIONS, "experiment"):
            return f"{text}: '{name}' is a group, its options are: {', '.join(options(name))}"
        return unknown_setting(name, {*keys(settings), "experiment"})
    reasons = dict.fromkeys(first_line(link) for link in chain)
    return ": ".join(reasons) + (f" ({key})" if key else "")


@cache
def _defaults() -> dict[str, Any]:
    """Every setting of the configuration without overrides; to be asked while Hydra is set up."""
    from hydra import compose

    return to_dict(parse(compose("config")))


def options(group: str) -> list[str]:
    """The options of a config group, such as the names of all experiments."""
    from hydra.core.object_type import ObjectType

    with hydra_context("options") as hydra:
        return hydra.config_loader.get_group_options(group, ObjectType.CONFIG)


def show(job: Job, what: str) -> str:
    """The composed configuration as YAML: the run's (`job`), Hydra's (`hydra`) or both (`all`)."""
    from omegaconf import OmegaConf

    own = to_yaml(job.config)
    hydra = OmegaConf.to_yaml(OmegaConf.create({"hydra": job.composed.hydra}))
    return {"job": own, "hydra": hydra, "all": own + hydra}[what]


def run(
    job: Job,
    task: Callable[[Config, RunWriter, StopSignals], T],
    outputs: Path,
    stop: StopSignals | None = None,
) -> tuple[Path, T | None]:
    """Take a run's folder and call `task` there as a Hydra job.

    Args:
        job: what to run; without `run.dir`, a new folder below `outputs` is made.
        task: called with the configuration, the writer of the folder, and what tells it of a
            signal to stop. Hydra's record and the log with a failure's traceback lie there too.
        outputs: where new folders go.
        stop: what heeds signals already, where something does.

    Returns:
        The folder, and what the task returned: None where this run is finished there already.

    Raises:
        Exception: whatever the task raised, as it was raised; the run's state tells of it.
        Interrupted: a signal asked to stop; what was done is kept.
    """
    with nullcontext(stop) if stop is not None else StopSignals() as heeded:
        return _run(job, lambda config, writer: task(config, writer, heeded), outputs)


def _run(job: Job, task: Callable[[Config, RunWriter], T], outputs: Path) -> tuple[Path, T | None]:
    taken = take(job, outputs)
    if taken is None:
        return Path(str(job.config.run.dir)), None
    try:
        return taken.folder, taken.call(lambda: task(job.config, taken.writer))
    except BaseException as error:
        taken.ended(error)
        raise


@dataclass(frozen=True)
class Taken:
    """A run whose folder is ours to write."""

    job: Job
    folder: Path
    writer: RunWriter

    def call(self, task: Callable[[], T]) -> T:
        """Call `task` as a Hydra job of this run, with Hydra's record and log in its folder."""
        return _run_job(self.job, self.folder, task)

    def ended(self, error: BaseException) -> None:
        """Write down what ended the run before its result."""
        if isinstance(error, Interrupted):
            error.folder = self.folder
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt)
        with suppress(StorageError):  # the first error is the one to tell
            exits = isinstance(error, SystemExit)
            reason = f"ended with exit code {error}" if exits else first_line(error)
            self.writer.abandon("interrupted" if interrupted else "failed", reason)


def take(job: Job, outputs: Path) -> Taken | None:
    """Take a run's folder, which `job.config.run.dir` then names; None where it is finished there.

    Raises:
        RunInUseError: another process is writing this run.
        ConfigError: the folder holds another run, or something that is no run.
        StorageError: the folder cannot be written.
    """
    config = job.config
    folder = Path(config.run.dir) if config.run.dir else new_folder(outputs)
    if "${" in str(folder.absolute()):  # Hydra would take it for a reference, again and again
        raise ConfigError(f"a folder's name cannot hold '${{' ({folder}): choose another run.dir")
    config.run.dir = str(folder)
    values = to_dict(config)
    stored = StoredRun(folder)
    there = stored.config() if stored.exists() and not config.run.overwrite else {}
    different = differences(values, there) if there else []
    if there and stored.summary() is not None and not config.run.overwrite:
        drift = stored.drift()
        # The configuration that a drifted run ended with had a part in it, as all that drifted.
        part = config.run.allow_drift and set(different) <= set(drift)
        different = [] if part else [*different, *(f"drifted, {line}" for line in drift)]
        different += [*other_data(config, stored), *other_results(stored.manifest())]
    writer = RunWriter.claim(
        folder,
        values,
        different,
        overwrite=config.run.overwrite,
        allow_drift=config.run.allow_drift,
    )
    return None if writer is None else Taken(job, folder, writer)


def fingerprint(root: str, size: int | None = None) -> str:
    """The fingerprint of the images in a folder of the user's own: all of them are read.

    Args:
        root: the folder, `dataset.root`.
        size: height and width that the images are brought to, `dataset.size`.

    Raises:
        DataError: they are missing, or cannot be read.
    """
    from bnrepro.data import copies

    return copies.read("folder", Path(root), size=size).fingerprint


def other_data(config: Config, stored: StoredRun) -> list[str]:
    """What differs between the data a run has read and those it would read now.

    Of the data sets known by name there is only one each.
    """
    if not isinstance(config.dataset, Folder):
        return []
    d = config.dataset
    ours = d.fingerprint or fingerprint(d.root, d.size)
    theirs = (stored.manifest().get("dataset") or {}).get("fingerprint")
    return [] if ours == theirs else [f"{FINGERPRINT}: {theirs or 'not known'} -> {ours}"]


def _run_job(job: Job, folder: Path, task: Callable[[], T]) -> T:
    """Call `task` as Hydra does: with its record in the folder, its logging, its `HydraConfig`."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import JobStatus, run_job
    from hydra.types import HydraContext
    from omegaconf import open_dict, read_write

    logging.raiseExceptions = False  # a log that cannot be written must not cover the error itself
    composed = job.composed.copy()
    with read_write(composed), open_dict(composed):
        composed.run.dir = composed.hydra.run.dir = str(folder)
    with hydra_context(str(composed.hydra.job.name)) as hydra:
        result = run_job(
            task_function=lambda _: _logged(task),
            config=composed,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(hydra.config_loader, Callbacks(composed)),
        )
    if result.status is JobStatus.FAILED:
        raise result._return_value
    return result.return_value  # type: ignore[no-any-return]


def _logged(task: Callable[[], T]) -> T:
    """Call `task`; Hydra itself never logs the traceback of a job that failed."""
    try:
        return task()
    except RunInUseError:  # the folder, and the log in it, are another process's now
        raise
    except Exception:
        logging.getLogger("bnrepro").exception("the run failed")
        raise


def complete(words: Sequence[str], word: str) -> list[str]:
    """What a word may become after other words: groups, options, settings, values.

    Of values with commas between them, which a sweep takes, it is the last that is completed.
    """
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    words = [other for other in words if "=" in other and "," not in other]
    key, equals, value = word.partition("=")
    before, comma, _ = value.rpartition(",")
    asked = f"{key}=" if comma else word
    with hydra_context("complete") as hydra:
        plugin = DefaultCompletionPlugin(hydra.config_loader)
        found = (
            [] if asked.startswith("hydra") else plugin._query("config", " ".join([*words, asked]))
        )
        known = _known_values(key, words) if equals else []
        launchers = hydra.config_loader.get_group_options("hydra/launcher")
    if key == "hydra/launcher":
        known = sorted({*launchers, *LAUNCHERS})
    start = f"{key}={before}{comma}"
    if known or comma:
        given = before.split(",")
        rest = known or [answer.partition("=")[2] for answer in found]
        found = [f"{start}{option}" for option in rest if option not in given]
    return [answer for answer in found if answer.startswith(word)]


def _known_values(key: str, words: Sequence[str]) -> list[str]:
    """The values of a setting that has but a few."""
    if key == "studies":
        return [f"[{study}]" for study in STUDIES]
    try:
        value: Any = parse(compose_here(list(words)))
        for name in key.lstrip("+").split("."):
            value = getattr(value, name)
    except (ConfigError, AttributeError):  # what was typed before does not work: nothing to offer
        return []
    if isinstance(value, bool):
        return ["false", "true"]
    return [option.value for option in type(value)] if isinstance(value, Enum) else []
