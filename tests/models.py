"""Small real models and whole artifacts for tests, written without TensorFlow.

`linear_model` is a classifier of one fully connected layer, in float32 or int8. `convolutional_model` is a small net
whose channels can be rescaled without a change of what it computes. `countdown_model` counts its input down to zero in
a loop: a large number makes it slow, infinity makes it hang. `reciprocal_model` fails to run on zero.
`hungry_model` takes as much memory as it is told to. `recursive_model` crashes the interpreter while it is loaded.
`model_of_constants` has tensors to compare.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import flatbuffers
import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeferry.converter.embedding import embed
from edgeferry.inference.metadata import ModelMetadata
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import DTYPES, quantize
from edgeferry.inference.selftest import SelfTest, record_selftest
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import (
    ROLE_MODEL,
    ROLE_SELFTEST,
    ArtifactManifest,
    ManifestBlob,
    SelfTestSpec,
    block_sha256s,
)

INPUT = "x"
OUTPUT = "scores"

_PIXEL = (1 / 255, -128)  # scale and zero point of an input in [0, 1]
_DTYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}


def linear_model(
    path: Path,
    *,
    features: int = 64,
    classes: int = 10,
    quantized: bool = False,
    seed: int = 0,
    signature: bool = True,
    free_batch: bool = False,
    string_input: bool = False,
) -> Path:
    """Write a classifier ``x[1, features] -> scores[1, classes]`` to ``path``; x in [0, 1], int8 where quantized.

    Args:
        path: Where to write it.
        features: Size of the input.
        classes: Size of the output.
        quantized: int8 instead of float32.
        seed: Of the weights.
        signature: Whether the tensors get names besides their own.
        free_batch: Whether the first dimension is free.
        string_input: Give it a second input, of strings, that nothing uses.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, features**-0.5, (classes, features)).astype(np.float32)
    bias = rng.normal(0, 0.1, classes).astype(np.float32)
    graph = _Graph()
    if quantized:
        weight_scale = float(np.abs(weights).max()) / 127
        bias_scale = _PIXEL[0] * weight_scale
        score_scale = float((np.abs(weights).sum(1) + np.abs(bias)).max()) / 127
        x = graph.tensor("serving_default_x:0", (1, features), np.int8, quantization=_PIXEL)
        w = graph.constant("w", np.rint(weights / weight_scale).astype(np.int8), quantization=(weight_scale, 0))
        b = graph.constant("b", np.rint(bias / bias_scale).astype(np.int32), quantization=(bias_scale, 0))
        y = graph.tensor("StatefulPartitionedCall:0", (1, classes), np.int8, quantization=(score_scale, 0))
    else:
        x = graph.tensor("serving_default_x:0", (1, features), np.float32)
        w = graph.constant("w", weights)
        b = graph.constant("b", bias)
        y = graph.tensor("StatefulPartitionedCall:0", (1, classes), np.float32)
    operator = schema.BuiltinOperator.FULLY_CONNECTED
    graph.operation(
        operator, [x, w, b], [y], schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT(), 4
    )
    if signature:
        graph.signature({INPUT: x}, {OUTPUT: y})
    if free_batch:
        graph.free_first_dimension(x, y)
    inputs = [x, graph.text("words")] if string_input else [x]
    return graph.write(path, inputs, [y])


def convolutional_model(path: Path, *, rescaled: float = 1.0, classes: int = 6, seed: int = 0) -> Path:
    """Write a net ``x[1, 8, 8, 3] -> scores[1, classes]`` of every layer between which channels can be rescaled.

    Args:
        path: Where to write it.
        rescaled: By up to this factor channels are made larger behind a layer, and smaller before the next.
        classes: Size of the output.
        seed: Of weights and factors.
    """
    rng = np.random.default_rng(seed)

    def weights(*shape: int, inputs: int) -> np.ndarray:
        return rng.normal(0, (2 / inputs) ** 0.5, shape).astype(np.float32)

    def factors(channels: int) -> np.ndarray:
        return np.exp(rng.uniform(-1, 1, channels) * np.log(rescaled)).astype(np.float32)

    first, second, third = factors(8), factors(8), factors(12)
    layers = [
        (weights(8, 3, 3, 3, inputs=27) * first[:, None, None, None], rng.normal(0, 0.1, 8) * first),
        (weights(1, 3, 3, 8, inputs=9) / first * second, rng.normal(0, 0.1, 8) * second),
        (weights(12, 3, 3, 8, inputs=72) / second * third[:, None, None, None], rng.normal(0, 0.1, 12) * third),
        (weights(classes, 4 * 4 * 12, inputs=192) / np.tile(third, 16), rng.normal(0, 0.1, classes)),
    ]
    graph = _Graph()
    constants = [
        (graph.constant(f"w{at}", w.astype(np.float32)), graph.constant(f"b{at}", b.astype(np.float32)))
        for at, (w, b) in enumerate(layers)
    ]
    shapes = [(1, 8, 8, 3), (1, 8, 8, 8), (1, 8, 8, 8), (1, 4, 4, 8), (1, 4, 4, 12), (1, 192), (1, classes)]
    names = ["x", "first", "second", "pooled", "third", "flat", "scores"]
    x, one, two, pooled, three, flat, y = (
        graph.tensor(name, shape, np.float32) for name, shape in zip(names, shapes, strict=True)
    )
    _convolve(graph, x, constants[0], one)
    _convolve(graph, one, constants[1], two, is_depthwise=True)
    _pool(graph, two, pooled)
    _convolve(graph, pooled, constants[2], three)
    shape = graph.constant("shape", np.array(shapes[5], np.int32))
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = list(shapes[5])
    graph.operation(
        schema.BuiltinOperator.RESHAPE, [three, shape], [flat], schema.BuiltinOptions.ReshapeOptions, reshape
    )
    operator, options = schema.BuiltinOperator.FULLY_CONNECTED, schema.FullyConnectedOptionsT()
    graph.operation(operator, [flat, *constants[3]], [y], schema.BuiltinOptions.FullyConnectedOptions, options)
    graph.signature({"x": x}, {"scores": y})
    return graph.write(path, [x], [y])


def _convolve(graph: "_Graph", x: int, constants: tuple[int, int], y: int, *, is_depthwise: bool = False) -> None:
    options = schema.DepthwiseConv2DOptionsT() if is_depthwise else schema.Conv2DOptionsT()
    options.strideW = options.strideH = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    kinds, codes = schema.BuiltinOptions, schema.BuiltinOperator
    if is_depthwise:
        options.depthMultiplier = 1
        graph.operation(codes.DEPTHWISE_CONV_2D, [x, *constants], [y], kinds.DepthwiseConv2DOptions, options)
    else:
        graph.operation(codes.CONV_2D, [x, *constants], [y], kinds.Conv2DOptions, options)


def _pool(graph: "_Graph", x: int, y: int) -> None:
    options = schema.Pool2DOptionsT()
    options.strideW = options.strideH = options.filterWidth = options.filterHeight = 2
    graph.operation(schema.BuiltinOperator.MAX_POOL_2D, [x], [y], schema.BuiltinOptions.Pool2DOptions, options)


def model_of_constants(
    path: Path,
    constants: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]],
    *,
    outside: bool = False,
    shared: bool = False,
) -> bytes:
    """Write a model that has these constants and does nothing with them; return its bytes.

    Args:
        path: Where to write it.
        constants: Names and values, in the order of the file.
        outside: Put the values behind the flatbuffer, as LiteRT's quantizer does.
        shared: Let all of them have the values of the first; only with ``outside``.
    """
    named = list(constants.items() if isinstance(constants, Mapping) else constants)
    graph = _Graph()
    x, y = (graph.tensor(name, (1,), np.float32) for name in ("x", "y"))
    for name, value in named:
        graph.constant(name, np.zeros(0, value.dtype) if outside else value)
    values = [value.tobytes() for _, value in named]
    if outside:
        ends = list(itertools.accumulate(map(len, values)))
        flat_bytes = len(graph.place_outside(path, [(1, 1)] * len(values)))
        begins = [flat_bytes + (0 if shared else end - len(data)) for end, data in zip(ends, values, strict=True)]
        flat = graph.place_outside(path, [(at, len(data)) for at, data in zip(begins, values, strict=True)])
        path.write_bytes(flat + b"".join(values[:1] if shared else values))
    else:
        graph.write(path, [x], [y])
    return path.read_bytes()


def countdown_model(path: Path) -> Path:
    """Write a model ``x[1] -> scores[1]`` that subtracts 1 from x until it is not positive."""
    graph = _Graph()
    (x,), (y,) = _loop(graph, condition=1, body=2)
    graph.signature({INPUT: x}, {OUTPUT: y})

    condition = graph.subgraph()
    left = condition.tensor("left", (1,), np.float32)
    zero = condition.constant("zero", np.zeros(1, np.float32))
    goes_on = condition.tensor("goes_on", (1,), np.bool_)
    greater = schema.BuiltinOptions.GreaterOptions
    condition.operation(schema.BuiltinOperator.GREATER, [left, zero], [goes_on], greater, schema.GreaterOptionsT())
    condition.finish([left], [goes_on])

    body = graph.subgraph()
    before = body.tensor("before", (1,), np.float32)
    one = body.constant("one", np.ones(1, np.float32))
    after = body.tensor("after", (1,), np.float32)
    sub = schema.BuiltinOptions.SubOptions
    body.operation(schema.BuiltinOperator.SUB, [before, one], [after], sub, schema.SubOptionsT())
    body.finish([before], [after])
    return graph.write(path, [x], [y])


def hungry_model(path: Path, *, size_bytes: int, free: bool = False) -> Path:
    """Write a model ``x[1] -> scores[n]`` whose output takes ``size_bytes`` as soon as it is loaded.

    With ``free`` any length of x is taken, but only 1 can be run: the runtime finds out.
    """
    graph = _Graph()
    x = graph.tensor("x", (1,), np.float32)
    dims = graph.constant("dims", np.array([size_bytes // 4], np.int32))
    y = graph.tensor("y", (size_bytes // 4,), np.float32)
    graph.signature({INPUT: x}, {OUTPUT: y})
    if free:
        graph.free_first_dimension(x)
    options = schema.BroadcastToOptionsT()
    graph.operation(
        schema.BuiltinOperator.BROADCAST_TO, [x, dims], [y], schema.BuiltinOptions.BroadcastToOptions, options, 2
    )
    return graph.write(path, [x], [y])


def reciprocal_model(path: Path) -> Path:
    """Write a model ``x[1] -> scores[1]`` that divides 1 by x, both int32: 0 is a run that fails."""
    graph = _Graph()
    x = graph.tensor("x", (1,), np.int32)
    one = graph.constant("one", np.ones(1, np.int32))
    y = graph.tensor("y", (1,), np.int32)
    graph.operation(schema.BuiltinOperator.DIV, [one, x], [y], schema.BuiltinOptions.DivOptions, schema.DivOptionsT())
    graph.signature({INPUT: x}, {OUTPUT: y})
    return graph.write(path, [x], [y])


def two_way_model(path: Path) -> Path:
    """Write a model of two inputs, ``a[1, 2]`` and ``b[1, 2]``, and two outputs: their ``sum`` and ``difference``."""
    graph = _Graph()
    a, b = (graph.tensor(name, (1, 2), np.float32) for name in "ab")
    total, difference = (graph.tensor(name, (1, 2), np.float32) for name in ("sum", "difference"))
    add, sub = schema.BuiltinOptions.AddOptions, schema.BuiltinOptions.SubOptions
    graph.operation(schema.BuiltinOperator.ADD, [a, b], [total], add, schema.AddOptionsT())
    graph.operation(schema.BuiltinOperator.SUB, [a, b], [difference], sub, schema.SubOptionsT())
    graph.signature({"a": a, "b": b}, {"sum": total, "difference": difference})
    return graph.write(path, [a, b], [total, difference])


def two_signature_model(path: Path) -> Path:
    """Write a model whose signature ``serving_default`` doubles ``x[1, 2]``, and whose ``square``, in a subgraph of its
    own, squares it.
    """
    graph = _Graph()
    inputs, outputs = [], []
    for part, key, operator, kind, options in (
        (graph, "serving_default", "ADD", schema.BuiltinOptions.AddOptions, schema.AddOptionsT()),
        (graph.subgraph(), "square", "MUL", schema.BuiltinOptions.MulOptions, schema.MulOptionsT()),
    ):
        x, y = (part.tensor(f"{key}_{name}", (1, 2), np.float32) for name in "xy")
        part.operation(getattr(schema.BuiltinOperator, operator), [x, x], [y], kind, options)
        part.signature({INPUT: x}, {OUTPUT: y}, key=key)
        part.finish([x], [y])
        inputs.append(x)
        outputs.append(y)
    return graph.write(path, inputs[:1], outputs[:1])


def say_what_it_is(path: Path, **changes: object) -> ModelMetadata:
    """Put metadata that fits the model at ``path``, but for ``changes``, into it; return what it says now."""
    model = Model.load(path)
    metadata = ModelMetadata(
        format=1,
        name="digits",
        version=3,
        scheme="int8",
        inputs=model.inputs,
        outputs=model.outputs,
        labels=tuple(f"class-{i}" for i in range(model.outputs[0].shape[-1])),
    )
    metadata = msgspec.structs.replace(metadata, **changes)
    path.write_bytes(embed(path.read_bytes(), encode(metadata)))
    return metadata


def running_sum_model(path: Path) -> Path:
    """Write a stateful model ``x[1, 1] -> scores[1, 1]``: the sum of the last three inputs."""
    graph = _Graph()
    x = graph.tensor("x", (1, 1), np.float32)
    feature = graph.constant("feature", np.ones((1, 1), np.float32))
    times = graph.constant("times", np.ones((1, 3), np.float32))
    state = graph.variable("state", (1, 3))
    y = graph.tensor("y", (1, 1), np.float32)
    options = schema.SVDFOptionsT()
    options.rank = 1
    operator = schema.BuiltinOperator.SVDF
    graph.operation(operator, [x, feature, times, -1, state], [y], schema.BuiltinOptions.SVDFOptions, options)
    graph.signature({INPUT: x}, {OUTPUT: y})
    return graph.write(path, [x], [y])


def recursive_model(path: Path) -> Path:
    """Write a model with a loop whose body is that loop again: preparing it overflows the interpreter's stack."""
    graph = _Graph()
    outer = _loop(graph, condition=1, body=2)

    condition = graph.subgraph()
    anything = condition.tensor("anything", (1,), np.float32)
    condition.finish([anything], [condition.constant("true", np.ones(1, np.bool_))])

    body = graph.subgraph()
    body.finish(*_loop(body, condition=1, body=2))
    return graph.write(path, *outer)


def _loop(graph: "_Graph", *, condition: int, body: int) -> tuple[list[int], list[int]]:
    x = graph.tensor("x", (1,), np.float32)
    y = graph.tensor("y", (1,), np.float32)
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = condition, body
    graph.operation(schema.BuiltinOperator.WHILE, [x], [y], schema.BuiltinOptions.WhileOptions, options)
    return [x], [y]


def artifact_folder(
    directory: Path,
    *,
    name: str = "digits",
    version: int = 1,
    profile: str = "generic-x86-64",
    features: int = 64,
    classes: int = 10,
    quantized: bool = True,
    seed: int | None = None,
    samples: int = 8,
    passing: bool = True,
    model: Callable[[Path], Path] | None = None,
) -> Path:
    """Write ``directory/name/version/profile`` with everything that a converter puts there; return that folder.

    Args:
        directory: Where the artifacts' folders are.
        name: Of the model.
        version: Of the model; also the seed of its weights unless another is given, so that versions differ.
        profile: Of the device.
        features: Size of the input; features x classes is about the model's size in bytes (four times in float32).
        classes: Size of the output.
        quantized: int8 instead of float32.
        seed: Of weights and samples.
        samples: Number of golden inputs in the self-test.
        passing: False for a self-test that no device reproduces.
        model: Writes another model than a linear one; its golden inputs are ones.
    """
    folder = directory / name / str(version) / profile
    folder.mkdir(parents=True)
    seed = version if seed is None else seed
    model_path = folder / "model.tflite"
    if model:
        model(model_path)
    else:
        linear_model(model_path, features=features, classes=classes, quantized=quantized, seed=seed)
    loaded = Model.load(model_path)
    selftest = _golden(loaded, samples, seed if model is None else None)
    if not passing:
        selftest = SelfTest(
            selftest.inputs, {name: ~a if a.dtype.kind == "i" else a + 1 for name, a in selftest.outputs.items()}
        )
    selftest.save(folder / "selftest.npz")
    manifest = ArtifactManifest(
        format=1,
        name=name,
        version=version,
        profile=profile,
        scheme="int8" if quantized else "float32",
        blobs=(_blob(ROLE_MODEL, model_path), _blob(ROLE_SELFTEST, folder / "selftest.npz")),
        inputs=loaded.inputs,
        outputs=loaded.outputs,
        selftest=SelfTestSpec(samples=samples),
        labels=tuple(f"class-{i}" for i in range(classes)) if model is None else (),
    )
    (folder / "artifact.json").write_bytes(encode(manifest))
    (folder / "report.json").write_text("{}\n")
    return folder


def _golden(model: Model, samples: int, seed: int | None) -> SelfTest:
    inputs = {}
    for spec in model.inputs:
        shape = (samples, *(abs(size) for size in spec.shape))
        real = np.ones(shape, np.float32) if seed is None else np.random.default_rng(seed).random(shape, np.float32)
        inputs[spec.name] = quantize(real, spec) if spec.scale else real.astype(DTYPES[spec.datatype])
    return record_selftest(model, inputs)


def _blob(role: str, path: Path) -> ManifestBlob:
    data = path.read_bytes()
    return ManifestBlob(
        role=role,
        path=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        block_bytes=BLOCK_BYTES,
        block_sha256s=block_sha256s([data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]),
    )


class _Graph:
    """A subgraph under construction; the first one owns the model that all share."""

    def __init__(self, model: schema.ModelT | None = None) -> None:
        self._model = model or _empty_model()
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs.append(self._graph)

    def subgraph(self) -> "_Graph":
        return _Graph(self._model)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: type, *, quantization=None, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
        tensor.type = _DTYPES[np.dtype(dtype)]
        if quantization:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [quantization[0]], [quantization[1]]
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def variable(self, name: str, shape: tuple[int, ...]) -> int:
        index = self.tensor(name, shape, np.float32)
        self._graph.tensors[index].isVariable = True
        return index

    def text(self, name: str) -> int:
        index = self.tensor(name, (1,), np.float32)
        self._graph.tensors[index].type = schema.TensorType.STRING
        return index

    def free_first_dimension(self, *indices: int) -> None:
        for index in indices:
            tensor = self._graph.tensors[index]
            tensor.shapeSignature = [-1, *tensor.shape[1:]]

    def constant(self, name: str, value: np.ndarray, *, quantization=None) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        index = len(self._model.buffers) - 1
        return self.tensor(name, value.shape, value.dtype, quantization=quantization, buffer=index)

    def operation(
        self, code: int, inputs: list[int], outputs: list[int], kind: int, options: object, version: int = 1
    ) -> None:
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode, operator_code.version = code, version
        operator_code.deprecatedBuiltinCode = min(code, 127)
        self._model.operatorCodes.append(operator_code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self._graph.operators.append(operator)

    def signature(self, inputs: dict[str, int], outputs: dict[str, int], *, key: str = "serving_default") -> None:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, self._model.subgraphs.index(self._graph)
        signature.inputs, signature.outputs = _tensor_maps(inputs), _tensor_maps(outputs)
        self._model.signatureDefs = [*(self._model.signatureDefs or []), signature]

    def finish(self, inputs: list[int], outputs: list[int]) -> None:
        self._graph.inputs, self._graph.outputs = inputs, outputs

    def place_outside(self, path: Path, places: list[tuple[int, int]]) -> bytes:
        """Say of each constant at which offset of the file its values are, and how many bytes; return the rest."""
        for buffer, (offset, count) in zip(self._model.buffers[1:], places, strict=True):
            buffer.data, buffer.offset, buffer.size = None, offset, count
        return self.write(path, [0], [1]).read_bytes()

    def write(self, path: Path, inputs: list[int], outputs: list[int]) -> Path:
        self.finish(inputs, outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        return path


def _empty_model() -> schema.ModelT:
    model = schema.ModelT()
    model.version, model.description = 3, "edgeferry test model"
    model.subgraphs, model.operatorCodes, model.buffers = [], [], [schema.BufferT()]
    return model


def _tensor_maps(names: dict[str, int]) -> list[schema.TensorMapT]:
    maps = []
    for name, index in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps
