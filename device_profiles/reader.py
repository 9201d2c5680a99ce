"""Turns a tree into the dataclasses of `profile`, checking names, types and ranges against their annotations.

Each message says file, line and key, what was found and what was wanted.
"""

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgeferry.device_profiles.profile import Form, Range, SizeRange
from edgeferry.device_profiles.yaml_tree import Node

__all__ = ["check_names", "fields_of", "read", "shown", "suggestion"]

T = TypeVar("T")

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"([0-9][0-9_]{0,19}) ?(KiB|MiB|GiB|)")
_INTEGER = re.compile(r"-?[0-9][0-9_]{0,19}")


def read(kind: type[T], node: Node, key: str = "", *, given: Mapping[str, object] | None = None) -> T:
    """Return the dataclass ``kind`` that the mapping ``node`` spells.

    Args:
        kind: A dataclass whose annotations say what is wanted.
        node: The mapping.
        key: Where it stands in the file; empty for the root.
        given: Fields that do not come from the file, and so may not stand in it.

    Raises:
        ProfileError: An unknown or missing key, or a value of a wrong type or out of its range.
    """
    entries = _mapping(node, key)
    given = given or {}
    check_names(kind, entries, key, given=given)
    kinds = fields_of(kind)
    values = {name: _value(kinds[name], entry, _join(key, name)) for name, entry in entries.items()} | dict(given)
    missing = [name for name in _required(kind) if name not in values]
    if missing:
        raise node.error(f"{_join(key, missing[0])} is missing")
    return kind(**values)


def check_names(kind: type, entries: Mapping[str, Node], key: str = "", *, given: Collection[str] = ()) -> None:
    """Refuse a key that ``kind`` or one of its sections does not have; the arguments are those of `read`.

    Raises:
        ProfileError: There is one; the message suggests the nearest known key.
    """
    kinds = {name: field_kind for name, field_kind in fields_of(kind).items() if name not in given}
    for name, entry in entries.items():
        if name not in kinds:
            raise entry.error(f"{_join(key, name)} is not a known key{suggestion(name, kinds)}")
        if dataclasses.is_dataclass(kinds[name]) and isinstance(entry.value, dict):
            check_names(kinds[name], entry.value, _join(key, name))


def fields_of(kind: type) -> dict[str, Any]:
    """Return the annotated types of a dataclass's fields, by name."""
    return get_type_hints(kind, include_extras=True)


def suggestion(found: str, known: Iterable[str]) -> str:
    """Return ``; did you mean "..."?`` for the nearest of ``known``, or ``; wanted one of ...``."""
    names = list(known)
    near = difflib.get_close_matches(found, names, n=1)
    return f'; did you mean "{near[0]}"?' if near else f"; wanted one of {', '.join(names)}"


def shown(node: Node) -> str:
    """Return what ``node`` holds, short enough for a message."""
    match node.value:
        case str(text):
            return repr(text[:60]) if text else "nothing"
        case tuple():
            return "a list"
        case _:
            return "keys and values"


def _required(kind: type) -> list[str]:
    return [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _mapping(node: Node, key: str) -> dict[str, Node]:
    if not isinstance(node.value, dict):
        raise node.error(f"{key}: found {shown(node)}, wanted keys and values")
    return node.value


def _value(kind: Any, node: Node, key: str) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):  # the only unions are `X | None`, and a file says None by silence
        return _value(arguments[0], node, key)
    if origin is tuple:
        return _items(arguments[0], node, key)
    if origin is Annotated:
        return _limited_value(arguments[0], arguments[1], node, key)
    return _plain_value(kind, node, key)


def _plain_value(kind: type, node: Node, key: str) -> object:
    if dataclasses.is_dataclass(kind):
        return read(cast("type[object]", kind), node, key)
    if issubclass(kind, StrEnum):
        return _choice(kind, node, key)
    return _boolean(node, key) if kind is bool else _text(node, key)


def _items(kind: Any, node: Node, key: str) -> tuple[object, ...]:
    if not isinstance(node.value, tuple):
        raise node.error(f"{key}: found {shown(node)}, wanted a list")
    return tuple(_value(kind, item, f"{key}[{index}]") for index, item in enumerate(node.value))


def _limited_value(kind: type, limits: Range | Form, node: Node, key: str) -> object:
    if isinstance(limits, Range):
        return _number(kind, limits, node, key)
    text = _text(node, key)
    if not re.fullmatch(limits.pattern, text):
        raise node.error(f"{key}: found {shown(node)}, wanted {limits.wanted}")
    return text


def _number(kind: type, limits: Range, node: Node, key: str) -> int | float:
    text = node.value if isinstance(node.value, str) else ""
    number = _size(text) if isinstance(limits, SizeRange) else _integer(text) if kind is int else _float(text)
    if number is None or not limits.low <= number <= limits.high:
        raise node.error(f"{key}: found {shown(node)}, wanted {_described(kind, limits)}")
    return number


def _size(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    return int(match[1]) * _UNITS[match[2]] if match else None


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _described(kind: type, limits: Range) -> str:
    if isinstance(limits, SizeRange):
        return f"a number of bytes from {limits.low} to {limits.high}, such as 64 MiB"
    return f"{'a whole number' if kind is int else 'a number'} from {limits.low} to {limits.high}"


def _choice(kind: type[StrEnum], node: Node, key: str) -> StrEnum:
    known = [str(member) for member in kind]
    if not isinstance(node.value, str):
        raise node.error(f"{key}: found {shown(node)}, wanted one of {', '.join(known)}")
    if node.value not in known:
        raise node.error(f"{key}: found {shown(node)}{suggestion(node.value, known)}")
    return kind(node.value)


def _boolean(node: Node, key: str) -> bool:
    if node.value not in ("true", "false"):
        raise node.error(f"{key}: found {shown(node)}, wanted true or false")
    return node.value == "true"


def _text(node: Node, key: str) -> str:
    if not isinstance(node.value, str) or not node.value:
        raise node.error(f"{key}: found {shown(node)}, wanted text")
    return node.value
