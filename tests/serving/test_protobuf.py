"""The wire format, held against Google's own implementation wherever a message can be built with it."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.protobuf import (
    Field,
    Kind,
    decode_message,
    decode_varints,
    encode_message,
    encode_varints,
)
from edgeferry.wire.codec import WireError

INNER = {1: Field("number", Kind.INTEGER), 2: Field("text", Kind.TEXT)}
EVERYTHING = {
    1: Field("number", Kind.INTEGER),
    2: Field("numbers", Kind.INTEGER, is_repeated=True),
    3: Field("real", Kind.FLOAT),
    4: Field("reals", Kind.FLOAT, is_repeated=True),
    5: Field("double", Kind.DOUBLE),
    6: Field("doubles", Kind.DOUBLE, is_repeated=True),
    7: Field("text", Kind.TEXT),
    8: Field("texts", Kind.TEXT, is_repeated=True),
    9: Field("data", Kind.BYTES),
    10: Field("datas", Kind.BYTES, is_repeated=True),
    11: Field("inner", Kind.MESSAGE, INNER),
    12: Field("inners", Kind.MESSAGE, INNER, is_repeated=True),
    13: Field("table", Kind.MAP, INNER),
}
_F = descriptor_pb2.FieldDescriptorProto
TYPES = {
    Kind.INTEGER: _F.TYPE_INT64,
    Kind.FLOAT: _F.TYPE_FLOAT,
    Kind.DOUBLE: _F.TYPE_DOUBLE,
    Kind.TEXT: _F.TYPE_STRING,
    Kind.BYTES: _F.TYPE_BYTES,
    Kind.MESSAGE: _F.TYPE_MESSAGE,
    Kind.MAP: _F.TYPE_MESSAGE,
}


def reference(*, packed: bool) -> Any:
    """Return Google's class for a message of every kind of field."""
    file = descriptor_pb2.FileDescriptorProto(name=f"all-{packed}.proto", package=f"p{packed}", syntax="proto3")
    add_fields(file.message_type.add(name="Inner"), INNER, file.package, packed=packed)
    add_fields(file.message_type.add(name="All"), EVERYTHING, file.package, packed=packed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.All"))


def add_fields(message: Any, schema: Any, package: str, *, packed: bool) -> None:
    for number, field in schema.items():
        made = message.field.add(name=field.name, number=number, type=TYPES[field.kind], label=_F.LABEL_OPTIONAL)
        if field.kind is Kind.MESSAGE:
            made.type_name = f".{package}.Inner"
        if field.is_repeated or field.kind is Kind.MAP:
            made.label = _F.LABEL_REPEATED
        if field.is_repeated and field.kind in {Kind.INTEGER, Kind.FLOAT, Kind.DOUBLE}:
            made.options.packed = packed
        if field.kind is Kind.MAP:
            entry = message.nested_type.add(name="TableEntry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
            entry.field.add(
                name="value", number=2, type=_F.TYPE_MESSAGE, label=_F.LABEL_OPTIONAL, type_name=f".{package}.Inner"
            )
            made.type_name = f".{package}.All.TableEntry"


REFERENCES = {packed: reference(packed=packed) for packed in (True, False)}

INTEGERS = st.integers(-(2**63), 2**63 - 1)
INNERS = st.fixed_dictionaries({}, optional={"number": INTEGERS, "text": st.text(max_size=5)})
FLOATS = st.floats(width=32, allow_nan=False)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "number": INTEGERS,
        "numbers": st.lists(INTEGERS, max_size=5),
        "real": FLOATS,
        "reals": st.lists(FLOATS, max_size=5),
        "double": st.floats(allow_nan=False),
        "doubles": st.lists(st.floats(allow_nan=False), max_size=5),
        "text": st.text(max_size=5),
        "texts": st.lists(st.text(max_size=5), max_size=3),
        "data": st.binary(max_size=200),
        "datas": st.lists(st.binary(max_size=5), max_size=3),
        "inner": INNERS,
        "inners": st.lists(INNERS, max_size=3),
        "table": st.dictionaries(st.text(max_size=5), INNERS, max_size=3),
    },
)


def plain(value: Any) -> Any:
    """Return decoded fields in types that can be compared."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def without_nothing(value: Any) -> Any:
    """Return fields without those that are as good as absent."""
    if isinstance(value, dict):
        return {n: without_nothing(v) for n, v in value.items() if v not in (0, "", b"", [], {}) or n == "inner"}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None, derandomize=True)
@given(MESSAGES, st.booleans())
def test_what_googles_implementation_writes_is_read(fields: dict[str, Any], packed: bool) -> None:
    message = REFERENCES[packed](**{n: v for n, v in fields.items() if n != "table"})
    for key, inner in fields.get("table", {}).items():
        message.table[key].SetInParent()
        for name, value in inner.items():
            setattr(message.table[key], name, value)

    found = plain(decode_message(EVERYTHING, message.SerializeToString()))

    table = {key: without_nothing(inner) for key, inner in found.pop("table", {}).items()}
    wanted = {n: v for n, v in fields.items() if n != "table"}
    assert without_nothing(found) == without_nothing(wanted)
    assert table == {key: without_nothing(inner) for key, inner in fields.get("table", {}).items()}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(MESSAGES)
def test_what_is_written_googles_implementation_reads(fields: dict[str, Any]) -> None:
    message = REFERENCES[True].FromString(encode_message(EVERYTHING, fields))

    for name, value in fields.items():
        found = getattr(message, name)
        match EVERYTHING[next(n for n, f in EVERYTHING.items() if f.name == name)]:
            case Field(kind=Kind.MAP):
                assert {k: (v.number, v.text) for k, v in found.items()} == {
                    k: (v.get("number", 0), v.get("text", "")) for k, v in value.items()
                }
            case Field(kind=Kind.MESSAGE, is_repeated=True):
                assert [(v.number, v.text) for v in found] == [(v.get("number", 0), v.get("text", "")) for v in value]
            case Field(kind=Kind.MESSAGE):
                assert (found.number, found.text) == (value.get("number", 0), value.get("text", ""))
            case Field(is_repeated=True):
                assert list(found) == value
            case _:
                assert found == value


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=80))
def test_garbage_is_a_message_or_an_error_and_nothing_else(data: bytes) -> None:
    for schema in (EVERYTHING, protos.PREDICT_REQUEST, protos.INFER_REQUEST, protos.EXAMPLES_REQUEST):
        with suppress(WireError):
            decode_message(schema, data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "a number does not end"),
        (b"\x08" + b"\x80" * 11, "a number does not end"),
        (b"\x3a\x05ab", "field 7 has 5 bytes, 2 are left"),
        (b"\x0b", "field 1 has wire type 3"),
        (b"\x3a\x01\xff", "text is not UTF-8"),
        (b"\x38\x01", "text has wire type 0"),
        (b"\x18\x01", "real has wire type 0"),
        (b"\x1a\x04abcd", "real has wire type 2"),
        (b"\x22\x03abc", "reals has 3 bytes, wanted a multiple of 4"),
        (b"\x12\x01\x80", "a packed number does not end"),
        (b"\x12\x0c" + b"\x80" * 11 + b"\x01", "a packed number does not end"),
        (b"\x6a\x02\x08\x01", "table has wire type 0"),
    ],
)
def test_a_broken_message_is_told_what_is_wrong_with_it(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        decode_message(EVERYTHING, data)


def test_unknown_fields_are_skipped_whatever_they_hold() -> None:
    unknown = b"\xa0\x06\x05" + b"\xa1\x06" + b"8" * 8 + b"\xa2\x06\x02ab" + b"\xa5\x06" + b"4444"

    assert decode_message(EVERYTHING, unknown + b"\x08\x07") == {"number": 7}
    assert plain(decode_message(EVERYTHING, b"\x6a\x05\x1a\x03abc")) == {"table": {"": {}}}


def test_many_numbers_are_packed_and_unpacked() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-(2**63), 2**63 - 1, 70_000, dtype=np.int64) >> rng.integers(0, 63, 70_000)

    assert np.array_equal(decode_varints(encode_varints(numbers)), numbers)
    assert encode_varints(np.array([2**64 - 1], np.uint64)) == b"\xff" * 9 + b"\x01"
    assert encode_varints(np.array([True, False])) == b"\x01\x00"
