"""Block request and block frame of the pull transfer.

A device asks in JSON, an origin answers with frames: 24 bytes of header in network byte order, then the block.

    0  magic "EFB1"   4  header version   5  flags   6  transfer   8  first 8 bytes of the blob's SHA-256
    16 index          20 crc32 of the block
    (the block's length is the payload's length less 24)
"""

import base64
import struct
import zlib
from dataclasses import dataclass

from msgspec import field

from edgeferry.wire.codec import Message, WireError, decode
from edgeferry.wire.desired import Sha256

__all__ = [
    "BLOCK_BYTES",
    "MAX_WINDOW",
    "Block",
    "BlockRequest",
    "bitmap_of",
    "block_count",
    "parse_block_request",
]

BLOCK_BYTES = 64 * 1024
MAX_WINDOW = 16

_HEADER = struct.Struct(">4sBBH8sII")
_MAGIC = b"EFB1"
_VERSION = 1
_MAX_REQUEST_BYTES = 16 * 1024


class BlockRequest(Message, frozen=True):
    """What a device asks an origin for: a run of blocks, or the set bits of a bitmap that begins at ``first``.

    Attributes:
        v: Version of this message.
        transfer: Number of the transfer, 0 to 65535, chosen by the device; comes back in every frame.
        sha256: The blob.
        block_bytes: Size of a block; the last one may be shorter.
        first: Index of the first block asked for.
        count: Number of blocks from ``first`` on; at most 64.
        bitmap: Base64; bit 7 of byte 0 stands for ``first``. Where it stands, ``count`` is the number of its bits.
        origin: The origin that shall answer; others answer only what is asked again. Empty: whoever can.
        again: True when these blocks were asked for before.
    """

    v: int
    transfer: int = field(name="t")
    sha256: Sha256 = field(name="sha")
    block_bytes: int = field(name="s")
    first: int = field(name="o")
    count: int = field(name="n")
    bitmap: str = field(default="", name="b")
    origin: str = field(default="", name="oid")
    again: bool = False

    def indices(self) -> list[int]:
        """Return the indices of the blocks asked for, ascending."""
        if not self.bitmap:
            return list(range(self.first, self.first + self.count))
        bits = base64.b64decode(self.bitmap)
        return [self.first + i for i in range(self.count) if bits[i // 8] >> (7 - i % 8) & 1]


def parse_block_request(data: bytes) -> BlockRequest:
    """Return the request that ``data`` spells, with every number within its range.

    Raises:
        WireError: It is not a request, or asks for more than an origin has to give.
    """
    request = decode(BlockRequest, data, max_bytes=_MAX_REQUEST_BYTES)
    numbers_fit = (
        0 <= request.transfer < 1 << 16
        and 1024 <= request.block_bytes <= 1 << 20
        and 0 <= request.first < 1 << 32
        and 1 <= request.count <= 64
    )
    if request.v != _VERSION or not numbers_fit or not _bitmap_fits(request):
        raise WireError(f"BlockRequest: a number is out of its range: {data[:200]!r}")
    return request


def _bitmap_fits(request: BlockRequest) -> bool:
    if not request.bitmap:
        return True
    try:
        return len(base64.b64decode(request.bitmap, validate=True)) * 8 >= request.count
    except ValueError:
        return False


def bitmap_of(indices: list[int]) -> tuple[int, int, str]:
    """Return ``(first, count, bitmap)`` for ascending, non-empty ``indices`` that span at most 64 blocks."""
    first = indices[0]
    count = indices[-1] - first + 1
    if count == len(indices):
        return first, count, ""
    bits = bytearray((count + 7) // 8)
    for index in indices:
        offset = index - first
        bits[offset // 8] |= 1 << (7 - offset % 8)
    return first, count, base64.b64encode(bits).decode()


@dataclass(frozen=True, slots=True)
class Block:
    """One block on its way from an origin to a device.

    Attributes:
        transfer: The number from the request.
        sha256_prefix: The first 8 bytes of the blob's SHA-256, so that a late block of another transfer is told apart.
        index: Position in the blob, in blocks.
        data: The block itself.
    """

    transfer: int
    sha256_prefix: bytes
    index: int
    data: bytes | memoryview

    def to_bytes(self) -> bytes:
        """Return header and block as one frame."""
        header = _HEADER.pack(_MAGIC, _VERSION, 0, self.transfer, self.sha256_prefix, self.index, zlib.crc32(self.data))
        return b"".join((header, self.data))

    @classmethod
    def from_bytes(cls, frame: bytes) -> "Block":
        """Return the block in ``frame``; its data is a view, not a copy.

        Raises:
            WireError: Too short, not a block, of another version, or damaged on the way.
        """
        if len(frame) < _HEADER.size:
            raise WireError(f"Block: {len(frame)} bytes, wanted at least {_HEADER.size}")
        magic, version, _flags, transfer, prefix, index, crc32 = _HEADER.unpack_from(frame)
        if magic != _MAGIC or version != _VERSION:
            raise WireError(f"Block: begins with {bytes(frame[:5])!r}, wanted {_MAGIC!r} and version {_VERSION}")
        data = memoryview(frame)[_HEADER.size :]
        if zlib.crc32(data) != crc32:
            raise WireError(f"Block {index}: checksum differs; it was damaged on the way")
        return cls(transfer, prefix, index, data)


def block_count(size_bytes: int, block_bytes: int) -> int:
    """Return into how many blocks a blob of ``size_bytes`` falls."""
    return -(-size_bytes // block_bytes)
