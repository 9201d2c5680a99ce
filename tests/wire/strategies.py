"""Hypothesis strategies for messages, made from their annotations."""

from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st
from msgspec import Meta, Raw, UnsetType

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: INTEGERS,
    float: FLOATS,
    bool: st.booleans(),
    NoneType: st.none(),
    Any: JSON,
    Raw: JSON.map(msgspec.json.encode).map(Raw),
    UnsetType: st.just(msgspec.UNSET),
}


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for whatever the annotation ``kind`` allows."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Annotated:
        return _limited(arguments[0], arguments[1])
    if origin in (Union, UnionType):
        return st.one_of(*(of(argument) for argument in arguments))
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(of(arguments[0]), of(arguments[1]), max_size=3)
    if issubclass(kind, StrEnum):
        return st.sampled_from(kind)
    hints = get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: of(hints[name]) for name in kind.__struct_fields__})


def _limited(kind: Any, meta: Meta) -> st.SearchStrategy[Any]:
    if meta.pattern is not None:
        return st.from_regex(meta.pattern, fullmatch=True)
    if kind is str:
        return st.text(max_size=meta.max_length)
    if kind is int:
        return st.integers(int(meta.ge or 0), int(meta.le or 0))
    if kind is float and meta.le is not None:
        return st.floats(meta.gt, meta.le, exclude_min=meta.gt is not None, allow_nan=False)
    return of(kind)
