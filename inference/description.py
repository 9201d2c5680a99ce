"""What a loaded model says of itself, as far as it is to be believed: only where it speaks of the tensors there are.

A tool that changed the model after us may have kept our metadata, which then describes another model. The runtime
computes with the tensors' own quantization, so metadata never overrules it; it completes tensors that tell none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeferry.inference.metadata import MetadataError, ModelMetadata, read_metadata
from edgeferry.inference.quantization import DTYPES, is_quantized
from edgeferry.wire.desired import TensorSpec

__all__ = ["Description", "describe", "same_tensors"]

Specs = tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A model's tensors, and what else it says of itself.

    Attributes:
        inputs: As the runtime tells them; quantization that it does not know is as the metadata says.
        outputs: The same for what it gives.
        metadata: None where there is none, or none that can be believed.
        doubt: Why there is metadata that is not believed; empty where there is no doubt.
    """

    inputs: Specs
    outputs: Specs
    metadata: ModelMetadata | None = None
    doubt: str = ""


def describe(path: Path, inputs: Specs, outputs: Specs) -> Description:
    """Return how the model in the file at ``path`` is to be understood.

    Args:
        path: Of the ``.tflite``.
        inputs: As the runtime tells them.
        outputs: The same for what it gives.
    """
    try:
        metadata = read_metadata(path)
    except MetadataError as err:
        return Description(inputs, outputs, doubt=str(err))
    if metadata is None:
        return Description(inputs, outputs)
    completed = _completed(inputs, metadata.inputs), _completed(outputs, metadata.outputs)
    if same_tensors(completed[0], metadata.inputs) and same_tensors(completed[1], metadata.outputs):
        return Description(*completed, metadata)
    doubt = f"{path.name}: its metadata, of {metadata.name} {metadata.version}, speaks of other tensors than it has"
    return Description(inputs, outputs, doubt=doubt)


def same_tensors(found: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> bool:
    """Return whether both are the same tensors, in any order."""
    by_name = {spec.name: spec for spec in wanted}
    return len(found) == len(wanted) and all(
        spec.name in by_name and _same_tensor(spec, by_name[spec.name]) for spec in found
    )


def _same_tensor(found: TensorSpec, wanted: TensorSpec) -> bool:
    exact = (found.datatype, found.shape, found.zero_point) == (wanted.datatype, wanted.shape, wanted.zero_point)
    return exact and math.isclose(found.scale, wanted.scale, rel_tol=1e-6)  # float32 here, decimal there


def _completed(specs: Specs, told: Specs) -> Specs:
    by_name = {spec.name: spec for spec in told}
    return tuple(_with_quantization(spec, by_name.get(spec.name, spec)) for spec in specs)


def _with_quantization(spec: TensorSpec, told: TensorSpec) -> TensorSpec:
    is_integer = DTYPES[spec.datatype].kind in "iu"
    if is_quantized(spec) or not is_integer or told.datatype != spec.datatype:
        return spec
    return msgspec.structs.replace(spec, scale=told.scale, zero_point=told.zero_point)
