"""The signatures that TensorFlow Serving's clients see of a model, and how their tensors become the model's own.

``serving_default`` takes and gives real numbers: a quantized tensor is FP32 there. Where a model has quantized tensors,
``raw`` takes and gives their integers as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.inference.quantization import dequantize, is_quantized, quantize
from edgeferry.wire.desired import TensorSpec

__all__ = ["DEFAULT", "RAW", "Signature", "choose_signature", "signatures_of"]

DEFAULT = "serving_default"
RAW = "raw"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a client sends and gets.

    Attributes:
        inputs: As the client sees them.
        outputs: The same for what it gets.
        model_inputs: As the model has them, in the same order.
        model_outputs: The same for what it gives.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    model_inputs: tuple[TensorSpec, ...]
    model_outputs: tuple[TensorSpec, ...]

    def to_model(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return ``tensors`` in the model's own datatypes: what is not so yet is quantized.

        Raises:
            RequestError: A value cannot be quantized.
        """
        specs = {spec.name: spec for spec in self.model_inputs}
        return {name: _quantized(array, specs[name]) for name, array in tensors.items()}

    def to_client(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the model's ``tensors`` as the client wants them."""
        if self.name == RAW:
            return dict(tensors)
        specs = {spec.name: spec for spec in self.model_outputs}
        return {name: dequantize(a, specs[name]) if is_quantized(specs[name]) else a for name, a in tensors.items()}


def signatures_of(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, Signature]:
    """Return the signatures of a model with these tensors, by name."""
    own_inputs, own_outputs = tuple(inputs), tuple(outputs)
    real_inputs, real_outputs = tuple(map(_real, own_inputs)), tuple(map(_real, own_outputs))
    found = {DEFAULT: Signature(DEFAULT, real_inputs, real_outputs, own_inputs, own_outputs)}
    if any(map(is_quantized, (*own_inputs, *own_outputs))):
        found[RAW] = Signature(RAW, own_inputs, own_outputs, own_inputs, own_outputs)
    return found


def choose_signature(name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    """Return the signature of that name; an empty one is the default.

    Raises:
        RequestError: The model has no such signature.
    """
    chosen = signatures_of(inputs, outputs).get(name or DEFAULT)
    if chosen is None:
        raise RequestError.bad(f'Serving signature name: "{name[:256]}" not found in signature def')
    return chosen


def _real(spec: TensorSpec) -> TensorSpec:
    return msgspec.structs.replace(spec, datatype="FP32", scale=0.0, zero_point=0) if is_quantized(spec) else spec


def _quantized(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    if not is_quantized(spec) or array.dtype.kind != "f":
        return array
    try:
        return quantize(array, spec)
    except ValueError as err:
        raise RequestError.bad(str(err)) from err
