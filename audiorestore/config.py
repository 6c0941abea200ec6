"""Configuration: frozen dataclasses, filled from YAML, where an unknown key or a wrong type is an error.

A dataclass stands beside what it configures; this module only knows how to fill one. YAML files that
ship with the program are found by name (``find_config("training", "default")``).
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
import yaml.constructor

from audiorestore.errors import ConfigError

T = TypeVar("T")

_MERGE = "tag:yaml.org,2002:merge"


def config_folder() -> Path:
    """Return the folder of the shipped configurations: inside the installed package, or in the source tree."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def find_config(kind: str, name: str | Path) -> Path:
    """Return the YAML file for ``name``: a path if there is one, or the shipped ``configs/KIND/NAME.yaml``.

    Raises:
        ConfigError: neither exists; the message lists the shipped names.
    """
    given = Path(name)
    if given.suffix in {".yaml", ".yml"} and given.is_file():
        return given
    shipped = config_folder() / kind / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    raise ConfigError(
        f"{name}: expected a YAML file or one of the shipped {kind} configurations "
        f"({', '.join(list_configs(kind))}), found neither"
    )


def list_configs(kind: str) -> list[str]:
    """Return the names of the shipped configurations of one kind, sorted."""
    return sorted(path.stem for path in (config_folder() / kind).glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, read as data only.

    Raises:
        ConfigError: the file cannot be read, is not YAML, says a setting twice, or is not a mapping.
    """
    try:
        # A safe loader: data only.
        content = yaml.load(path.read_text(encoding="utf-8"), _OnceLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file, found {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(content).__name__}")
    return content


class _OnceLoader(yaml.SafeLoader):
    """Reads data only, and refuses a key that stands twice in one mapping: nobody knows which was meant."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose keys are all different."""
        keys: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:  # settings of another mapping, which its own ones override
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):  # which the loader itself will say
                continue
            if key in keys:
                problem = f"the setting {key!r} a second time in line {key_node.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(problem=problem)
            keys.add(key)
        return super().construct_mapping(node, deep)


def load_config(kind: type[T], path: Path) -> T:
    """Fill the dataclass ``kind`` from a YAML file."""
    return from_mapping(kind, read_yaml(path), where=str(path))


def from_mapping(kind: type[T], values: typing.Mapping[str, Any], *, where: str) -> T:
    """Fill the dataclass ``kind`` from a mapping; nested dataclasses and tuples are filled too.

    Args:
        where: the file (or other origin) named in errors.

    Raises:
        ConfigError: unknown key, missing key, wrong type, or a value the dataclass refuses.
    """
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [str(key) for key in values if key not in fields]
    if unknown:
        raise ConfigError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(fields)}")
    filled = {name: _convert(hints[name], value, where=f"{where}: {name}") for name, value in values.items()}
    missing = [
        name
        for name, item in fields.items()
        if name not in filled and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: setting {missing[0]!r} is missing")
    try:
        return kind(**filled)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_mapping(value: Any) -> dict[str, Any]:
    """Return a dataclass as plain data (for YAML, JSON); the inverse of `from_mapping`."""
    plain = _plain(dataclasses.asdict(value))
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert_union([item for item in arguments if item is not type(None)], value, where=where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, found {value!r}")
        return from_mapping(hint, value, where=where)  # type: ignore[arg-type]
    if origin in (tuple, list):
        return _convert_sequence(origin, arguments, value, where=where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, found {value!r}")
        return {key: _convert(arguments[1], item, where=f"{where}: {key}") for key, item in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: expected one of {', '.join(map(str, arguments))}, found {value!r}")
        return value
    return _convert_scalar(hint, value, where=where)


def _convert_union(options: list[Any], value: Any, *, where: str) -> Any:
    problems = []
    for option in options:
        try:
            return _convert(option, value, where=where)
        except ConfigError as error:
            problems.append(error)
    raise problems[0]


def _convert_sequence(origin: Any, arguments: tuple[Any, ...], value: Any, *, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, found {value!r}")
    if origin is tuple and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ConfigError(f"{where}: expected {len(arguments)} values, found {len(value)}")
        return tuple(_convert(hint, item, where=where) for hint, item in zip(arguments, value, strict=True))
    return origin(_convert(arguments[0], item, where=where) for item in value)


def _convert_scalar(hint: Any, value: Any, *, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, found {value}")  # no record could hold it
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
