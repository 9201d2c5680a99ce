"""Where a TensorFlow Lite model keeps the values of its constant tensors, by name. Pure; nothing of it is run.

Source: TensorFlow Lite's schema, tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3.
"""

from dataclasses import dataclass

from edgeferry.inference.flatbuffer import Bytes, FlatbufferError, Table, root

__all__ = ["Constant", "constants_in"]

_IDENTIFIER = b"TFL3"
_SUBGRAPHS, _BUFFERS = 2, 4  # of Model
_TENSORS = 0  # of SubGraph
_BUFFER, _NAME = 2, 3  # of Tensor
_DATA, _OFFSET, _SIZE = 0, 1, 2  # of Buffer; the values stand in it, or behind the flatbuffer, at an offset of the file


@dataclass(frozen=True, slots=True)
class Constant:
    """The values of a tensor, as a run of the model's bytes.

    Attributes:
        name: Of the first tensor that has these values.
    """

    name: bytes
    offset: int
    count: int


def constants_in(model: Bytes) -> list[Constant]:
    """Return the constants of ``model`` as they follow in the file; none where it is no model or a damaged one."""
    try:
        found = _constants(root(model, _IDENTIFIER))
    except FlatbufferError:
        return []
    return sorted(found, key=lambda constant: constant.offset)


def _constants(model: Table) -> list[Constant]:
    names: dict[int, bytes] = {}
    for graph in model.tables(_SUBGRAPHS):
        for tensor in graph.tables(_TENSORS):
            names.setdefault(tensor.u32(_BUFFER), tensor.content(_NAME))
    spans = {at: _span(buffer) for at, buffer in enumerate(model.tables(_BUFFERS))}
    return [Constant(names[at], *span) for at, span in spans.items() if span[1] and at in names]


def _span(buffer: Table) -> tuple[int, int]:
    """Return where a buffer's values are and how many bytes; 0 bytes where there are none."""
    offset, count = buffer.u64(_OFFSET), buffer.u64(_SIZE)
    if not count:
        return buffer.span(_DATA)
    if offset + count > len(buffer.data):
        raise FlatbufferError(f"a buffer of {count} at {offset} ends behind the file's {len(buffer.data)} bytes")
    return offset, count
