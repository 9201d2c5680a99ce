"""The index of variables, as TensorFlow writes it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.converter.inspection.bundle import TableError, entries_of

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")


def number(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def block(entries: list[tuple[int, bytes, bytes]], kind: int = 0) -> bytes:
    """Return a block of (shared, rest of the key, value) with one restart and its trailer."""
    body = b"".join(number(s) + number(len(k)) + number(len(v)) + k + v for s, k, v in entries)
    return body + bytes(4) + (1).to_bytes(4, "little") + bytes([kind]) + bytes(4)


def table(*blocks: bytes, index: bytes | None = None) -> bytes:
    data, handles = b"", []
    for one in blocks:
        handles.append((0, b"k", number(len(data)) + number(len(one) - 5)))
        data += one
    index = block(handles) if index is None else index
    footer = number(0) + number(0) + number(len(data)) + number(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + MAGIC


def test_keys_share_their_beginnings_with_the_one_before():
    written = table(
        block([(0, b"", b"header"), (0, b"dense/kernel", b"1"), (6, b"bias", b"2")]), block([(0, b"z", b"")])
    )

    assert list(entries_of(written)) == [
        (b"", b"header"),
        (b"dense/kernel", b"1"),
        (b"dense/bias", b"2"),
        (b"z", b""),
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"short", "its end is missing"),
        (table(block([(0, b"a", b"1")]))[:-1], "its end is missing"),
        (table(block([(0, b"a", b"1")], kind=1)), "it is compressed"),
        (table(block([(5, b"a", b"1")])), "one of its entries is damaged"),
        (table(index=block([(0, b"k", number(9999) + number(9))])), "lies beyond its end"),
        (table(index=block([(0, b"k", b"\xff")])), "one of its numbers is damaged"),
    ],
)
def test_what_is_damaged_is_told(written, message):
    with pytest.raises(TableError, match=message):
        list(entries_of(written))


@given(st.binary(max_size=200))
def test_garbage_is_an_error_of_the_table_and_nothing_else(junk):
    for written in (junk + MAGIC, junk.ljust(48, b"\0") + MAGIC):
        with contextlib.suppress(TableError):
            list(entries_of(written))
