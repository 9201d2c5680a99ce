"""Cuts a stream of bytes into samples. Pure.

Each framer takes bytes as they come and yields whole samples; what it holds back is bounded, and what cannot be a
sample is counted as spoilt and skipped, so that a source that stumbles finds its feet again.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

__all__ = ["MAX_SAMPLE_BYTES", "FrameFramer", "Framer", "JpegFramer", "LineFramer"]

MAX_SAMPLE_BYTES = 64 << 20

_JPEG_BEGIN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"  # SOI with the marker that always follows, and EOI (T.81, B.1)


class Framer(ABC):
    """Cuts one stream.

    Attributes:
        spoilt: How often something was skipped.
    """

    def __init__(self, max_bytes: int = MAX_SAMPLE_BYTES) -> None:
        self.spoilt = 0
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the samples that end within ``data``."""
        self._buffer += data
        while (sample := self._next()) is not None:
            yield sample
        if len(self._buffer) > self._max_bytes:
            self.spoilt += 1
            self._buffer.clear()

    @abstractmethod
    def _next(self) -> bytes | None:
        """Take the next whole sample out of the buffer; None when there is none."""

    def _take(self, end: int) -> bytes:
        sample = bytes(self._buffer[:end])
        del self._buffer[:end]
        return sample


class FrameFramer(Framer):
    """Samples of a fixed size: raw frames, windows of sound.

    Args:
        size_bytes: Of one sample.
        step_bytes: From the beginning of one to that of the next; less than the size where they overlap.
    """

    def __init__(self, size_bytes: int, step_bytes: int | None = None) -> None:
        super().__init__(max(MAX_SAMPLE_BYTES, 2 * size_bytes))
        self._size_bytes = size_bytes
        self._step_bytes = step_bytes or size_bytes
        self._skip_bytes = 0

    def _next(self) -> bytes | None:
        skipped = min(self._skip_bytes, len(self._buffer))
        del self._buffer[:skipped]
        self._skip_bytes -= skipped
        if self._skip_bytes or len(self._buffer) < self._size_bytes:
            return None
        self._skip_bytes = self._step_bytes
        return bytes(self._buffer[: self._size_bytes])


class LineFramer(Framer):
    """Lines; empty ones are no samples."""

    def _next(self) -> bytes | None:
        while (end := self._buffer.find(b"\n")) >= 0:
            line = self._take(end + 1).strip()
            if line:
                return line
        return None


class JpegFramer(Framer):
    """JPEG images one after the other, as cameras write motion JPEG.

    Within an image the end marker stands only at its end: in coded data 0xff is followed by 0x00 (T.81, F.1.2.3). A
    thumbnail inside an image has an end of its own; cameras' streams have none.
    """

    def _next(self) -> bytes | None:
        begin = self._buffer.find(_JPEG_BEGIN)
        if begin < 0:
            if len(self._buffer) > len(_JPEG_BEGIN):
                self.spoilt += 1
                del self._buffer[: 1 - len(_JPEG_BEGIN)]
            return None
        if begin:
            self.spoilt += 1
            del self._buffer[:begin]
        end = self._buffer.find(_JPEG_END, len(_JPEG_BEGIN))
        return self._take(end + len(_JPEG_END)) if end >= 0 else None
