"""Float ``.tflite`` files, which need no conversion: their batch is fixed, and a signature added where none is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from edgeferry.converter.errors import Code, RequestError, SourceError
from edgeferry.converter.formats.source import Shapes
from edgeferry.converter.formats.unrunnable import unrunnable
from edgeferry.inference.model import Model, ModelError

__all__ = ["TfliteSource", "load"]

_SIGNATURE = b"serving_default"


def load(path: Path, signature: str | None = None) -> "TfliteSource":
    """Return the model at ``path``, with one signature.

    Raises:
        RequestError: It has no such signature.
        SourceError: It cannot be run, is quantized already, or it is not clear which of its signatures is meant.
    """
    try:
        model = Model.load(path)
    except ModelError as err:
        raise unrunnable(path.name, path, err, code=Code.SOURCE_UNREADABLE) from err
    content = flatbuffer_utils.read_model(str(path))
    _check(path.name, content, signature)
    return TfliteSource(model, content)


class TfliteSource:
    """A float ``.tflite``."""

    def __init__(self, model: Model, content: Any) -> None:
        self._model = model
        self._content = content
        self.inputs = model.inputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs for a batch of one."""
        self._model.reset()
        return self._model.run(inputs)

    def to_tflite(self, shapes: Shapes, folder: Path, *, allows_select_tf: bool = False) -> bytes:
        """Return the same model with fixed input shapes and a signature."""
        main = self._content.subgraphs[0]
        if not self._content.signatureDefs:
            self._content.signatureDefs = [_signature(main)]
        fixed = {entry.tensorIndex: shapes[_text(entry.name)] for entry in self._content.signatureDefs[0].inputs}
        for index, shape in fixed.items():
            main.tensors[index].shape = list(shape)
        for index in (*main.inputs, *main.outputs):
            main.tensors[index].shapeSignature = None
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._content))


def _check(name: str, content: Any, wanted: str | None) -> None:
    keys = [_text(signature.signatureKey) for signature in content.signatureDefs or ()]
    if wanted is not None and wanted not in keys:
        raise RequestError(f"--signature {wanted!r}: {name} has {', '.join(keys) or 'none'}")
    if len(keys) > 1:
        sentence = f"{name} has the signatures {', '.join(keys)}; convert the model that it was made of"
        raise SourceError(sentence, code=Code.SIGNATURE_UNCLEAR)
    for tensor in content.subgraphs[0].tensors:
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None and len(quantization.scale):
            raise SourceError(
                f"{name} is quantized already (tensor {_text(tensor.name)!r}); give the float model it was made of",
                code=Code.QUANTIZED_ALREADY,
            )


def _signature(main: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = _SIGNATURE
    signature.subgraphIndex = 0
    signature.inputs = [_entry(main, index) for index in main.inputs]
    signature.outputs = [_entry(main, index) for index in main.outputs]
    return signature


def _entry(main: Any, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = main.tensors[index].name
    entry.tensorIndex = int(index)
    return entry


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
