"""Models of one operator on one type of data: what `kernel_types` and `kernel_versions` were measured with.

Integers of 8 and 16 bits are quantized; weights of int16 models are int8 and their biases int64, as converters do it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64")
QUANTIZED = ("int8", "uint8", "int16")
IMAGE = (1, 4, 4, 2)
ROWS = (2, 4)


@dataclass
class Port:
    """A tensor of a probe: an input or output, or a constant where it has a value."""

    type: str
    shape: tuple[int, ...]
    value: Any = None
    scales: Sequence[float] = (0.5,)
    zero_point: int = 0
    axis: int = 0
    is_quantized: bool | None = None


@dataclass
class Probe:
    """One operator, its options by the schema's names."""

    operator: str
    inputs: list[Port]
    outputs: list[Port]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    version: int = 1

    def model(self) -> bytes:
        """Return the ``.tflite`` that runs it."""
        model, graph, code, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
        model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
        code.builtinCode = getattr(schema.BuiltinOperator, self.operator)
        code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), self.version
        graph.tensors, graph.operators = [], [operator]
        operator.opcodeIndex = 0
        operator.inputs = [_add(model, graph, port) for port in self.inputs]
        operator.outputs = [_add(model, graph, port) for port in self.outputs]
        graph.inputs = [at for at, port in zip(operator.inputs, self.inputs, strict=True) if port.value is None]
        graph.outputs = operator.outputs
        if self.options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, self.options)
            operator.builtinOptions = getattr(schema, f"{self.options}T")()
            vars(operator.builtinOptions).update(self.fields)
        return packed(model)


def packed(model: schema.ModelT) -> bytes:
    """Return a model as a file's bytes."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def version_probe(operator: str, version: int) -> bytes:
    """Return a model that names a version of an operator and does nothing."""
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), version
    return packed(model)


def type_probes() -> Iterator[tuple[str, str, Probe]]:
    """Yield operator, type and probe, for everything that `kernel_types` has."""
    for kind in TYPES:
        for probe in (*_elementwise(kind), *_weighted(kind), *_shaping(kind), *_reducing(kind), *_others(kind)):
            yield probe.operator, kind, probe


def _add(model: schema.ModelT, graph: schema.SubGraphT, port: Port) -> int:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = f"t{len(graph.tensors)}", list(port.shape), 0
    tensor.type = getattr(schema.TensorType, port.type.upper())
    if port.value is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.broadcast_to(port.value, port.shape).astype(port.type).tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    if port.type in QUANTIZED if port.is_quantized is None else port.is_quantized:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = list(port.scales)
        tensor.quantization.zeroPoint = [port.zero_point] * len(port.scales)
        tensor.quantization.quantizedDimension = port.axis
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _ints(*values: Any) -> Port:
    array = np.array(values)
    return Port("int32", array.shape, array)


def _number(value: int) -> Port:
    return Port("int32", (), value)


# Outputs of these have a scale of their own, by the quantization specification: type to scale and zero point.
_FIXED = {
    "LOGISTIC": {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)},
    "SOFTMAX": {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)},
    "TANH": {"int8": (1 / 128, 0), "uint8": (1 / 128, 128), "int16": (1 / 32768, 0)},
    "LOG_SOFTMAX": {"int8": (16 / 256, 127), "uint8": (16 / 256, 255), "int16": (16 / 65536, 32767)},
    "L2_NORMALIZATION": {"int8": (1 / 128, 0), "uint8": (1 / 128, 128)},
}
_POOL = {"filterHeight": 1, "filterWidth": 1, "strideH": 1, "strideW": 1}
_UNARY: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(
        ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "SQRT", "RSQRT", "LOG", "SIN", "ELU"),
        ("", {}),
    ),
    **dict.fromkeys(("FLOOR", "CEIL", "ROUND"), ("", {})),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), ("Pool2DOptions", _POOL)),
    "ABS": ("AbsOptions", {}),
    "EXP": ("ExpOptions", {}),
    "COS": ("CosOptions", {}),
    "NEG": ("NegOptions", {}),
    "SIGN": ("SignOptions", {}),
    "SQUARE": ("SquareOptions", {}),
    "ZEROS_LIKE": ("ZerosLikeOptions", {}),
    "HARD_SWISH": ("HardSwishOptions", {}),
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.1}),
    "GELU": ("GeluOptions", {}),
    "SOFTMAX": ("SoftmaxOptions", {"beta": 1.0}),
    "LOG_SOFTMAX": ("LogSoftmaxOptions", {}),
    "L2_NORMALIZATION": ("L2NormOptions", {}),
    "LOCAL_RESPONSE_NORMALIZATION": ("LocalResponseNormalizationOptions", {"radius": 1}),
}
_BINARY = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "POW": "PowOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "PRELU": "",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "FLOOR_DIV": "FloorDivOptions",
    "FLOOR_MOD": "FloorModOptions",
}
_COMPARING = {
    "EQUAL": "EqualOptions",
    "NOT_EQUAL": "NotEqualOptions",
    "GREATER": "GreaterOptions",
    "LESS": "LessOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS_EQUAL": "LessEqualOptions",
}


def _elementwise(kind: str) -> Iterator[Probe]:
    image = (1, 4, 4, 4)
    for name, (options, fields) in _UNARY.items():
        scale, zero_point = _FIXED.get(name, {}).get(kind, (0.5, 0))
        output = Port(kind, image, scales=(scale,), zero_point=zero_point)
        yield Probe(name, [Port(kind, image)], [output], options, fields)
    for name, options in _BINARY.items():
        yield Probe(name, [Port(kind, (1, 4)), Port(kind, (1, 4), 1)], [Port(kind, (1, 4))], options)
    for name, options in _COMPARING.items():
        yield Probe(name, [Port(kind, (1, 4)), Port(kind, (1, 4), 1)], [Port("bool", (1, 4))], options)


def _weighted(kind: str) -> Iterator[Probe]:
    weights = "int8" if kind == "int16" else kind
    biases = {"float32": "float32", "float16": "float16", "int16": "int64"}.get(kind, "int32")

    def per_channel(step: float, channels: int) -> tuple[float, ...]:
        return (step,) * (channels if kind in ("int8", "int16") else 1)

    def bias(channels: int, scales: Sequence[float]) -> Port:
        return Port(biases, (channels,), 0, scales, is_quantized=kind in QUANTIZED)

    dense = [Port(kind, (1, 4)), Port(weights, (2, 4), 1), bias(2, (0.25,))]
    yield Probe("FULLY_CONNECTED", dense, [Port(kind, (1, 2))], "FullyConnectedOptions", version=4)
    stride = {"strideH": 1, "strideW": 1}
    dilated = {**stride, "dilationHFactor": 1, "dilationWFactor": 1}
    kernel = Port(weights, (3, 1, 1, 2), 1, per_channel(0.5, 3))
    output = Port(kind, (1, 4, 4, 3))
    image = Port(kind, IMAGE)
    convolved = [image, kernel, bias(3, per_channel(0.25, 3))]
    yield Probe("CONV_2D", convolved, [output], "Conv2DOptions", dilated, version=3)
    transposed = [_ints(1, 4, 4, 3), kernel, image, bias(3, per_channel(0.25, 3))]
    yield Probe("TRANSPOSE_CONV", transposed, [output], "TransposeConvOptions", stride, version=3)
    depthwise = Port(weights, (1, 1, 1, 2), 1, per_channel(0.5, 2), axis=3)
    single = [image, depthwise, bias(2, per_channel(0.25, 2))]
    yield Probe(
        "DEPTHWISE_CONV_2D", single, [image], "DepthwiseConv2DOptions", {**dilated, "depthMultiplier": 1}, version=3
    )
    matrices = [Port(kind, (1, 2, 4)), Port(kind, (1, 4, 3))]
    yield Probe("BATCH_MATMUL", matrices, [Port(kind, (1, 2, 3))], "BatchMatMulOptions", version=2)


def _shaping(kind: str) -> Iterator[Probe]:
    image, rows = Port(kind, IMAGE), Port(kind, ROWS)
    around = _ints([0, 0], [1, 1], [1, 1], [0, 0])
    padded, corner = Port(kind, (1, 6, 6, 2)), Port(kind, (1, 2, 2, 2))
    half, vector, larger = Port(kind, (2, 2)), Port(kind, (4,)), Port(kind, (1, 8, 8, 2))
    yield Probe("RESHAPE", [image, _ints(1, 32)], [Port(kind, (1, 32))], "ReshapeOptions")
    yield Probe("TRANSPOSE", [image, _ints(0, 2, 1, 3)], [image], "TransposeOptions")
    yield Probe("PAD", [image, around], [padded], "PadOptions")
    yield Probe("PADV2", [image, around, Port(kind, (1,), 0)], [padded], "PadV2Options")
    yield Probe("MIRROR_PAD", [image, around], [padded], "MirrorPadOptions")
    yield Probe("CONCATENATION", [image, image], [Port(kind, (1, 4, 4, 4))], "ConcatenationOptions", {"axis": 3})
    yield Probe("SLICE", [image, _ints(0, 0, 0, 0), _ints(1, 2, 2, 2)], [corner], "SliceOptions")
    bounds = [_ints(0, 0, 0, 0), _ints(1, 2, 2, 2), _ints(1, 1, 1, 1)]
    yield Probe("STRIDED_SLICE", [image, *bounds], [corner], "StridedSliceOptions")
    yield Probe("GATHER", [image, _ints(0, 1)], [Port(kind, (1, 2, 4, 2))], "GatherOptions", {"axis": 1})
    yield Probe("GATHER_ND", [image, _ints([0, 1])], [Port(kind, (1, 4, 2))], "GatherNdOptions")
    yield Probe("EXPAND_DIMS", [image, _number(0)], [Port(kind, (1, 1, 4, 4, 2))], "ExpandDimsOptions")
    yield Probe("SQUEEZE", [image], [Port(kind, (4, 4, 2))], "SqueezeOptions")
    yield Probe("PACK", [vector, vector], [rows], "PackOptions", {"valuesCount": 2})
    yield Probe("UNPACK", [rows], [vector, vector], "UnpackOptions", {"num": 2})
    yield Probe("TILE", [rows, _ints(1, 2)], [Port(kind, (2, 8))], "TileOptions")
    yield Probe("REVERSE_V2", [rows, _ints(1)], [rows], "ReverseV2Options")
    yield Probe("BROADCAST_TO", [Port(kind, (1, 4)), _ints(2, 4)], [rows], "BroadcastToOptions", version=2)
    yield Probe("SPLIT", [_number(1), rows], [half, half], "SplitOptions", {"numSplits": 2})
    parts = [Port(kind, (2, 1)), Port(kind, (2, 3))]
    yield Probe("SPLIT_V", [rows, _ints(1, 3), _number(1)], parts, "SplitVOptions", {"numSplits": 2})
    yield Probe("SPACE_TO_DEPTH", [image], [Port(kind, (1, 2, 2, 8))], "SpaceToDepthOptions", {"blockSize": 2})
    deep = Port(kind, (1, 4, 4, 4))
    yield Probe("DEPTH_TO_SPACE", [deep], [Port(kind, (1, 8, 8, 1))], "DepthToSpaceOptions", {"blockSize": 2})
    batches = Port(kind, (4, 2, 2, 2))
    blocks = [_ints(2, 2), _ints([0, 0], [0, 0])]
    yield Probe("SPACE_TO_BATCH_ND", [image, *blocks], [batches], "SpaceToBatchNDOptions")
    yield Probe("BATCH_TO_SPACE_ND", [batches, *blocks], [image], "BatchToSpaceNDOptions")
    yield Probe("RESIZE_BILINEAR", [image, _ints(8, 8)], [larger], "ResizeBilinearOptions")
    yield Probe("RESIZE_NEAREST_NEIGHBOR", [image, _ints(8, 8)], [larger], "ResizeNearestNeighborOptions")


def _reducing(kind: str) -> Iterator[Probe]:
    image, rows = Port(kind, IMAGE), Port(kind, ROWS)
    for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        yield Probe(name, [image, _ints(1, 2)], [Port(kind, (1, 2))], "ReducerOptions")
    index = {"outputType": schema.TensorType.INT32}
    for name, options in {"ARG_MAX": "ArgMaxOptions", "ARG_MIN": "ArgMinOptions"}.items():
        yield Probe(name, [rows, _number(1)], [Port("int32", (2,))], options, index)
    yield Probe("TOPK_V2", [rows, _number(2)], [Port(kind, (2, 2)), Port("int32", (2, 2))], "TopKV2Options")
    yield Probe("CUMSUM", [rows, _number(1)], [rows], "CumsumOptions")


def _others(kind: str) -> Iterator[Probe]:
    rows, real = Port(kind, ROWS), Port("float32", ROWS)
    yield Probe("SELECT_V2", [Port("bool", ROWS), rows, rows], [rows], "SelectV2Options")
    yield Probe("EMBEDDING_LOOKUP", [Port("int32", (2,)), Port(kind, (4, 4), 1)], [rows])
    yield Probe("FILL", [_ints(2, 2), Port(kind, ())], [Port(kind, (2, 2))], "FillOptions")
    yield Probe("QUANTIZE", [real], [rows], "QuantizeOptions")
    yield Probe("DEQUANTIZE", [rows], [real], "DequantizeOptions", version=3)
    yield Probe("CAST", [Port(kind, ROWS, is_quantized=False)], [real], "CastOptions")
