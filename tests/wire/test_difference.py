"""Differences: there and back for any bytes, and what is read of those that lie."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.wire import difference
from edgeferry.wire.codec import WireError
from edgeferry.wire.difference import Operation, Piece, difference_of, new_bytes

from .examples import DIFFERENCE

GOLDEN = Path(__file__).parent / "golden" / "difference.bin"
OLD = bytes(range(256)) * 4
MIB = 1 << 20


def made(packed: bytes, old: bytes, count: int) -> bytes:
    """Return what the difference makes; every piece has to be small."""
    read_old = lambda offset, size: old[offset : offset + size]  # noqa: E731
    pieces = list(new_bytes(io.BytesIO(packed).read, read_old, old_count=len(old), new_count=count))
    assert all(0 < len(piece) <= 64 * 1024 for piece in pieces)
    return b"".join(pieces)


def packed(*records: tuple[int, int, int], payload: bytes = b"", old: int = len(OLD), new: int = 10) -> bytes:
    """Return a difference of these records, each followed by nothing but the last by ``payload``."""
    body = b"".join(struct.pack(">BIQ", *record) for record in records) + payload
    return struct.pack(">4sQQ", b"EFD1", old, new) + zlib.compress(body)


def test_a_difference_is_spelled_as_in_its_file() -> None:
    old, new, pieces = DIFFERENCE

    # what zlib packs is not the same in all of its versions; what it unpacks is
    assert GOLDEN.read_bytes()[:20] == difference_of(old, new, pieces)[:20]
    assert zlib.decompress(GOLDEN.read_bytes()[20:]) == zlib.decompress(difference_of(old, new, pieces)[20:])
    assert made(GOLDEN.read_bytes(), old, len(new)) == new


@st.composite
def changes(draw: st.DrawFn) -> tuple[bytes, bytes, list[Piece]]:
    """Two byte strings and where the pieces of the second come from."""
    old = draw(st.binary(max_size=300))
    new, pieces = b"", []
    for _ in range(draw(st.integers(0, 6))):
        operation = draw(st.sampled_from(Operation if old else [Operation.INSERT]))
        if operation is Operation.INSERT:
            run = draw(st.binary(min_size=1, max_size=100))
            pieces.append(Piece(operation, len(run)))
        else:
            offset = draw(st.integers(0, len(old) - 1))
            run = old[offset : offset + draw(st.integers(1, 100))]
            pieces.append(Piece(operation, len(run), offset))
            if operation is Operation.ADD:
                run = draw(st.binary(min_size=len(run), max_size=len(run)))
        new += run
    return old, new, pieces


@given(changes())
def test_a_difference_makes_the_new_bytes_from_the_old_ones(change: tuple[bytes, bytes, list[Piece]]) -> None:
    old, new, pieces = change

    assert made(difference_of(old, new, pieces), old, len(new)) == new


def test_runs_longer_than_what_is_held_at_once_are_made_in_pieces() -> None:
    old = bytes(range(256)) * 1024
    new = bytes(255 - byte for byte in old) + old[:-1]
    pieces = [Piece(Operation.ADD, len(old)), Piece(Operation.COPY, len(old) - 1)]

    assert made(difference_of(old, new, pieces), old, len(new)) == new


def test_a_run_longer_than_a_record_can_say_is_said_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "_MAX_COUNT", 100)
    pieces = [Piece(Operation.COPY, 150, 7), Piece(Operation.INSERT, 150)]
    new = OLD[7:157] + b"x" * 150

    assert made(difference_of(OLD, new, pieces), OLD, 300) == new


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "begins with"),
        (b"EFD1", "begins with"),
        (packed((1, 10, 0))[:20].replace(b"EFD1", b"EFD2") + packed((1, 10, 0))[20:], "begins with"),
        (packed((1, 10, 0), old=5), "begins with"),
        (packed((1, 11, 0), new=11), "begins with"),
        (packed((1, 10, 0))[:20], "it was cut"),
        (packed((1, 10, 0))[:-6], "it was cut|its end is missing"),
        (packed((1, 10, 0))[:-1], "its end is missing"),
        (packed((1, 9, 0)), "it was cut"),
        (packed((3, 10, 0), payload=b"short"), "it was cut"),
        (packed((2, 10, 0), payload=b"short"), "it was cut"),
        (packed((1, 11, 0)), "a record of 11 bytes where 10 are left"),
        (packed((1, 0, 0)), "a record of 0 bytes"),
        (packed((0, 10, 0)), "operation 0, wanted 1 to 3"),
        (packed((9, 10, 0)), "operation 9, wanted 1 to 3"),
        (packed((1, 10, 1020)), "10 bytes from 1020 on, but there are 1024 old ones"),
        (packed((2, 10, 1 << 63), payload=bytes(10)), "old ones"),
        (packed((1, 10, 0), (1, 1, 0)), "something follows"),
        (packed((1, 10, 0)) + b"more", "something follows"),
        (packed((1, 10, 0))[:20] + b"no zlib stream", "Error -3"),
        (packed((1, 10, 0))[:-4] + b"####", "Error -3"),
    ],
)
def test_what_is_no_difference_is_refused_with_a_sentence(said: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        made(said, OLD, 10)


def test_old_bytes_that_have_become_fewer_are_noticed() -> None:
    said = packed((1, 10, 0))

    with pytest.raises(WireError, match="3 old bytes from 0 on, wanted 10"):
        list(new_bytes(io.BytesIO(said).read, lambda _offset, _count: b"abc", old_count=1024, new_count=10))


def test_more_records_than_a_device_can_read_in_good_time_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "MAX_RECORDS", 9)

    with pytest.raises(WireError, match="more than 9 records"):
        made(packed(*[(1, 1, 0)] * 10), OLD, 10)


@pytest.mark.parametrize("promised", [1 << 30, 10])
def test_a_small_stream_that_unpacks_to_a_large_one_takes_no_memory(promised: int) -> None:
    packer = zlib.compressobj(9)
    body = packer.compress(struct.pack(">BIQ", Operation.INSERT, promised, 0))
    body += b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()
    said = io.BytesIO(struct.pack(">4sQQ", b"EFD1", len(OLD), promised) + body)
    assert len(body) < MIB
    tracemalloc.start()

    with pytest.raises(WireError, match=r"cut|something follows"):
        for _ in new_bytes(said.read, lambda _offset, _count: b"", old_count=len(OLD), new_count=promised):
            pass

    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(WireError):
        made(garbage, OLD, 10)


@settings(max_examples=300)
@given(change=changes(), data=st.data())
def test_one_altered_byte_is_refused_or_makes_as_many_bytes(
    change: tuple[bytes, bytes, list[Piece]], data: st.DataObject
) -> None:
    old, new, pieces = change
    said = bytearray(difference_of(old, new, pieces))
    said[data.draw(st.integers(0, len(said) - 1))] ^= data.draw(st.integers(1, 255))

    try:
        found = made(bytes(said), old, len(new))
    except WireError:
        return
    assert len(found) == len(new)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20), st.integers(0, 1030)), max_size=8), st.binary())
def test_any_records_are_refused_or_make_as_many_bytes(records: list[tuple[int, int, int]], payload: bytes) -> None:
    try:
        found = made(packed(*records, payload=payload), OLD, 10)
    except WireError:
        return
    assert len(found) == 10
