"""Reads a preprocessing declaration that people write: YAML, whose every mistake is told with its line."""

import math
import re
import types
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from edgeferry.converter.errors import RequestError
from edgeferry.device_profiles.reader import shown, suggestion
from edgeferry.device_profiles.yaml_tree import MAX_FILE_BYTES, Node, ProfileError, parse_tree
from edgeferry.inference.preprocessing import (
    AudioPreprocessing,
    ImagePreprocessing,
    Preprocessing,
    PreprocessingError,
    SeriesPreprocessing,
)

__all__ = ["KINDS", "read_preprocessing"]

KINDS: Mapping[str, type[Preprocessing]] = {
    "image": ImagePreprocessing,
    "audio": AudioPreprocessing,
    "series": SeriesPreprocessing,
}
_FRACTION = re.compile(r"([0-9.eE+-]{1,30}) ?/ ?([0-9.eE+-]{1,30})")


def read_preprocessing(path: Path) -> Preprocessing:
    """Return what the file at ``path`` declares.

    Raises:
        RequestError: It cannot be read, or does not say how anything is preprocessed.
    """
    try:
        with path.open("rb") as file:
            entries = parse_tree(file.read(MAX_FILE_BYTES + 1), str(path))
        return _read_kind(entries, str(path))
    except OSError as err:
        raise RequestError(f"--preprocessing {path}: {err.strerror}; wanted a YAML file") from err
    except ProfileError as err:
        raise RequestError(f"--preprocessing {err}") from err


def _read_kind(entries: Mapping[str, Node], file: str) -> Preprocessing:
    kind = entries.get("kind")
    if kind is None:
        raise ProfileError(f"{file}: kind is missing; wanted one of {', '.join(KINDS)}")
    if not isinstance(kind.value, str) or kind.value not in KINDS:
        raise kind.error(f"kind: found {shown(kind)}{suggestion(str(kind.value), KINDS)}")
    others = {name: node for name, node in entries.items() if name != "kind"}
    return cast("Preprocessing", _struct(KINDS[kind.value], Node(others, file, 1), ""))


def _struct(kind: type[msgspec.Struct], node: Node, key: str) -> msgspec.Struct:
    if not isinstance(node.value, dict):
        raise node.error(f"{key}: found {shown(node)}, wanted keys and values")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, entry in node.value.items():
        if name not in fields:
            raise entry.error(f"{_joined(key, name)} is not a known key{suggestion(name, fields)}")
    missing = [name for name, field in fields.items() if field.required and name not in node.value]
    if missing:
        raise node.error(f"{_joined(key, missing[0])} is missing")
    values = {name: _value(fields[name].type, entry, _joined(key, name)) for name, entry in node.value.items()}
    try:
        return kind(**values)
    except PreprocessingError as err:
        raise node.error(str(err)) from err


def _value(kind: Any, node: Node, key: str) -> object:
    if get_origin(kind) in (Union, types.UnionType):  # the only unions are `X | None`, and a file says None by silence
        return _value(get_args(kind)[0], node, key)
    if get_origin(kind) is tuple:
        items = node.value if isinstance(node.value, tuple) else (node,)  # one number serves all channels
        return tuple(_value(get_args(kind)[0], item, key) for item in items)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(kind, node, key)
    if not isinstance(node.value, str):
        raise node.error(f"{key}: found {shown(node)}, wanted {_wanted(kind)}")
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if node.value not in list(kind):
            raise node.error(f"{key}: found {shown(node)}{suggestion(node.value, kind)}")
        return kind(node.value)
    return _scalar(kind, node, node.value, key)


def _scalar(kind: Any, node: Node, text: str, key: str) -> object:
    try:
        return msgspec.convert(_PLAIN.get(_base(kind), str)(text), kind, strict=False)
    except (msgspec.ValidationError, ValueError, ZeroDivisionError, OverflowError) as err:
        raise node.error(f"{key}: found {shown(node)}, wanted {_wanted(kind)}") from err


def _number(text: str) -> float:
    fraction = _FRACTION.fullmatch(text)
    number = float(fraction[1]) / float(fraction[2]) if fraction else float(text)
    if math.isnan(number):  # it is neither below nor above any bound
        raise ValueError(text)
    return number


def _integer(text: str) -> str:
    return text.replace("_", "")


_PLAIN: Mapping[Any, Callable[[str], object]] = {float: _number, int: _integer}


def _base(kind: Any) -> Any:
    return get_args(kind)[0] if get_args(kind) else kind


def _wanted(kind: Any) -> str:
    meta = next((one for one in get_args(kind)[1:] if isinstance(one, msgspec.Meta)), None)
    if meta is not None and meta.description:
        return meta.description
    return "true or false" if kind is bool else "text"


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
