"""Compressed bodies, unpacked piece by piece, so that a small one cannot become a large one unnoticed."""

import zlib
from collections.abc import Iterator

from edgeferry.agent.serving.http_message import HttpError

__all__ = ["inflate"]

_PIECE_BYTES = 1024 * 1024
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # which of both is told by the first bytes
_ENCODINGS = {"gzip", "x-gzip", "deflate"}


def inflate(body: bytes | bytearray, encoding: str) -> Iterator[bytes]:
    """Yield what ``body`` unpacks to, at most 1 MiB at a time.

    Args:
        body: As it was sent.
        encoding: Value of Content-Encoding.

    Raises:
        HttpError: The encoding is not known, or the body is not whole.
    """
    if encoding not in _ENCODINGS:
        raise HttpError(415, f"Content-Encoding {encoding[:40]!r} is not taken; wanted gzip, deflate or none")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    rest: bytes | bytearray = body
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(rest, _PIECE_BYTES)
            rest = unpacker.unconsumed_tail
            if not piece and not rest:
                break
            yield piece
    except zlib.error as err:
        raise HttpError(400, f"the body is not {encoding}: {err}") from err
    if not unpacker.eof or unpacker.unused_data:
        raise HttpError(400, f"the body is not one whole {encoding} stream")
