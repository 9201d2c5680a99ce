"""The same model in fewer bytes: vectors that are equal are stored once.

A weight with a scale for each channel has a zero point for each, too: eight bytes that say 0, and as many for its bias.
In a flatbuffer several tables may point at the same vector, and every reader follows where it points.
"""

import hashlib
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from edgeferry.inference.metadata import IDENTIFIER

__all__ = ["compacted"]

_ALIGNMENT = 16  # of a buffer's content, which the schema demands (force_align) and Python's own packing forgets
_MAX_BYTES = 1 << 30  # beyond 2 GB offsets do not reach; larger models keep their weights behind the flatbuffer


def compacted(model: bytes) -> bytes:
    """Return ``model``, a ``.tflite``, with all its parts, and each vector of numbers once."""
    if len(model) > _MAX_BYTES:
        return model
    content = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    for buffer in content.buffers:
        if buffer.data is not None:  # what stood behind the flatbuffer comes as bytes, which are packed one by one
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    builder = _SharingBuilder(len(model))
    builder.Finish(content.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc] # it has no types
    """Packs a model like its base, but equal vectors once, and buffers aligned."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self._known: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - the name is the base's
        key = x.dtype.str, hashlib.sha256(x.tobytes()).digest()
        if key not in self._known:
            if x.dtype == np.uint8:
                self.Prep(_ALIGNMENT, x.nbytes)
            self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]
