"""Puts metadata into a ``.tflite`` without touching what is there. Pure.

Everything in a flatbuffer is found by offsets that point forward. So a new root table in front of the old file can name
the old file's parts, and one more buffer and metadata entry of its own: weights, operators and signatures stay as they
are, byte for byte and aligned as before. It costs about 200 bytes, and 4 for each buffer of the model.

Alone what is outside of the flatbuffer, behind its end, is found by absolute positions: weights that litert-quantizer
has put there, and options of custom operators in models of more than 2 GB. These positions grow by what is in front.
"""

import struct
from collections.abc import Sequence

from edgeferry.inference.flatbuffer import FlatbufferError, Table, follow, root
from edgeferry.inference.metadata import BUFFERS, IDENTIFIER, METADATA, METADATA_NAME

__all__ = ["embed"]

_FIELDS_OF_MODEL = 10
_VERSION = 0  # the one field of Model that is a number
_DATA, _OFFSET = 0, 1  # of Buffer; with the latter its content lies at an absolute position of the file
_NAME, _BUFFER = 0, 1  # of Metadata
_SUBGRAPHS = 2  # of Model
_OPERATORS = 3  # of SubGraph
_OPTIONS_OFFSET = 9  # of Operator: its options lie at an absolute position
_TABLE = -1
_ALIGNMENT = 16  # of a buffer's content


def embed(model: bytes, metadata: bytes) -> bytes:
    """Return ``model`` with ``metadata`` under our name, instead of what it may have had there.

    Args:
        model: A ``.tflite``.
        metadata: What it shall say of itself.

    Raises:
        FlatbufferError: It is no model, or damaged.
    """
    top = root(model, IDENTIFIER)
    if top.fields() > _FIELDS_OF_MODEL:
        raise FlatbufferError(f"a model has {_FIELDS_OF_MODEL} fields, this one {top.fields()}; update edgeferry")
    buffers = list(top.tables(BUFFERS))
    kept = [entry for entry in top.tables(METADATA) if entry.content(_NAME) != METADATA_NAME]
    prefix = _Prefix()
    places = prefix.table(_slots(top))
    all_buffers = prefix.vector([*(-old.at for old in buffers), 0])
    all_metadata = prefix.vector([*(-old.at for old in kept), 0])
    buffer = prefix.table([_DATA])
    entry = prefix.table([_NAME, _BUFFER])
    prefix.point(0, places[_TABLE])
    for field in _slots(top):
        if field == _VERSION:
            prefix.number(places[field], top.u32(field))
        elif field not in (BUFFERS, METADATA):
            prefix.point(places[field], -follow(model, top.place(field)))
    prefix.point(places[BUFFERS], all_buffers)
    prefix.point(places[METADATA], all_metadata)
    prefix.point(all_buffers + 4 + 4 * len(buffers), buffer[_TABLE])
    prefix.point(all_metadata + 4 + 4 * len(kept), entry[_TABLE])
    prefix.number(entry[_BUFFER], len(buffers))
    prefix.point(entry[_NAME], prefix.content(METADATA_NAME, end=b"\0"))  # a string ends with a zero
    prefix.point(buffer[_DATA], prefix.content(metadata))
    front = prefix.finish()
    return front + _moved(model, _absolute_places(top, buffers), len(front))


def _absolute_places(top: Table, buffers: Sequence[Table]) -> set[int]:
    """Return where in the file absolute positions stand."""
    operators = (operator for graph in top.tables(_SUBGRAPHS) for operator in graph.tables(_OPERATORS))
    places = {buffer.place(_OFFSET) for buffer in buffers if buffer.u64(_OFFSET)}
    return places | {one.place(_OPTIONS_OFFSET) for one in operators if one.u64(_OPTIONS_OFFSET)}


def _moved(model: bytes, places: set[int], distance: int) -> bytes:
    moved = bytearray(model)
    for place in places:
        (position,) = struct.unpack_from("<Q", moved, place)
        if position + distance >= 2**64:
            raise FlatbufferError(f"position {position} at {place} is outside of any file")
        struct.pack_into("<Q", moved, place, position + distance)
    return bytes(moved)


def _slots(top: Table) -> list[int]:
    present = {field for field in range(top.fields()) if top.place(field)}
    return sorted(present | {BUFFERS, METADATA})


class _Prefix:
    """The bytes in front. A position in the old file is given as a negative number until its distance is known."""

    def __init__(self) -> None:
        self._bytes = bytearray(b"\0\0\0\0" + IDENTIFIER)
        self._pointers: dict[int, int] = {}

    def table(self, fields: list[int]) -> dict[int, int]:
        """Append a table with 32 bits for each of ``fields``; return their places, and its own under `_TABLE`."""
        self._align(4)
        count = max(fields) + 1
        vtable = [4 + 2 * count, 4 + 4 * len(fields)] + [0] * count
        for index, field in enumerate(fields):
            vtable[2 + field] = 4 + 4 * index
        begin = len(self._bytes)
        self._bytes += struct.pack(f"<{len(vtable)}H", *vtable)
        self._align(4)
        at = len(self._bytes)
        self._bytes += struct.pack("<i", at - begin) + bytes(4 * len(fields))
        return {_TABLE: at} | {field: at + 4 + 4 * index for index, field in enumerate(fields)}

    def vector(self, targets: list[int]) -> int:
        """Append a vector of offsets to ``targets``; return its position."""
        at = len(self._bytes)
        self._bytes += struct.pack("<I", len(targets)) + bytes(4 * len(targets))
        for index, target in enumerate(targets):
            self.point(at + 4 + 4 * index, target)
        return at

    def content(self, content: bytes, *, end: bytes = b"") -> int:
        """Append a vector of bytes, aligned as buffers are; return its position."""
        self._align(_ALIGNMENT, before=4)
        at = len(self._bytes)
        self._bytes += struct.pack("<I", len(content)) + content + end
        return at

    def point(self, place: int, target: int) -> None:
        """Let the offset at ``place`` point at ``target``."""
        self._pointers[place] = target

    def number(self, place: int, value: int) -> None:
        """Write a number at ``place``.

        Raises:
            FlatbufferError: It is what a damaged file says, and none of 32 bits.
        """
        if not 0 <= value < 2**32:
            raise FlatbufferError(f"an offset of {value} is outside of any file")
        struct.pack_into("<I", self._bytes, place, value)

    def finish(self) -> bytes:
        """Return the bytes, with all offsets filled in."""
        self._align(_ALIGNMENT)
        for place, target in self._pointers.items():
            there = target if target > 0 else len(self._bytes) - target
            self.number(place, there - place)
        return bytes(self._bytes)

    def _align(self, size: int, *, before: int = 0) -> None:
        self._bytes += bytes(-(len(self._bytes) + before) % size)
