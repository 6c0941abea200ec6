"""What JSON must look like, by the part of JSON Schema (draft 2020-12) that the schema of a record uses.

So what is read here is what the published schema says, and a consumer with any validator finds the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

_KINDS: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: _KINDS["number"](value) and value == int(value),
}
_LIMITS: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", "{} or more", lambda value, limit: bool(value >= limit)),
    "maximum": ("number", "{} or less", lambda value, limit: bool(value <= limit)),
    "exclusiveMinimum": ("number", "more than {}", lambda value, limit: bool(value > limit)),
    "minLength": ("string", "a text of {} characters or more", lambda value, limit: len(value) >= limit),
    "maxProperties": ("object", "{} keys or fewer", lambda value, limit: len(value) <= limit),
    "pattern": ("string", "a text like {}", lambda value, limit: _fits(limit, value)),
    "format": ("string", "a {}, as in RFC 3339", lambda value, name: name != "date-time" or _is_moment(value)),
}


def violations(
    value: Any, schema: Mapping[str, Any], *, optional: Collection[str] = (), root: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yield a line for each thing in a value that is not as a schema says: the keys that lead there, and what is wrong.

    Args:
        value: as `json` reads it, with finite numbers.
        schema: of the value.
        optional: keys that may be missing wherever the schema requires them.
        root: the schema in which references are looked up; without it, ``schema``.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        yield from violations(value, _referred(schema["$ref"], root), optional=optional, root=root)
    if "anyOf" in schema:
        tries = [list(violations(value, part, optional=optional, root=root)) for part in schema["anyOf"]]
        if all(tries):
            yield tries[0][0]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_KINDS[kind](value) for kind in kinds):
        yield f"{value!r:.60} instead of {' or '.join(kinds)}"
        return
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if allowed is not None and not any(value == one and type(value) is type(one) for one in allowed):
        yield f"{value!r:.60} instead of {' or '.join(map(repr, allowed))}"
    for name, (kind, words, holds) in _LIMITS.items():
        if name in schema and _KINDS[kind](value) and not holds(value, schema[name]):
            yield f"{value!r:.60} instead of {words.format(schema[name])}"
    yield from _within(value, schema, optional, root)


def _within(value: Any, schema: Mapping[str, Any], optional: Collection[str], root: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the items of an array, or with the keys and values of an object."""
    parts: list[tuple[Any, Any, Mapping[str, Any]]] = []
    if isinstance(value, list) and "items" in schema:
        parts = [(index, item, schema["items"]) for index, item in enumerate(value)]
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        for key in schema.get("required", ()):
            if key not in value and key not in optional:
                yield f"no {key}"
        for key, item in value.items():
            if key not in known and others is False:
                yield f"an unknown key {key!r:.60}"
            elif key in known or isinstance(others, dict):
                parts.append((key, item, known.get(key, others)))
    for key, item, part in parts:
        yield from (f"{key}: {line}" for line in violations(item, part, optional=optional, root=root))


def _fits(pattern: str, text: str) -> bool:
    """Tell whether a text fits a pattern in which a last ``$`` means its very end, as in JSON Schema."""
    return re.search(re.sub(r"\$$", r"\\Z", pattern), text) is not None


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        return False


def _referred(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    part: Any = root
    for key in reference.removeprefix("#/").split("/"):
        part = part[key]
    found: Mapping[str, Any] = part
    return found
