"""Protocol Buffers' wire format for the few messages of the gRPC services, without the protobuf package.

A message is a dict by field name; what is absent was not sent. Bytes are views into the message, packed numbers numpy
arrays: a tensor of megabytes is neither copied nor walked through number by number.
Source: protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.wire.codec import WireError

__all__ = ["Field", "Fields", "Kind", "Schema", "decode_message", "decode_varints", "encode_message", "encode_varints"]

Fields = dict[str, Any]
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_CHUNK = 65_536  # numbers; encoding takes 100 bytes for each


class Kind(Enum):
    """What a field holds; all integers, booleans and enumerations travel alike."""

    INTEGER = auto()
    FLOAT = auto()
    DOUBLE = auto()
    TEXT = auto()
    BYTES = auto()
    MESSAGE = auto()
    MAP = auto()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message.

    Attributes:
        message: Of a MESSAGE, and of the values of a MAP, whose keys are text.
        is_repeated: Whether there is a list of them.
    """

    name: str
    kind: Kind
    message: "Schema | None" = None
    is_repeated: bool = False


Schema = Mapping[int, Field]
_PACKABLE = {Kind.INTEGER: _VARINT, Kind.FLOAT: _FIXED32, Kind.DOUBLE: _FIXED64}
_DTYPES: dict[Kind, np.dtype[Any]] = {Kind.FLOAT: np.dtype("<f4"), Kind.DOUBLE: np.dtype("<f8")}


def decode_message(schema: Schema, data: bytes | memoryview) -> Fields:
    """Return the fields of a message; unknown ones are skipped.

    Raises:
        WireError: It ends too early, or a field is not what the schema says.
    """
    fields: Fields = {}
    for number, wire_type, value in _parts(memoryview(data)):
        if field := schema.get(number):
            _put(fields, field, wire_type, value)
    return fields


def _parts(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire_type)
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == _DELIMITED:
            size, at = _varint(data, at)
        if size is None:
            raise WireError(f"protobuf: field {number} has wire type {wire_type}, wanted 0, 1, 2 or 5")
        if size > len(data) - at:
            raise WireError(f"protobuf: field {number} has {size} bytes, {len(data) - at} are left")
        yield number, wire_type, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 127) << (7 * index)
        if byte < 128:
            return value & (1 << 64) - 1, at + index + 1
    raise WireError("protobuf: a number does not end")


def _put(fields: Fields, field: Field, wire_type: int, value: int | memoryview) -> None:
    if field.kind in _PACKABLE:
        if field.is_repeated:
            numbers = _numbers(field, wire_type, value)
            fields[field.name] = np.concatenate([fields[field.name], numbers]) if field.name in fields else numbers
        else:
            fields[field.name] = _numbers(field, wire_type, value, is_packed=False)[0].item()
        return
    if not isinstance(value, memoryview) or wire_type != _DELIMITED:
        raise _wrong(field, wire_type)
    match field.kind:
        case Kind.MAP:
            key, item = _entry(field, value)
            fields.setdefault(field.name, {})[key] = item
        case _ if field.is_repeated:
            fields.setdefault(field.name, []).append(_single(field, value))
        case _:
            fields[field.name] = _single(field, value)


def _numbers(field: Field, wire_type: int, value: int | memoryview, *, is_packed: bool = True) -> NDArray[Any]:
    if isinstance(value, int):
        if field.kind is not Kind.INTEGER:
            raise _wrong(field, wire_type)
        return np.array([value], np.uint64).view(np.int64)
    if wire_type != _PACKABLE[field.kind] and not (is_packed and wire_type == _DELIMITED):
        raise _wrong(field, wire_type)
    if field.kind is Kind.INTEGER:
        return decode_varints(value)
    dtype = _DTYPES[field.kind]
    if len(value) % dtype.itemsize:
        raise WireError(f"protobuf: {field.name} has {len(value)} bytes, wanted a multiple of {dtype.itemsize}")
    numbers: NDArray[Any] = np.frombuffer(value, dtype)
    return numbers


def _single(field: Field, value: memoryview) -> Any:
    if field.kind is Kind.BYTES:
        return value
    if field.kind is Kind.TEXT:
        return _text(field, value)
    return decode_message(field.message or {}, value)


def _entry(field: Field, value: memoryview) -> tuple[str, Any]:
    key, item = "", memoryview(b"")
    for number, wire_type, part in _parts(value):
        if number in {1, 2} and (wire_type != _DELIMITED or not isinstance(part, memoryview)):
            raise _wrong(field, wire_type)
        if number == 1 and isinstance(part, memoryview):
            key = _text(field, part)
        elif number == 2 and isinstance(part, memoryview):
            item = part
    return key, decode_message(field.message or {}, item)


def _text(field: Field, value: memoryview) -> str:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as err:
        raise WireError(f"protobuf: {field.name} is not UTF-8") from err


def _wrong(field: Field, wire_type: int) -> WireError:
    return WireError(f"protobuf: {field.name} has wire type {wire_type}, which a {field.kind.name.lower()} has not")


def decode_varints(data: bytes | memoryview) -> NDArray[np.int64]:
    """Return the numbers that are packed in ``data``.

    Raises:
        WireError: One does not end, or is longer than 10 bytes.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 128)
    if len(ends) == len(raw):
        return raw.astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    lengths = ends - starts[: len(ends)] + 1
    if not len(ends) or ends[-1] != len(raw) - 1 or lengths.max() > _MAX_VARINT_BYTES:
        raise WireError("protobuf: a packed number does not end")
    places = (np.arange(len(raw)) - np.repeat(starts, lengths)).astype(np.uint64)
    groups = (raw & 127).astype(np.uint64) << (places * np.uint64(7))
    return np.bitwise_or.reduceat(groups, starts).view(np.int64)


def encode_message(schema: Schema, fields: Mapping[str, Any]) -> bytes:
    """Return the message with these fields, all of which the schema has."""
    by_name = {field.name: (number, field) for number, field in schema.items()}
    parts: list[bytes | memoryview] = []
    for name, value in fields.items():
        number, field = by_name[name]
        _write(parts, number, field, value)
    return b"".join(parts)


def _write(parts: list[bytes | memoryview], number: int, field: Field, value: Any) -> None:
    if field.kind is Kind.MAP:
        for key, item in value.items():
            entry: list[bytes | memoryview] = []
            _delimited(entry, 1, key.encode())
            _delimited(entry, 2, encode_message(field.message or {}, item))
            _delimited(parts, number, b"".join(entry))
    elif field.kind not in _PACKABLE:
        for item in value if field.is_repeated else [value]:
            _delimited(parts, number, _bytes(field, item))
    elif field.is_repeated:
        _delimited(parts, number, _packed(field.kind, np.asarray(value)))
    else:
        parts += [_key(number, _PACKABLE[field.kind]), _packed(field.kind, np.asarray([value]))]


def _bytes(field: Field, value: Any) -> bytes | memoryview:
    if field.kind is Kind.TEXT:
        encoded: bytes = value.encode()
        return encoded
    return value if field.kind is Kind.BYTES else encode_message(field.message or {}, value)


def _delimited(parts: list[bytes | memoryview], number: int, value: bytes | memoryview) -> None:
    parts += [_key(number, _DELIMITED), encode_varints(np.array([len(value)])), value]


def _key(number: int, wire_type: int) -> bytes:
    return encode_varints(np.array([number << 3 | wire_type]))


def _packed(kind: Kind, values: NDArray[Any]) -> bytes:
    return encode_varints(values) if kind is Kind.INTEGER else values.astype(_DTYPES[kind]).tobytes()


def encode_varints(values: NDArray[Any]) -> bytes:
    """Return integers or booleans, packed; negative ones take 10 bytes each, as the format wants it."""
    wide = values if values.dtype == np.uint64 else values.astype(np.int64).view(np.uint64)
    if wide.size == 0 or int(wide.max()) < 128:
        return wide.astype(np.uint8).tobytes()
    return b"".join(_varint_chunk(wide[at : at + _CHUNK]) for at in range(0, len(wide), _CHUNK))


def _varint_chunk(wide: NDArray[np.uint64]) -> bytes:
    rest = wide[:, np.newaxis] >> (np.arange(_MAX_VARINT_BYTES, dtype=np.uint64) * np.uint64(7))
    is_sent = rest != 0
    is_sent[:, 0] = True
    has_more = np.zeros_like(is_sent)
    has_more[:, :-1] = rest[:, 1:] != 0
    groups = (rest & np.uint64(127)).astype(np.uint8) | (has_more.astype(np.uint8) << 7)
    packed: bytes = groups[is_sent].tobytes()
    return packed
