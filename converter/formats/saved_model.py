"""SavedModels, by one of their signatures."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2

from edgeferry.converter.errors import Code, RequestError, SourceError
from edgeferry.converter.formats.engine import saved_model_to_tflite
from edgeferry.converter.formats.frozen import without_variables
from edgeferry.converter.formats.slots import without_slots
from edgeferry.converter.formats.source import Shapes
from edgeferry.converter.inspection.saved_model_graph import Graph
from edgeferry.converter.inspection.tflite_fusion import layer_of
from edgeferry.inference.quantization import datatype_of
from edgeferry.wire.desired import TensorSpec

__all__ = ["SavedModelSource", "load"]

_SIGNATURE = "serving_default"
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")


def load(path: Path, signature: str | None = None) -> "SavedModelSource":
    """Return one signature of the SavedModel in the folder ``path``; its serving signature, or the only one.

    Raises:
        RequestError: It has no such signature.
        SourceError: It cannot be loaded, or it is not clear which of its signatures is meant.
    """
    try:
        loaded = _loaded(path)
    except Exception as err:  # TensorFlow raises its own and Python's errors alike
        raise _refusal(path, str(err)) from err
    return SavedModelSource(path.name, loaded, _signature(path.name, list(loaded.signatures), signature))


class SavedModelSource:
    """One signature of a SavedModel."""

    def __init__(self, name: str, loaded: Any, signature: str) -> None:
        self._name = name
        self._loaded = loaded
        self._function = loaded.signatures[signature]
        self._specs = self._function.structured_input_signature[1]
        self.inputs = tuple(_spec(name, key, spec) for key, spec in self._specs.items())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs for a batch of one."""
        outputs = self._function(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: output.numpy() for name, output in outputs.items()}

    def to_tflite(self, shapes: Shapes, folder: Path, *, allows_select_tf: bool = False) -> bytes:
        """Return the float ``.tflite``, by way of another SavedModel with fixed shapes in ``folder``."""
        fixed = {name: tf.TensorSpec(shapes[name], spec.dtype, name=name) for name, spec in self._specs.items()}
        # Variables of TensorFlow 1 lose their values on the way, so that they become constants.
        compute = without_variables(self._function) if hasattr(self._loaded, "prune") else self._function
        function = tf.function(compute).get_concrete_function(**fixed)
        module = tf.Module()
        module.loaded = self._loaded  # keeps its variables; without them they would be saved uninitialised
        tf.saved_model.save(module, str(folder / "saved_model"), signatures={_SIGNATURE: function})
        return saved_model_to_tflite(
            folder / "saved_model", _SIGNATURE, what=self._name, allows_select_tf=allows_select_tf
        )


def _refusal(path: Path, message: str) -> SourceError:
    custom = _UNREGISTERED.search(message)
    if custom:
        named = f"{custom[1]!r}{_place(path, custom[1])}"
        sentence = (
            f"{path.name} uses the operation {named}, which is in a library of its own and not in TensorFlow; express "
            "it with TensorFlow's operations, or leave it out of what is exported"
        )
        return SourceError(sentence, code=Code.CUSTOM_OPERATION)
    return SourceError(f"{path.name} cannot be loaded: {' '.join(message.split())[:400]}; save or copy it anew")


def _place(path: Path, operation: str) -> str:
    """Return the layer of the first such operation, in brackets."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    names = [name for graph in saved.meta_graphs for name in Graph(graph.graph_def).names_of(operation)]
    return f" (in {layer_of(names[0])!r})" if names else ""


def _loaded(path: Path) -> Any:
    try:
        return tf.saved_model.load(str(path))
    except AttributeError as err:
        if "add_slot" not in str(err):
            raise
    with tempfile.TemporaryDirectory(prefix="edgeferry-slots-") as folder:
        return tf.saved_model.load(str(without_slots(path, Path(folder) / path.name)))


def _signature(model_name: str, names: list[str], wanted: str | None) -> str:
    found = ", ".join(sorted(names)) or "none"
    if wanted is not None and wanted not in names:
        raise RequestError(f"--signature {wanted!r}: {model_name} has {found}")
    if wanted is None and _SIGNATURE not in names and len(names) != 1:
        sentence = f"{model_name} has signatures {found}; name one with --signature"
        raise SourceError(sentence, code=Code.SIGNATURE_UNCLEAR)
    return wanted or (_SIGNATURE if _SIGNATURE in names else names[0])


def _spec(model_name: str, name: str, spec: Any) -> TensorSpec:
    datatype = None if spec.dtype == tf.string else datatype_of(np.dtype(spec.dtype.as_numpy_dtype))
    if datatype is None:
        raise SourceError(
            f"{model_name}: input {name!r} holds {spec.dtype.name}; only numbers can be converted",
            code=Code.NOT_NUMBERS,
        )
    if spec.shape.rank is None:
        raise SourceError(f"{model_name}: input {name!r} has no known number of dimensions; save it with one")
    return TensorSpec(name, datatype, tuple(-1 if size is None else size for size in spec.shape))
