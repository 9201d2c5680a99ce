"""The main subgraph of a float ``.tflite``, as repairs look at it and change it.

Only what is safe to change can be changed: a constant that one operation alone reads.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

__all__ = ["FloatArray", "FloatGraph", "Operation"]

FloatArray = NDArray[np.float32]

_ABSENT = -1  # the index of an optional input that is not there
_KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items() if isinstance(value, int)}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the subgraph.

    Attributes:
        kind: Name of the built-in operator, ``CONV_2D``.
        inputs: Indices of tensors; -1 where an optional one is absent.
        outputs: Indices of tensors.
        activation: Name of the activation that is fused into it: ``NONE``, ``RELU``, ...
        multiplier: Of a depthwise convolution: outputs for each input channel.
    """

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str
    multiplier: int = 1


class FloatGraph:
    """The main subgraph of one model.

    Attributes:
        operations: In the order in which they run.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._main = model.subgraphs[0]
        self.operations = tuple(self._operation(index, found) for index, found in enumerate(self._main.operators))
        self._readers = Counter(tensor for operation in self.operations for tensor in operation.inputs)
        self._buffers = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return the graph of the model in ``content``."""
        return cls(flatbuffer_utils.read_model_from_bytearray(bytearray(content)))

    def to_bytes(self) -> bytes:
        """Return the model with its changes."""
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def name(self, tensor: int) -> str:
        """Return the tensor's name."""
        name = self._main.tensors[tensor].name
        return name.decode(errors="replace") if isinstance(name, bytes) else str(name)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the tensor's shape."""
        return tuple(int(size) for size in self._main.tensors[tensor].shape)

    def computed(self) -> list[int]:
        """Return the float tensors that a run fills: the model's inputs and what operations give."""
        given = [int(tensor) for tensor in self._main.inputs]
        made = [tensor for operation in self.operations for tensor in operation.outputs]
        return [index for index in (*given, *made) if self._main.tensors[index].type == schema.TensorType.FLOAT32]

    def consumers(self, tensor: int) -> tuple[Operation, ...]:
        """Return the operations that read ``tensor``, each as often as it does."""
        return tuple(operation for operation in self.operations for read in operation.inputs if read == tensor)

    def is_output(self, tensor: int) -> bool:
        """Return whether the model gives ``tensor`` to its caller."""
        return tensor in [int(index) for index in self._main.outputs]

    def constant(self, tensor: int) -> NDArray[Any] | None:
        """Return a copy of the values of a constant, or None where ``tensor`` is absent or computed."""
        if tensor == _ABSENT:
            return None
        found = self._main.tensors[tensor]
        data = self._model.buffers[found.buffer].data
        if data is None or not len(data):
            return None
        dtype = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}.get(found.type)
        return None if dtype is None else np.frombuffer(bytes(data), dtype).reshape(self.shape(tensor)).copy()

    def changeable(self, tensor: int) -> FloatArray | None:
        """Return a copy of the values of a float constant that one operation alone reads; None for anything else."""
        values = self.constant(tensor)
        if values is None or values.dtype != np.float32:
            return None
        is_shared = self._readers[tensor] != 1 or self._buffers[self._main.tensors[tensor].buffer] != 1
        return None if is_shared else values

    def change(self, tensor: int, values: FloatArray) -> None:
        """Replace the values of a constant that is `changeable`."""
        data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
        self._model.buffers[self._main.tensors[tensor].buffer].data = data

    def scope(self, operation: Operation) -> str:
        """Return what litert-quantizer calls ``operation`` in a recipe: the names of its outputs, each with ``;``."""
        return "".join(f"{self.name(tensor)};" for tensor in operation.outputs)

    def layer(self, operation: Operation) -> str:
        """Return a name that its author may know it by: the shortest part of what TensorFlow made of the layer's."""
        parts = [part for part in self.name(operation.outputs[0]).split(";") if part]
        return min(parts, key=len, default=f"operation {operation.index}")

    def _operation(self, index: int, found: Any) -> Operation:
        code = self._model.operatorCodes[found.opcodeIndex]
        kind = _KINDS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")
        options = found.builtinOptions
        return Operation(
            index,
            kind,
            tuple(int(tensor) for tensor in found.inputs),
            tuple(int(tensor) for tensor in found.outputs),
            _ACTIVATIONS.get(getattr(options, "fusedActivationFunction", 0), "UNKNOWN"),
            getattr(options, "depthMultiplier", 1) or 1,
        )
