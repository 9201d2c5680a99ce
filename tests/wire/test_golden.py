"""Every message against a file that is committed: what was said yesterday is said and understood today.

A failure here means that devices in the field stop understanding; a new message gets a new file.
"""

from pathlib import Path

import pytest

from edgeferry.wire.blocks import Block, parse_block_request
from edgeferry.wire.codec import decode, encode
from edgeferry.wire.desired import decode_document, decode_manifest
from edgeferry.wire.joining import format_token, parse_token
from edgeferry.wire.tensors import encode_request, pack_mqtt, split_body, unpack_mqtt

from .examples import BLOCK, DOCUMENT, MANIFEST, MESSAGES, TENSORS

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_spelled_as_in_its_file(name: str) -> None:
    assert encode(MESSAGES[name]) == (GOLDEN / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_file_means_its_message(name: str) -> None:
    assert decode(type(MESSAGES[name]), (GOLDEN / f"{name}.json").read_bytes()) == MESSAGES[name]


def test_there_is_no_file_without_a_message() -> None:
    files = {path.name for path in GOLDEN.iterdir()}

    assert files == {f"{name}.json" for name in MESSAGES} | {
        "block.bin",
        "difference.bin",
        "infer_mqtt.bin",
        "token.txt",
    }


def test_a_document_and_a_manifest_are_also_sound() -> None:
    assert decode_document((GOLDEN / "desired_document.json").read_bytes()) == DOCUMENT
    assert decode_manifest((GOLDEN / "artifact_manifest.json").read_bytes()) == MANIFEST


def test_a_block_request_is_within_its_ranges() -> None:
    request = parse_block_request((GOLDEN / "block_request.json").read_bytes())

    assert request.indices() == [128, 130, 138]


def test_a_block_is_framed_as_in_its_file() -> None:
    frame = (GOLDEN / "block.bin").read_bytes()

    assert BLOCK.to_bytes() == frame
    assert Block.from_bytes(frame) == BLOCK


def test_a_binary_inference_request_travels_as_in_its_file() -> None:
    payload = (GOLDEN / "infer_mqtt.bin").read_bytes()

    body, header_bytes = encode_request(TENSORS, request_id="r1", parameters={"deadline_ms": 5})
    assert pack_mqtt(body, header_bytes) == payload

    unpacked = unpack_mqtt(payload)
    assert unpacked is not None
    request, parts = split_body(*unpacked, max_header_bytes=1024)
    assert request.id == "r1"
    assert request.parameters == {"deadline_ms": 5, "binary_data_output": True}
    assert [tensor.name for tensor in request.inputs] == ["image", "mask"]
    assert parts == [tensor.data for tensor in TENSORS]


def test_a_token_is_printed_as_in_its_file() -> None:
    text = (GOLDEN / "token.txt").read_text()

    assert parse_token(text) == MESSAGES["join_token"]
    assert parse_token(format_token(parse_token(text))) == MESSAGES["join_token"]
