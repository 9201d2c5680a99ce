"""The little of FlatBuffers that reading a model's metadata needs, with every offset checked. Pure.

Source: the FlatBuffers binary format (flatbuffers.dev/internals). A table begins with the signed distance to its
vtable, which lists where each field is; offsets to other things are unsigned and point forward.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["FlatbufferError", "Table", "root"]

Bytes = bytes | bytearray | memoryview


class FlatbufferError(ValueError):
    """The bytes are no flatbuffer, or point outside of themselves."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table at the position ``at`` of ``data``."""

    data: Bytes
    at: int

    def fields(self) -> int:
        """Return how many fields its vtable knows."""
        return max(0, (_number(self.data, "<H", self._vtable()) - 4) // 2)

    def place(self, field: int) -> int:
        """Return the position of a field, 0 where the table does not have it."""
        if field >= self.fields():
            return 0
        offset = _number(self.data, "<H", self._vtable() + 4 + 2 * field)
        return self.at + offset if offset else 0

    def u32(self, field: int) -> int:
        """Return a field's number, 0 where there is none."""
        place = self.place(field)
        return _number(self.data, "<I", place) if place else 0

    def u64(self, field: int) -> int:
        """Return a field's number, 0 where there is none."""
        place = self.place(field)
        return _number(self.data, "<Q", place) if place else 0

    def tables(self, field: int) -> Iterator["Table"]:
        """Yield the tables of a vector, none where there is no vector."""
        place = self.place(field)
        if not place:
            return
        start, count = _vector(self.data, place, 4)
        for index in range(count):
            yield Table(self.data, follow(self.data, start + 4 * index))

    def content(self, field: int) -> bytes:
        """Return a vector of bytes, or a string's; empty where there is none."""
        start, count = self.span(field)
        return bytes(self.data[start : start + count])

    def span(self, field: int) -> tuple[int, int]:
        """Return where the bytes of a vector, or of a string, begin, and how many there are; 0 where there is none."""
        place = self.place(field)
        return _vector(self.data, place, 1) if place else (0, 0)

    def _vtable(self) -> int:
        return self.at - _number(self.data, "<i", self.at)


def root(data: Bytes, identifier: bytes) -> Table:
    """Return the root table of ``data``.

    Raises:
        FlatbufferError: It is not one with that four-byte identifier.
    """
    if bytes(data[4:8]) != identifier:
        raise FlatbufferError(f"begins with {bytes(data[:8])!r}, wanted {identifier!r} after four bytes")
    return Table(data, follow(data, 0))


def follow(data: Bytes, place: int) -> int:
    """Return the position to which the offset at ``place`` points."""
    return place + _number(data, "<I", place)


def _vector(data: Bytes, place: int, item_bytes: int) -> tuple[int, int]:
    start = follow(data, place)
    count = _number(data, "<I", start)
    if start + 4 + count * item_bytes > len(data):
        raise FlatbufferError(f"a vector of {count} at {start} ends behind the file's {len(data)} bytes")
    return start + 4, count


def _number(data: Bytes, form: str, place: int) -> int:
    if not 0 <= place <= len(data) - struct.calcsize(form):
        raise FlatbufferError(f"position {place} is outside of the file's {len(data)} bytes")
    value: int = struct.unpack_from(form, data, place)[0]
    return value
