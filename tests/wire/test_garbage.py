"""Whatever arrives: every parser returns a value or raises WireError, and soon."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.wire.blocks import Block, parse_block_request
from edgeferry.wire.codec import MAX_MESSAGE_BYTES, WireError, decode
from edgeferry.wire.desired import decode_document, decode_manifest, merge_documents
from edgeferry.wire.joining import parse_token
from edgeferry.wire.tensors import decode_response, split_body, unpack_mqtt
from edgeferry.wire.topics import Topics

from .examples import MESSAGES
from .strategies import JSON

GOLDEN = [path.read_bytes() for path in sorted((Path(__file__).parent / "golden").iterdir())]
SOON_S = 1.0


def use_block_request(data: bytes) -> None:
    request = parse_block_request(data)
    assert set(request.indices()) <= set(range(request.first, request.first + request.count))


def use_document(data: bytes) -> None:
    document = decode_document(data)
    assert merge_documents(document, {}, None) == document.models


def use_manifest(data: bytes) -> None:
    manifest = decode_manifest(data)
    for blob in manifest.blobs:
        assert len(blob.digests()) % 32 == 0


def use_inference(data: bytes) -> None:
    unpacked = unpack_mqtt(data)
    body, header_bytes = unpacked or (memoryview(data), len(data))
    for parser in (split_body, decode_response):
        with contextlib.suppress(WireError):
            parser(body, header_bytes, max_header_bytes=MAX_MESSAGE_BYTES)


PARSERS: list[Callable[[bytes], object]] = [
    *(partial(decode, kind) for kind in {type(message) for message in MESSAGES.values()}),
    use_block_request,
    use_document,
    use_manifest,
    use_inference,
    Block.from_bytes,
    lambda data: parse_token(data.decode("utf-8", "surrogateescape")),
    lambda data: Topics().parse("edgeferry/v1/" + data.decode("utf-8", "surrogateescape")),
]


def parse_with_all(data: bytes) -> None:
    for parse in PARSERS:
        begun = time.perf_counter()
        with contextlib.suppress(WireError):
            parse(data)
        assert time.perf_counter() - begun < SOON_S


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=2000))
def test_random_bytes_are_refused_in_order(data: bytes) -> None:
    parse_with_all(data)


@settings(max_examples=300, deadline=None)
@given(value=JSON)
def test_any_json_is_refused_in_order(value: object) -> None:
    parse_with_all(msgspec.json.encode(value))


@settings(max_examples=400, deadline=None)
@given(data=st.sampled_from(GOLDEN), at=st.integers(0, 5000), cut=st.integers(0, 40), instead=st.binary(max_size=8))
def test_a_message_with_a_piece_replaced_is_read_or_refused(data: bytes, at: int, cut: int, instead: bytes) -> None:
    at = min(at, len(data))

    parse_with_all(data[:at] + instead + data[at + cut :])


@settings(max_examples=200, deadline=None)
@given(data=st.sampled_from(GOLDEN), length=st.integers(0, 5000))
def test_a_message_that_was_cut_is_read_or_refused(data: bytes, length: int) -> None:
    parse_with_all(data[:length])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_field_of_another_type_is_read_or_refused(data: st.DataObject) -> None:
    fields = msgspec.json.decode(msgspec.json.encode(data.draw(st.sampled_from(list(MESSAGES.values())))))
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(JSON)

    parse_with_all(msgspec.json.encode(fields))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" * MAX_MESSAGE_BYTES, id="deep lists"),
        pytest.param(b'{"a":' * (MAX_MESSAGE_BYTES // 5), id="deep objects"),
        pytest.param(b'{"parameters":{"a":' + b"[" * 100_000, id="deep in a field of any type"),
        pytest.param(b'{"ok":' + b"[" * 100_000 + b"]" * 20_000, id="deep in raw JSON"),
        pytest.param(b"9" * MAX_MESSAGE_BYTES, id="a huge number"),
        pytest.param(b'{"deadline_ms":' + b"9" * 4_000 + b"}", id="a large number"),
        pytest.param(b'{"parameters":{"a":' + b"9" * 100_000 + b"}}", id="a huge number of any type"),
        pytest.param(b'{"parameters":{"a":1e999}}', id="an endless number"),
        pytest.param(b'{"id":"\\ud800"}', id="half a character"),
        pytest.param(b'{"id":"' + b"\\u0000" * 20_000 + b'"}', id="many zeros"),
        pytest.param(
            b'{"inputs":[{"name":"x","datatype":"FP32","parameters":{"binary_data_size":1},"shape":['
            + b",".join([b"9"] * 60_000)
            + b"]}]}",
            id="a shape of many dimensions",
        ),
        pytest.param(
            b'{"inputs":[{"name":"x","datatype":"FP32","parameters":{"binary_data_size":1},"shape":['
            + b",".join([b"1099511627776"] * 32)
            + b"]}]}",
            id="a shape of large dimensions",
        ),
        pytest.param(b"ef1." * 30_000, id="many dots"),
        pytest.param(b"d/" * 60_000, id="many levels"),
    ],
)
def test_what_was_made_to_hurt_does_not(data: bytes) -> None:
    parse_with_all(data)
