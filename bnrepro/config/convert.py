"""A configuration in other forms: plain containers, YAML, dotted names."""

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_type_hints

from bnrepro.config.options import option
from bnrepro.config.schema import OPTIONS, Config


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain containers, as it is written to `config.yaml`."""
    values: dict[str, Any] = plain(dataclasses.asdict(config))
    return values


def plain(value: Any) -> Any:
    """The same value with the members of enumerations as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def from_dict(values: Mapping[str, Any]) -> Config:
    """The configuration that `to_dict` made these values of; nothing is checked again."""
    config: Config = _typed(Config, values)
    return config


def _typed(of: type, values: Mapping[str, Any]) -> Any:
    """A dataclass from the values of its fields; enumerations, and options of groups, by name."""
    kinds, typed = get_type_hints(of), {}
    for name, value in values.items():
        grouped = of is Config and name in OPTIONS
        kind = option(name, value["name"]).settings if grouped else kinds[name]
        if dataclasses.is_dataclass(kind):
            value = _typed(kind, value)
        elif isinstance(kind, type) and issubclass(kind, Enum):
            value = kind(value)
        typed[name] = list(value) if isinstance(value, list) else value
    return of(**typed)


def to_yaml(config: Config) -> str:
    """The configuration as YAML; read again it gives the same configuration."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def shown(value: Any) -> str:
    """A setting's value as one types it, but for quotes: `null`, `true`, `[100,100]`."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(plain(value))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level of dotted names."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[prefix + key] = value
    return result


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted setting name of a configuration's plain containers, groups included."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from keys(value, f"{prefix}{key}.")
