"""JSON messages: round trips, what is ignored, what is refused."""

import ast
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry import wire
from edgeferry.wire.codec import MAX_MESSAGE_BYTES, Message, WireError, canonical, decode, encode
from edgeferry.wire.messages import ModelTelemetry, Request, Response, Telemetry

from . import strategies
from .examples import MESSAGES

KINDS = sorted({type(message) for message in MESSAGES.values()}, key=lambda kind: kind.__name__)
WIRE = Path(wire.__file__).parent


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_what_is_encoded_is_decoded(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    message = data.draw(strategies.of(kind))

    assert decode(kind, encode(message), max_bytes=1 << 30) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_an_unknown_field_is_ignored(name: str) -> None:
    message = MESSAGES[name]
    more = msgspec.json.decode(encode(message)) | {"invented_later": {"x": [1, None]}}

    assert decode(type(message), msgspec.json.encode(more)) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_a_missing_required_field_is_refused(name: str) -> None:
    kind = type(MESSAGES[name])
    for field in msgspec.structs.fields(kind):
        if field.required:
            less = msgspec.json.decode(encode(MESSAGES[name]))
            del less[field.encode_name]

            with pytest.raises(WireError, match=f"missing required field `{field.encode_name}`"):
                decode(kind, msgspec.json.encode(less))


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_over_the_limit_is_refused_before_it_is_parsed(kind: type[Message]) -> None:
    with pytest.raises(WireError, match=f"{kind.__name__}: {MAX_MESSAGE_BYTES + 1} bytes, wanted at most"):
        decode(kind, b"[" * (MAX_MESSAGE_BYTES + 1))


def test_what_is_unknown_is_left_out_and_never_null() -> None:
    bare = Telemetry(
        v=1,
        ts=1,
        boot="b",
        seq=0,
        interval_s=10.0,
        models={"m": ModelTelemetry(version=1, rps=0.0, total=0, errors_total=0)},
    )

    assert b"null" not in encode(bare)
    assert encode(Response(id="a")) == b'{"id":"a"}'


def test_equal_values_have_equal_canonical_bytes() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'
    assert canonical({"a": {"c": 3, "d": 2}, "b": 1}) == canonical({"b": 1, "a": {"d": 2, "c": 3}})


def test_a_number_is_never_taken_for_a_truth_value_or_text() -> None:
    for wrong in (b"true", b'"5"', b"5.5", b"null", b"[5]"):
        with pytest.raises(WireError):
            decode(Request, b'{"deadline_ms":' + wrong + b"}")


@pytest.mark.parametrize("deadline_ms", ["-1", str(2**53 + 1), "9" * 400])
def test_a_deadline_that_is_no_time_is_refused(deadline_ms: str) -> None:
    with pytest.raises(WireError, match="deadline_ms"):
        decode(Request, b'{"deadline_ms":' + deadline_ms.encode() + b"}")


def test_the_id_of_a_request_is_short_because_the_answer_repeats_it() -> None:
    assert decode(Request, encode(Request(id="x" * 128))).id == "x" * 128
    with pytest.raises(WireError, match="length <= 128"):
        decode(Request, encode(Request(id="x" * 129)))


@pytest.mark.parametrize("module", sorted(WIRE.glob("*.py")), ids=lambda path: path.stem)
def test_the_contract_is_pure(module: Path) -> None:
    allowed = {
        "base64", "collections", "dataclasses", "edgeferry", "enum", "hashlib", "math", "msgspec", "re", "struct",
        "typing", "zlib",
    }  # fmt: skip

    imported: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module))

    assert {name.partition(".")[0] for name in imported} <= allowed
    assert all(name.startswith("edgeferry.wire") for name in imported if name.startswith("edgeferry"))


def test_all_names_that_a_module_offers_are_there() -> None:
    for path in WIRE.glob("[a-z]*.py"):
        module = sys.modules[f"edgeferry.wire.{path.stem}"]

        assert all(hasattr(module, name) for name in module.__all__)
