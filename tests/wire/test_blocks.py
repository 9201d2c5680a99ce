"""Block requests and block frames."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.wire.blocks import (
    BLOCK_BYTES,
    MAX_WINDOW,
    Block,
    BlockRequest,
    bitmap_of,
    block_count,
    parse_block_request,
)
from edgeferry.wire.codec import WireError, encode

from .examples import BLOCK, MESSAGES, SHA256


def request(**fields: object) -> BlockRequest:
    whole = {"v": 1, "transfer": 1, "sha256": SHA256, "block_bytes": BLOCK_BYTES, "first": 0, "count": 1}
    return BlockRequest(**(whole | fields))  # type: ignore[arg-type]  # the fields are those of BlockRequest


@given(first=st.integers(0, 2**32 - 64), offsets=st.sets(st.integers(0, 63), min_size=1))
def test_any_blocks_within_64_of_each_other_can_be_asked_for(first: int, offsets: set[int]) -> None:
    indices = sorted(first + offset for offset in offsets)

    start, count, bitmap = bitmap_of(indices)
    parsed = parse_block_request(encode(request(first=start, count=count, bitmap=bitmap)))

    assert parsed.indices() == indices
    assert (bitmap == "") == (len(indices) == count)


def test_bit_7_of_byte_0_stands_for_the_first_block() -> None:
    bitmap = base64.b64encode(bytes([0b1000_0001, 0b0100_0000])).decode()

    assert request(first=100, count=10, bitmap=bitmap).indices() == [100, 107, 109]


def test_a_bitmap_is_no_longer_than_its_bits() -> None:
    assert bitmap_of([0, 7]) == (0, 8, base64.b64encode(b"\x81").decode())
    assert bitmap_of([0, 8]) == (0, 9, base64.b64encode(b"\x80\x80").decode())


def test_bits_after_the_count_are_not_looked_at() -> None:
    assert request(count=2, bitmap=base64.b64encode(b"\xff").decode()).indices() == [0, 1]


@pytest.mark.parametrize(
    "fields",
    [
        {"transfer": 0},
        {"transfer": 65_535},
        {"block_bytes": 1024},
        {"block_bytes": 1 << 20},
        {"first": 2**32 - 1},
        {"count": 64},
        {"count": 8, "bitmap": "/w=="},
    ],
)
def test_the_bounds_are_within_the_range(fields: dict[str, object]) -> None:
    asked = request(**fields)

    assert parse_block_request(encode(asked)) == asked


@pytest.mark.parametrize(
    "fields",
    [
        {"v": 2},
        {"transfer": -1},
        {"transfer": 65_536},
        {"block_bytes": 1023},
        {"block_bytes": (1 << 20) + 1},
        {"first": -1},
        {"first": 2**32},
        {"count": 0},
        {"count": 65},
        {"count": 9, "bitmap": "/w=="},
        {"bitmap": "not base64"},
        {"bitmap": "/w"},
        {"bitmap": "ä"},
    ],
)
def test_a_number_out_of_its_range_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(WireError, match="BlockRequest: a number is out of its range"):
        parse_block_request(encode(request(**fields)))


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_a_blob_is_named_by_64_hexadecimal_digits(sha256: str) -> None:
    fields = msgspec.json.decode(encode(MESSAGES["block_request"])) | {"sha": sha256}

    with pytest.raises(WireError, match=r"\$.sha"):
        parse_block_request(msgspec.json.encode(fields))


def test_a_request_fits_into_the_smallest_packet() -> None:
    every_other = list(range(2**32 - 64, 2**32, 2))
    first, count, bitmap = bitmap_of(every_other)

    assert len(encode(request(first=first, count=count, bitmap=bitmap, origin="o" * 64, again=True))) < 512


@given(
    block=st.builds(
        Block,
        transfer=st.integers(0, 65_535),
        sha256_prefix=st.binary(min_size=8, max_size=8),
        index=st.integers(0, 2**32 - 1),
        data=st.binary(max_size=3000),
    )
)
def test_a_block_comes_out_of_its_frame(block: Block) -> None:
    frame = block.to_bytes()

    assert len(frame) == 24 + len(block.data)
    assert Block.from_bytes(frame) == block


@given(at=st.integers(0, len(BLOCK.to_bytes()) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_data_or_its_checksum_is_noticed(at: int, bit: int) -> None:
    frame = bytearray(BLOCK.to_bytes())
    frame[at] ^= 1 << bit

    if at < 5 or at >= 20:  # the bytes between are compared with the transfer's own by whoever asked
        with pytest.raises(WireError):
            Block.from_bytes(bytes(frame))
    else:
        assert Block.from_bytes(bytes(frame)).data == BLOCK.data


@pytest.mark.parametrize("length", range(24))
def test_a_frame_without_its_whole_header_is_refused(length: int) -> None:
    with pytest.raises(WireError, match=f"Block: {length} bytes, wanted at least 24"):
        Block.from_bytes(BLOCK.to_bytes()[:length])


def test_a_blocks_data_is_not_copied() -> None:
    frame = BLOCK.to_bytes()

    data = Block.from_bytes(frame).data

    assert isinstance(data, memoryview)
    assert data.obj is frame


@pytest.mark.parametrize(("size_bytes", "blocks"), [(0, 0), (1, 1), (1024, 1), (1025, 2), (2048, 2)])
def test_the_last_block_may_be_shorter(size_bytes: int, blocks: int) -> None:
    assert block_count(size_bytes, 1024) == blocks


def test_the_sizes_are_those_of_the_contract() -> None:
    assert BLOCK_BYTES == 65_536
    assert MAX_WINDOW == 16


def test_a_request_over_16_kib_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(WireError, match="BlockRequest: 16385 bytes, wanted at most 16384"):
        parse_block_request(b"[" * 16_385)
