"""Reads the index of a SavedModel's variables: names, types, shapes and where their bytes lie. Pure.

The index is a table in LevelDB's format, uncompressed. Source: ``tensorflow/core/util/tensor_bundle/tensor_bundle.h``
and ``tensorflow/core/lib/io/table_format.txt``.
"""

from collections.abc import Iterator

__all__ = ["TableError", "entries_of"]

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_TRAILER_BYTES = 5  # a block's kind of compression and its checksum
_UNCOMPRESSED = 0


class TableError(ValueError):
    """The bytes are no such table; the message is a sentence that says why."""


def entries_of(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table, in its order.

    Raises:
        TableError: It is cut off, damaged or compressed.
    """
    if len(table) < _FOOTER_BYTES or table[-8:] != _MAGIC:
        raise TableError("its end is missing")
    at = len(table) - _FOOTER_BYTES
    _, at = _number(table, at)  # where the block of metadata is, which TensorFlow leaves empty
    _, at = _number(table, at)
    offset, at = _number(table, at)
    size, at = _number(table, at)
    for _, handle in _block(table, offset, size):
        offset, at = _number(handle, 0)
        size, _ = _number(handle, at)
        yield from _block(table, offset, size)


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if end + _TRAILER_BYTES > len(table) or size < 4:
        raise TableError("one of its blocks lies beyond its end")
    if table[end] != _UNCOMPRESSED:
        raise TableError("it is compressed, as TensorFlow never writes it")
    restarts = int.from_bytes(table[end - 4 : end], "little")
    limit = end - 4 - 4 * restarts
    at, key = offset, b""
    while at < limit:
        shared, at = _number(table, at)
        unshared, at = _number(table, at)
        length, at = _number(table, at)
        if shared > len(key) or at + unshared + length > limit:
            raise TableError("one of its entries is damaged")
        key = key[:shared] + table[at : at + unshared]
        at += unshared
        yield key, table[at : at + length]
        at += length


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of variable length at ``at``, and where the next thing begins."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise TableError("one of its numbers is damaged")
