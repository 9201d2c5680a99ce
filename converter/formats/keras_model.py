"""Keras models: ``.keras``, and the ``.h5`` of Keras 2 and 3."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.errors import Code, RequestError, SourceError
from edgeferry.converter.formats.engine import saved_model_to_tflite
from edgeferry.converter.formats.layer_names import layers_keep_their_names
from edgeferry.converter.formats.source import Shapes
from edgeferry.inference.quantization import datatype_of
from edgeferry.wire.desired import TensorSpec

__all__ = ["KerasSource", "load"]

_SIGNATURE = "serving_default"
_MISSING_CLASS = re.compile(r"(?:Could not locate (?:class|function)|Unknown (?:layer|object)) ?:?'?\"?(\w+)")
_SENTENCE_CHARACTERS = 400


def load(path: Path, signature: str | None = None) -> "KerasSource":
    """Return the model at ``path``; code inside the file (lambda layers) is not run.

    Raises:
        RequestError: Another signature was asked for than a Keras model gets.
        SourceError: It cannot be loaded, or has no inputs of its own.
    """
    if signature not in (None, _SIGNATURE):
        raise RequestError(f"--signature {signature!r}: a Keras model has none; leave it out")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as err:  # Keras raises whatever a layer's own constructor raises
        sentence, code = _explain(err)
        raise SourceError(f"{path.name} cannot be loaded: {sentence}", code=code) from err
    try:
        flat = keras.Model(list(model.inputs), list(model.outputs))
    except (AttributeError, TypeError, ValueError) as err:
        raise SourceError(
            f"{path.name} is a subclassed model without fixed inputs; "
            'export it as a SavedModel, model.export("folder"), and convert the folder',
            code=Code.SUBCLASSED_MODEL,
        ) from err
    return KerasSource(path.name, flat)


class KerasSource:
    """A Keras model with a flat list of inputs and of outputs.

    Attributes:
        model: Keras's own.
        output_names: In the order of its outputs; each once.
    """

    def __init__(self, name: str, model: Any, output_names: Sequence[str] | None = None) -> None:
        self._name = name
        self.model = model
        self.output_names = list(output_names or _unique(model.output_names))
        self.inputs = tuple(_spec(name, tensor) for tensor in model.inputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs for a batch of one."""
        outputs = self._call([tf.constant(inputs[spec.name]) for spec in self.inputs])
        return {name: np.asarray(output) for name, output in outputs.items()}

    def to_tflite(self, shapes: Shapes, folder: Path, *, allows_select_tf: bool = False) -> bytes:
        """Return the float ``.tflite``, by way of a SavedModel in ``folder``."""
        saved = self.save(shapes, folder)
        return saved_model_to_tflite(saved, _SIGNATURE, what=self._name, allows_select_tf=allows_select_tf)

    def save(self, shapes: Shapes, folder: Path) -> Path:
        """Return a SavedModel with every input fixed to its shape in ``shapes``, made in ``folder``."""
        signature = [
            tf.TensorSpec(shapes[spec.name], tensor.dtype, name=spec.name)
            for spec, tensor in zip(self.inputs, self.model.inputs, strict=True)
        ]
        archive = keras.export.ExportArchive()
        archive.track(self.model)
        with layers_keep_their_names(self.model):
            archive.add_endpoint(_SIGNATURE, lambda *inputs: self._call(inputs), input_signature=signature)
            archive.write_out(str(folder / "saved_model"), verbose=False)
        return folder / "saved_model"

    def _call(self, inputs: Sequence[Any]) -> dict[str, Any]:
        outputs = self.model(list(inputs), training=False)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(self.output_names, outputs, strict=True))


def _spec(model_name: str, tensor: Any) -> TensorSpec:
    datatype = None if tensor.dtype == "string" else datatype_of(np.dtype(tensor.dtype))
    if datatype is None:
        raise SourceError(
            f"{model_name}: input {tensor.name!r} holds {tensor.dtype}; only numbers can be converted",
            code=Code.NOT_NUMBERS,
        )
    return TensorSpec(tensor.name, datatype, tuple(-1 if size is None else size for size in tensor.shape))


def _unique(names: Sequence[str]) -> list[str]:
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name}_{index}" for index, name in enumerate(names)]


def _explain(err: Exception) -> tuple[str, Code]:
    missing = _MISSING_CLASS.search(str(err))
    if missing:
        sentence = (
            f"it uses the custom class {missing[1]!r}, whose code is not in the file; export it as a SavedModel "
            'where that code is, model.export("folder"), and convert the folder'
        )
        return sentence, Code.CUSTOM_CLASS
    if "Lambda" in str(err):
        sentence = (
            "it has a Lambda layer, whose Python code could do anything and is therefore not run; "
            'export it as a SavedModel where you trust it, model.export("folder"), and convert the folder'
        )
        return sentence, Code.LAMBDA_LAYER
    return " ".join(str(err).split())[:_SENTENCE_CHARACTERS] or type(err).__name__, Code.SOURCE_UNREADABLE
