"""A difference: how the bytes of a blob are made from those of an older one, whatever they mean.

    0  magic "EFD1"   4  number of old bytes   12  number of new bytes   (network byte order)
    20 one zlib stream (RFC 1950) of records, which make the new bytes from their beginning to their end:

    operation, 1 byte   count, 4 bytes   offset, 8 bytes
    1 copy              count of the old bytes, from offset on
    2 add               the same, to each of which a byte is added, modulo 256: count bytes follow
    3 insert            offset is 0: count bytes follow, which are the new ones

A reader holds a few pieces of 64 KiB, whatever it is told: records give exactly the bytes that the header promises,
each at least one, and nothing follows them. A difference proves nothing: whoever makes bytes by one compares their hash
with what was signed.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from edgeferry.wire.codec import WireError

__all__ = ["MAX_RECORDS", "Operation", "Piece", "difference_of", "new_bytes"]

MAX_RECORDS = 1 << 20  # each costs a device some microseconds
_PIECE_BYTES: Final = 64 * 1024  # what is unpacked and made at once
_PACKED_BYTES: Final = 16 * 1024
_MAX_COUNT: Final = (1 << 32) - 1

_MAGIC = b"EFD1"
_HEADER = struct.Struct(">4sQQ")
_RECORD = struct.Struct(">BIQ")


class Operation(IntEnum):
    """Where new bytes come from."""

    COPY = 1
    ADD = 2
    INSERT = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of new bytes, and where they come from.

    Attributes:
        count: Number of bytes, at least 1.
        offset: Of the first of them among the old bytes; 0 for what is inserted.
    """

    operation: Operation
    count: int
    offset: int = 0


def difference_of(old: bytes, new: bytes, pieces: Iterable[Piece]) -> bytes:
    """Return the difference from ``old`` to ``new``.

    Args:
        old: What a device has.
        new: What it shall have.
        pieces: Where all of ``new`` comes from, in order; what is copied has to be the same in both.
    """
    pieces = list(pieces)
    packer = _packer(pieces)
    packed = [_HEADER.pack(_MAGIC, len(old), len(new))]
    at = 0
    for piece in pieces:
        for operation, count, offset in _records(piece):
            packed.append(packer.compress(_RECORD.pack(operation, count, offset)))
            if operation is Operation.INSERT:
                packed.append(packer.compress(new[at : at + count]))
            elif operation is Operation.ADD:
                packed.append(packer.compress(_minus(new[at : at + count], old[offset : offset + count])))
            at += count
    return b"".join((*packed, packer.flush()))


def new_bytes(
    read: Callable[[int], bytes], read_old: Callable[[int, int], bytes], *, old_count: int, new_count: int
) -> Iterator[bytes]:
    """Yield the new bytes in pieces of at most 64 KiB.

    Args:
        read: Gives at most so many of the difference's next bytes; none at its end.
        read_old: Gives old bytes: from an offset on, so many.
        old_count: How many old bytes there are.
        new_count: How many new bytes are wanted.

    Raises:
        WireError: It is not a difference from so many bytes to so many, was cut or damaged, or does not keep to its
            format. What was yielded before may be wrong as well.
    """
    header = read(_HEADER.size)
    if header != _HEADER.pack(_MAGIC, old_count, new_count):
        raise WireError(f"difference: begins with {header.hex()}, wanted one from {old_count} to {new_count} bytes")
    unpacked = _Unpacked(read)
    made = 0
    for _ in range(MAX_RECORDS):
        if made == new_count:
            unpacked.end()
            return
        operation, count, offset = _RECORD.unpack(unpacked.take(_RECORD.size))
        _check(operation, count, offset, old_count=old_count, left=new_count - made)
        for at in range(0, count, _PIECE_BYTES):
            yield _made(operation, min(_PIECE_BYTES, count - at), offset + at, unpacked, read_old)
        made += count
    raise WireError(f"difference: more than {MAX_RECORDS} records")


def _packer(pieces: Iterable[Piece]) -> "zlib._Compress":
    """Return what packs best. Small numbers at random hold no repetitions but of zeros, and to look for others is slow.

    What has to be added to a fine-tuned MobileNetV2 took 16.3 % in 0.05 s this way, 16.9 % in 0.4 s with repetitions,
    and 15.5 % in 5.6 s when they were looked for as well as zlib can.
    """
    counts = dict.fromkeys(Operation, 0)
    for piece in pieces:
        counts[piece.operation] += piece.count
    is_numbers = counts[Operation.ADD] > counts[Operation.INSERT]
    return zlib.compressobj(9, strategy=zlib.Z_RLE if is_numbers else zlib.Z_DEFAULT_STRATEGY)


def _records(piece: Piece) -> Iterator[tuple[Operation, int, int]]:
    """Yield a piece in counts that a record can say."""
    is_inserted = piece.operation is Operation.INSERT
    for at in range(0, piece.count, _MAX_COUNT):
        yield piece.operation, min(_MAX_COUNT, piece.count - at), 0 if is_inserted else piece.offset + at


def _check(operation: int, count: int, offset: int, *, old_count: int, left: int) -> None:
    if not 1 <= count <= left:
        raise WireError(f"difference: a record of {count} bytes where {left} are left to make")
    if operation not in set(Operation):
        raise WireError(f"difference: operation {operation}, wanted 1 to {max(Operation)}")
    if operation != Operation.INSERT and offset + count > old_count:
        raise WireError(f"difference: {count} bytes from {offset} on, but there are {old_count} old ones")


def _made(
    operation: int, count: int, offset: int, unpacked: "_Unpacked", read_old: Callable[[int, int], bytes]
) -> bytes:
    if operation == Operation.INSERT:
        return unpacked.take(count)
    old = read_old(offset, count)
    if len(old) != count:
        raise WireError(f"difference: {len(old)} old bytes from {offset} on, wanted {count}")
    return old if operation == Operation.COPY else _plus(old, unpacked.take(count))


class _Unpacked:
    """What a zlib stream holds, asked for in amounts that are known."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._packed = b""
        self._zlib = zlib.decompressobj()
        self._ready = memoryview(b"")

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            WireError: There are fewer, or it is no zlib stream.
        """
        parts = []
        while count:
            if not self._ready and not self._unpack():
                raise WireError("difference: it was cut")
            part, self._ready = self._ready[:count], self._ready[count:]
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def end(self) -> None:
        """Make sure that nothing is left, and that the stream's own checksum is there and right.

        Raises:
            WireError: Something is, or it is not.
        """
        if self._ready or self._unpack() or not self._zlib.eof or self._zlib.unused_data or self._read(1):
            raise WireError("difference: something follows its last record, or its end is missing")

    def _unpack(self) -> bool:
        """Make some bytes ready, at most 64 KiB; tell whether there were any."""
        while not self._zlib.eof:
            packed = self._packed or self._read(_PACKED_BYTES)
            try:
                self._ready = memoryview(self._zlib.decompress(packed, _PIECE_BYTES))
            except zlib.error as err:
                raise WireError(f"difference: {err}") from err
            self._packed = self._zlib.unconsumed_tail
            if self._ready or not packed:
                break
        return bool(self._ready)


# 64 KiB as one number, of which every byte is added or taken away by itself: a device has no numpy here, and a loop
# over bytes would take a hundred times as long. The highest bit of each byte is kept out of the sum, so that nothing is
# carried into its neighbour, and is put right afterwards (Warren, Hacker's Delight, 2-18).


def _plus(left: bytes, right: bytes) -> bytes:
    """Return the sums of two equally long byte strings, byte by byte, modulo 256."""
    low, high = _masks(len(left))
    a, b = int.from_bytes(left), int.from_bytes(right)
    return (((a & low) + (b & low)) ^ ((a ^ b) & high)).to_bytes(len(left))


def _minus(left: bytes, right: bytes) -> bytes:
    """Return the differences of two equally long byte strings, byte by byte, modulo 256."""
    low, high = _masks(len(left))
    a, b = int.from_bytes(left), int.from_bytes(right)
    return (((a | high) - (b & low)) ^ ((a ^ ~b) & high)).to_bytes(len(left))


def _masks(count: int) -> tuple[int, int]:
    return int.from_bytes(b"\x7f" * count), int.from_bytes(b"\x80" * count)
