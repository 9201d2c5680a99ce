"""Reads a ``.tflite`` file by its schema, without a runtime and without running it; in a child process.

Weights stay in the mapped file: only their sizes are read. Schema: ``tensorflow/compiler/mlir/lite/schema/schema.fbs``,
as ai-edge-litert generates Python from it.
"""

import mmap
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeferry.converter.errors import SourceError
from edgeferry.converter.inspection.tflite_cost import macs_of, peak_activation, uses_of
from edgeferry.converter.inspection.tflite_facts import (
    MetadataFacts,
    OperatorFacts,
    OperatorKind,
    Quantization,
    SubgraphFacts,
    TensorFacts,
    TfliteFacts,
    TfliteSignature,
)
from edgeferry.converter.inspection.tflite_fusion import fusion_of

__all__ = ["read_tflite"]

_OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_TYPES = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
_ACTIVATIONS = {number: name.lower() for name, number in vars(schema.ActivationFunctionType).items() if name != "NONE"}
# Bits of an element; strings and the like have no fixed size.
_BITS = {
    "float64": 64,
    "int64": 64,
    "uint64": 64,
    "complex64": 64,
    "complex128": 128,
    "float32": 32,
    "int32": 32,
    "uint32": 32,
    "float16": 16,
    "bfloat16": 16,
    "int16": 16,
    "uint16": 16,
    "int8": 8,
    "uint8": 8,
    "bool": 8,
    "int4": 4,
    "uint4": 4,
    "int2": 2,
}
_FLEX = "Flex"
_SUBGRAPH_OPTIONS = ("condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex")
_MORE_SUBGRAPH_OPTIONS = ("initSubgraphIndex", "decompositionSubgraphIndex", "bodySubgraphIndex", "subgraph")
_LONGEST_TEXT = 256
_READABLE = re.compile(rb"[ -~]{5,}")  # versions and names; other metadata has a schema of its own
_DAMAGE = (IndexError, KeyError, MemoryError, OverflowError, TypeError, UnicodeDecodeError, ValueError, struct.error)


def read_tflite(path: Path) -> TfliteFacts:
    """Return what the file at ``path`` tells.

    Raises:
        SourceError: It is damaged.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # arrays point into it: closed with the last one
    try:
        return _read(content)
    except _DAMAGE as err:  # what flatbuffers raises of offsets that lead nowhere
        raise SourceError(
            f"{path}: is a damaged TensorFlow Lite model, probably cut off ({' '.join(str(err).split())[:120]}); "
            "copy or convert it anew"
        ) from err


def _read(content: mmap.mmap) -> TfliteFacts:
    model = schema.Model.GetRootAs(content, 0)
    buffers = [_buffer_bytes(model.Buffers(at)) for at in range(model.BuffersLength())]
    codes = [_code(model.OperatorCodes(at)) for at in range(model.OperatorCodesLength())]
    subgraphs = tuple(_subgraph(model.Subgraphs(at), codes, buffers) for at in range(model.SubgraphsLength()))
    if not subgraphs:
        raise ValueError("it has no subgraph")
    uses = uses_of(subgraphs)
    return TfliteFacts(
        schema_version=model.Version(),
        description=_text(model.Description()),
        subgraphs=subgraphs,
        signatures=tuple(_signature(model.SignatureDefs(at)) for at in range(model.SignatureDefsLength())),
        metadata=tuple(_metadata(model, at, buffers) for at in range(model.MetadataLength())),
        uses=uses,
        custom_operators=_names(uses, OperatorKind.CUSTOM),
        flex_operators=_names(uses, OperatorKind.FLEX),
        weight_bytes=_weight_bytes(model, buffers),
        macs=sum(use.macs for use in uses),
        peak_activation_bytes=subgraphs[0].peak_activation_bytes,
        fusion=fusion_of(subgraphs[0]),
    )


def _names(uses: Iterable[Any], kind: OperatorKind) -> tuple[str, ...]:
    return tuple(dict.fromkeys(use.name for use in uses if use.kind is kind))


def _buffer_bytes(buffer: Any) -> int:
    # Models above 2 GB keep their weights behind the flatbuffer, told by offset and size.
    return int(buffer.Size()) if buffer.Offset() > 1 else int(buffer.DataLength())


def _weight_bytes(model: Any, buffers: list[int]) -> int:
    used = {
        model.Subgraphs(at).Tensors(i).Buffer()
        for at in range(model.SubgraphsLength())
        for i in range(model.Subgraphs(at).TensorsLength())
    }
    return sum(buffers[index] for index in used)


def _code(code: Any) -> tuple[str, OperatorKind, int]:
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # of old files only the second one is set
    if number != schema.BuiltinOperator.CUSTOM:
        return _OPERATORS.get(number, f"OPERATOR_{number}"), OperatorKind.BUILTIN, code.Version()
    name = _text(code.CustomCode())
    return name, OperatorKind.FLEX if name.startswith(_FLEX) else OperatorKind.CUSTOM, code.Version()


def _subgraph(graph: Any, codes: list[tuple[str, OperatorKind, int]], buffers: list[int]) -> SubgraphFacts:
    tensors = tuple(_tensor(graph.Tensors(at), at, buffers) for at in range(graph.TensorsLength()))
    operators = tuple(_operator(graph.Operators(at), at, codes, tensors) for at in range(graph.OperatorsLength()))
    inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    peak_bytes, peak_operator = peak_activation(inputs, outputs, tensors, operators)
    return SubgraphFacts(_text(graph.Name()), inputs, outputs, tensors, operators, peak_bytes, peak_operator)


def _tensor(tensor: Any, index: int, buffers: list[int]) -> TensorFacts:
    kind = _TYPES.get(tensor.Type(), f"type_{tensor.Type()}")
    stored = _indices(tensor.ShapeAsNumpy())
    signature = _indices(tensor.ShapeSignatureAsNumpy())
    constant_bytes = buffers[tensor.Buffer()]
    elements = 1
    for size in stored:
        elements *= max(0, size)
    return TensorFacts(
        index=index,
        name=_text(tensor.Name()),
        type=kind,
        shape=signature or stored,
        size_bytes=constant_bytes or (elements * _BITS.get(kind, 0) + 7) // 8,
        quantization=_quantization(tensor.Quantization()),
        is_constant=constant_bytes > 0,
        is_variable=bool(tensor.IsVariable()),
        is_sparse=tensor.Sparsity() is not None,
    )


def _quantization(found: Any) -> Quantization | None:
    if found is None or found.ScaleLength() == 0:
        return None
    scales = tuple(float(scale) for scale in found.ScaleAsNumpy())
    zero_points = _indices(found.ZeroPointAsNumpy()) or (0,) * len(scales)
    return Quantization(scales, zero_points, found.QuantizedDimension())


def _operator(
    operator: Any, index: int, codes: list[tuple[str, OperatorKind, int]], tensors: tuple[TensorFacts, ...]
) -> OperatorFacts:
    name, kind, version = codes[operator.OpcodeIndex()]
    inputs, outputs = _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())
    options = _options(operator)
    activation = _ACTIVATIONS.get(options.pop("fusedActivationFunction", 0), "")
    sources = [part for at in outputs[:1] for part in tensors[at].name.split(";") if part]
    return OperatorFacts(
        index=index,
        name=name,
        kind=kind,
        version=version,
        inputs=inputs,
        outputs=outputs,
        weight_bytes=sum(tensors[at].size_bytes for at in inputs if at >= 0 and tensors[at].is_constant),
        macs=macs_of(name, inputs, outputs, tensors, options),
        activation=activation,
        fused=tuple(sources) if len(sources) > 1 else (),
        options=options,
        subgraphs=_called(options),
    )


def _options(operator: Any) -> dict[str, Any]:
    """Return the operator's options by the schema's names; arrays as lists."""
    whole = schema.OperatorT.InitFromObj(operator)
    options: dict[str, Any] = {}
    for found in (whole.builtinOptions, whole.builtinOptions2):
        options |= (
            {key: _plain(value) for key, value in vars(found or object).items() if not key.startswith("_")}
            if found
            else {}
        )
    return options


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return [_plain(one) for one in value] if isinstance(value, list) else str(type(value).__name__)


def _called(options: Mapping[str, Any]) -> tuple[int, ...]:
    keys = dict.fromkeys((*_SUBGRAPH_OPTIONS, *_MORE_SUBGRAPH_OPTIONS))
    return tuple(options[key] for key in keys if isinstance(options.get(key), int))


def _signature(signature: Any) -> TfliteSignature:
    inputs = [signature.Inputs(at) for at in range(signature.InputsLength())]
    outputs = [signature.Outputs(at) for at in range(signature.OutputsLength())]
    return TfliteSignature(
        key=_text(signature.SignatureKey()),
        subgraph=signature.SubgraphIndex(),
        inputs={_text(entry.Name()): entry.TensorIndex() for entry in inputs},
        outputs={_text(entry.Name()): entry.TensorIndex() for entry in outputs},
    )


def _metadata(model: Any, at: int, buffers: list[int]) -> MetadataFacts:
    entry = model.Metadata(at)
    index = entry.Buffer()
    is_short = 0 < buffers[index] <= _LONGEST_TEXT
    data = bytes(model.Buffers(index).DataAsNumpy()) if is_short else b""
    words = [word.decode() for word in _READABLE.findall(data)]
    return MetadataFacts(_text(entry.Name()), buffers[index], " ".join(words))


def _indices(found: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in found) if isinstance(found, np.ndarray) else ()


def _text(found: bytes | None) -> str:
    return found.decode(errors="replace") if found else ""
