"""Writes ``.tflite`` files of a chain of operators, also of such as no runtime has; they are never run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def write_tflite(
    path: Path, chain: Sequence[tuple[str, str]], *, metadata: Mapping[str, bytes] | None = None, version: int = 1
) -> Path:
    """Write a model whose operators follow each other on a float32 vector of 4.

    Args:
        path: Where to write it.
        chain: Operator and name of its output; what is no built-in operator becomes a custom one.
        metadata: Names and contents.
        version: Of every operator.
    """
    model = schema.ModelT()
    model.version, model.description = 3, "edgeferry test model"
    model.buffers, model.operatorCodes, model.metadata = [schema.BufferT()], [], []
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", [_tensor("x")], []
    graph.inputs, graph.outputs = [0], [len(chain)]
    model.subgraphs = [graph]
    for name, output in chain:
        model.operatorCodes.append(_code(name, version))
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors) - 1], [len(graph.tensors)]
        graph.operators.append(operator)
        graph.tensors.append(_tensor(output))
    for name, content in (metadata or {}).items():
        model.metadata.append(_metadata(name, len(model.buffers)))
        model.buffers.append(_buffer(content))
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def _tensor(name: str) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1, 4], schema.TensorType.FLOAT32, 0
    return tensor


def _code(name: str, version: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
    code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), version
    if code.builtinCode == schema.BuiltinOperator.CUSTOM:
        code.customCode = name
    return code


def _metadata(name: str, buffer: int) -> schema.MetadataT:
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = name, buffer
    return metadata


def _buffer(content: bytes) -> schema.BufferT:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    return buffer
