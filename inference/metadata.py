"""What a model says of itself: the metadata that the converter put into its ``.tflite``, read without a schema.

It is JSON in a metadata buffer called ``edgeferry``. Reading maps the file and looks at a few hundred bytes of it.
"""

import mmap
from pathlib import Path
from typing import Any

from msgspec import field

from edgeferry.inference.flatbuffer import Bytes, FlatbufferError, Table, root
from edgeferry.wire.codec import Message, WireError, decode
from edgeferry.wire.desired import TensorSpec

__all__ = [
    "BUFFERS",
    "IDENTIFIER",
    "MAX_METADATA_BYTES",
    "METADATA",
    "METADATA_NAME",
    "MetadataError",
    "ModelMetadata",
    "find_metadata",
    "read_metadata",
]

METADATA_NAME = b"edgeferry"
MAX_METADATA_BYTES = 1024 * 1024  # 20,000 labels

# Fields of tables in TensorFlow Lite's schema, tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3
IDENTIFIER = b"TFL3"
BUFFERS = 4
METADATA = 6
_NAME, _BUFFER = 0, 1  # of Metadata
_DATA = 0  # of Buffer


class MetadataError(ValueError):
    """A model's metadata cannot be read; the model itself may be well."""


class ModelMetadata(Message, frozen=True):
    """What a model says of itself.

    Attributes:
        format: Of this metadata.
        name: Of the model.
        version: Of the artifact that it was made for.
        scheme: How it is quantized.
        inputs: What it takes, with scale and zero point where it is quantized.
        outputs: What it gives.
        labels: Names of the classes, in the order of the output, where they are known.
        preprocessing: How raw data becomes the input; see docs/samples.md.
        evaluation: Metric, score of the float model and of this one, number of samples.
        calibration_sha256: Of the samples from which its ranges were learned; empty where there were none.
    """

    format: int
    name: str
    version: int
    scheme: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    calibration_sha256: str = ""


def read_metadata(path: Path) -> ModelMetadata | None:
    """Return what the model in the file at ``path`` says of itself; None when it says nothing to us.

    Raises:
        MetadataError: The file cannot be read, is no model, or its metadata is damaged.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            content = find_metadata(view)
    except (OSError, ValueError) as err:  # ValueError: an empty file cannot be mapped; FlatbufferError is one, too
        raise MetadataError(f"{path.name}: metadata cannot be read: {err}") from err
    if not content:
        return None
    try:
        return decode(ModelMetadata, content, max_bytes=MAX_METADATA_BYTES)
    except WireError as err:
        raise MetadataError(f"{path.name}: metadata is damaged: {err}") from err


def find_metadata(model: Bytes) -> bytes:
    """Return our metadata in the bytes of a ``.tflite``, empty where there is none.

    Raises:
        FlatbufferError: It is no model, or damaged.
    """
    top = root(model, IDENTIFIER)
    for entry in top.tables(METADATA):
        if entry.content(_NAME) == METADATA_NAME:
            return _buffer(top, entry.u32(_BUFFER)).content(_DATA)
    return b""


def _buffer(top: Table, wanted: int) -> Table:
    for index, buffer in enumerate(top.tables(BUFFERS)):
        if index == wanted:
            return buffer
    raise FlatbufferError(f"there is no buffer {wanted}")
