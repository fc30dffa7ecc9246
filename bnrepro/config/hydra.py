"""The one door to Hydra: all that is taken from it, its internals too, is taken here.

What Hydra and OmegaConf have to say about a bad override becomes one line here.
"""

import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.plugins.completion_plugin import DefaultCompletionPlugin
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, errors, open_dict, read_write

from bnrepro import reading
from bnrepro.config import files
from bnrepro.config.check import first_line, unknown_setting
from bnrepro.config.convert import keys, shown
from bnrepro.config.options import GUESTS, conf_dir, defaults, options_of, unknown, why_not
from bnrepro.config.schema import OPTIONS
from bnrepro.errors import ConfigError, RunInUseError

T = TypeVar("T")

LAUNCHERS = {
    "joblib": ("joblib", "hydra_joblib_launcher"),
    "submitit_local": ("slurm", "hydra_submitit_launcher"),
    "submitit_slurm": ("slurm", "hydra_submitit_launcher"),
    "ray": ("ray", "hydra_ray_launcher"),
}
"""Launchers of Hydra's that come as extras of this package: the extra, and Hydra's plugin."""


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of configuration files, each checked before it is loaded.

    It has the name of Hydra's own class: by its name a launcher's worker knows it for registered.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file.

        Raises:
            ConfigError: it holds what a file of configuration may not.
        """
        path = Path(self.path) / self._normalize_file_name(config_path)
        if path.exists():
            files.check(path, config_path)
        return super().load_config(config_path)


@contextmanager
def context(job_name: str) -> Iterator[Hydra]:
    """Hydra, set up over our configurations and those of packages that bring options."""
    Plugins.instance()  # registers Hydra's own sources, which ours then replaces
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
    # What we say of a launcher is merged into what its plugin says, as both have the same name.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore")
    for group in GUESTS:
        for name, entry in options_of(group).items():
            if entry.package is not None:
                path = defaults(group, name, entry)
                files.check(path, f"{group}/{name}")
                ConfigStore.instance().store(name, reading.read_yaml(path), group)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), job_name=job_name, version_base="1.3"):
        yield _hydra()


def _hydra() -> Hydra:
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None, "within a `context`"
    return hydra


def compose(overrides: Sequence[str]) -> DictConfig:
    """Hydra's composed configuration, with its own `hydra` node, within a `context`.

    Raises:
        ConfigError: one line on what is wrong.
    """
    _refuse_missing_launcher(overrides)
    with one_line_errors():
        return hydra_compose("config", list(overrides), return_hydra_config=True)


def group_options(group: str) -> list[str]:
    """The options of a config group that there are files of, within a `context`."""
    return _hydra().config_loader.get_group_options(group, ObjectType.CONFIG)


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """Overrides as Hydra reads them, within a `context`.

    Raises:
        ConfigError: one is none.
    """
    parser = OverridesParser.create(config_loader=_hydra().config_loader)
    with one_line_errors():
        return parser.parse_overrides(list(words))


def is_text(value: str) -> bool:
    """Whether Hydra reads a bare value as text or as null by itself."""
    if not value.isascii():  # its grammar has no letters but a to z
        return False
    parsed = OverridesParser.create().parse_override(f"key={value}").value()
    return parsed is None or isinstance(parsed, str)


def quoted(text: str) -> str:
    """Text as a quoted string of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def typed(value: object) -> str:
    """A setting's value as one types it in an override: a number, a text, a list of either.

    Text is in quotes where Hydra would read it as something else.
    """
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if not isinstance(value, str):
        return shown(value)
    bare = re.fullmatch(r"[\w./+-]+", value) and value.lower() != "null" and is_text(value)
    return value if bare else quoted(value)


def apply(overrides: list[Override], base: DictConfig) -> DictConfig:
    """A composed configuration with some values set, as Hydra itself sets them.

    Raises:
        ConfigError: one of them cannot be set.
    """
    with one_line_errors():
        changed = masked(base, "hydra")
        OmegaConf.set_struct(changed, True)  # as composed: no setting that is not there
        ConfigLoaderImpl._apply_overrides_to_config(overrides, changed)
    return changed


def masked(base: DictConfig, *without: str) -> DictConfig:
    """The configuration without some of its top keys."""
    return OmegaConf.masked_copy(base, [str(key) for key in base if key not in without])


def has_dictionary(override: Override) -> bool:
    """Whether it gives a group's settings, which are merged into those that are there."""
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    return any(isinstance(item, dict) for item in values)


def range_of(override: Override) -> tuple[float, float, float] | None:
    """Start, stop and step of a `range(…)`; None for an override of another kind."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return None
    assert value.start is not None
    assert value.stop is not None
    return value.start, value.stop, value.step


def completions(words: Sequence[str], word: str) -> list[str]:
    """What Hydra would complete a word to after others, within a `context`."""
    answers = DefaultCompletionPlugin(_hydra().config_loader)._query(
        "config", " ".join([*words, word])
    )
    return list(answers)


def run_as_job(composed: DictConfig, folder: Path, task: Callable[[], T]) -> T:
    """Call `task` as Hydra does: with its record in the folder, its logging, its `HydraConfig`.

    Args:
        composed: Hydra's configuration of this run, with its own `hydra` node.
        folder: of the run; `.hydra/` and the log are written there.
        task: what is called.
    """
    logging.raiseExceptions = False  # a log that cannot be written must not cover the error itself
    record = composed.copy()
    with read_write(record), open_dict(record):
        record.run.dir = record.hydra.run.dir = str(folder)
    with context(str(record.hydra.job.name)) as hydra:
        outcome: JobReturn = run_job(
            task_function=lambda _: _logged(task),
            config=record,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(hydra.config_loader, Callbacks(record)),
        )
    if outcome.status is JobStatus.FAILED:
        raise outcome._return_value
    result: T = outcome.return_value
    return result


def _logged(task: Callable[[], T]) -> T:
    """Call `task`; Hydra itself never logs the traceback of a job that failed."""
    try:
        return task()
    except RunInUseError:  # the folder, and the log in it, are another process's now
        raise
    except Exception:
        logging.getLogger("bnrepro").exception("the run failed")
        raise


def launcher(
    overrides: Sequence[str], task: Callable[[DictConfig], None]
) -> tuple[DictConfig, Callable[[Sequence[Sequence[str]]], Iterable[JobReturn]]]:
    """Hydra's launcher of a configuration, within a `context`.

    Args:
        overrides: which launcher, and its settings.
        task: called for each job with its configuration, in a process of the launcher's choosing.

    Returns:
        The configuration, and a function that launches a job for every list of overrides.
    """
    hydra = _hydra()
    with one_line_errors():
        config = hydra.compose_config("config", list(overrides), RunMode.MULTIRUN)
        instance = Plugins.instance().instantiate_launcher(
            HydraContext(hydra.config_loader, Callbacks(config)), task, config
        )
    return config, lambda jobs: instance.launch(jobs, 0)


def _refuse_missing_launcher(overrides: Sequence[str]) -> None:
    """Say what to install where a launcher is ours to configure and somebody else's to bring."""
    for word in overrides:
        name = word.lstrip("+").removeprefix("hydra/launcher=")
        if name in LAUNCHERS and not is_installed(name):
            raise ConfigError(_not_installed(name))


def is_installed(name: str) -> bool:
    """Whether the plugin of one of `LAUNCHERS` is installed."""
    _, plugin = LAUNCHERS[name]
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # without any plugin there is no hydra_plugins either
        return False


def _not_installed(name: str) -> str:
    extra, _ = LAUNCHERS[name]
    return f"launcher '{name}' is not installed: pip install '.[{extra}]' in bnrepro's folder"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # for odd overrides also ValueError, AssertionError and the like
        raise ConfigError(_explain(error)) from error


def _explain(error: Exception) -> str:
    """One line for what Hydra, OmegaConf or the YAML parser raised while composing."""
    chain: list[BaseException] = [error]
    # Under a debugger or a measurement of coverage OmegaConf's errors have causes of their own,
    # even themselves.
    while (
        not isinstance(chain[-1], errors.OmegaConfBaseException) and chain[-1].__cause__ is not None
    ):
        chain.append(chain[-1].__cause__)
    root = chain[-1]
    if isinstance(root, yaml.YAMLError):
        return " ".join(str(root).split()) + ": mend that file"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        names = set(error.options or [])
        if group == "hydra/launcher":
            if option in LAUNCHERS:
                return _not_installed(option)
            names |= set(LAUNCHERS)
        if group in OPTIONS and (why := why_not(group, option)):
            return why
        return unknown(f"option of {group or 'config'}", option, names)
    text = first_line(error)
    if isinstance(error, OverrideParseException) or isinstance(root, errors.GrammarParseError):
        return f"{text}: write KEY=VALUE, and quote what has special characters"
    if "Ambiguous value" in text:
        return f"{text}: one run takes one value; 'bnrepro sweep' takes many; a list is KEY=[A,B]"
    key = getattr(root, "full_key", None)
    if isinstance(
        root, errors.ConfigKeyError | errors.ConfigAttributeError
    ) or "No match in the defaults list" in str(error):
        name = str(key or text.split("'")[1] if "'" in text else text)
        if name in (*OPTIONS, "experiment"):
            return f"{text}: '{name}' is a group, its options are: {', '.join(group_options(name))}"
        return unknown_setting(name, {*_settings(), "experiment"})
    reasons = dict.fromkeys(first_line(link) for link in chain)
    return ": ".join(reasons) + (f" ({key})" if key else "")


@cache
def _settings() -> frozenset[str]:
    """Every setting of the configuration without overrides, within a `context`."""
    return frozenset(keys(OmegaConf.to_container(hydra_compose("config"), resolve=False)))
