"""What operators cost, told from their tensors alone: multiplications, weights, and memory between operators. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import msgspec

from edgeferry.converter.inspection.tflite_facts import OperatorFacts, OperatorUse, SubgraphFacts, TensorFacts

__all__ = ["macs_of", "peak_activation", "uses_of"]


@dataclass(frozen=True, slots=True)
class _Call:
    """Shapes of one use of an operator, open dimensions as 1; an input that is left out has the shape ``()``."""

    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    options: Mapping[str, Any]


def macs_of(
    name: str,
    inputs: Sequence[int],
    outputs: Sequence[int],
    tensors: Sequence[TensorFacts],
    options: Mapping[str, Any],
) -> int:
    """Return how many multiplications with addition one run of the operator takes.

    Counted are convolutions, matrix products and recurrent layers, which is where the time goes; element by element
    operations and pooling count as 0.

    Args:
        name: Of the built-in operator.
        inputs: Indices into ``tensors``; -1 for one that is left out.
        outputs: Indices into ``tensors``.
        tensors: Of the subgraph.
        options: Of the operator, as the schema names them.
    """
    count = _COUNTS.get(name)
    if count is None or not outputs:
        return 0
    call = _Call(tuple(_shape(tensors[at]) if at >= 0 else () for at in inputs), _shape(tensors[outputs[0]]), options)
    try:
        return count(call)
    except IndexError:  # fewer inputs or dimensions than the operator has: the file is wrong, its costs unknown
        return 0


def peak_activation(
    inputs: Sequence[int], outputs: Sequence[int], tensors: Sequence[TensorFacts], operators: Sequence[OperatorFacts]
) -> tuple[int, int]:
    """Return the greatest number of bytes that have to exist at once, and the index of the operator where they do.

    A tensor lives from the operator that writes it to the last one that reads it; inputs from the start, outputs to the
    end, variables always. Constants stay in the file. Without any operator the index is -1.
    """
    begin, end = _lives(inputs, outputs, tensors, operators)
    grows = [0] * (len(operators) + 2)
    for index, first in begin.items():
        grows[first] += tensors[index].size_bytes
        grows[end[index] + 1] -= tensors[index].size_bytes
    peak, at, alive = 0, -1, 0
    for position in range(len(operators)):
        alive += grows[position]
        if alive > peak:
            peak, at = alive, position
    return peak, at


def uses_of(subgraphs: Sequence[SubgraphFacts]) -> tuple[OperatorUse, ...]:
    """Return the operators of all subgraphs by name, version and types: most expensive first, then commonest."""
    found: dict[OperatorUse, list[OperatorFacts]] = {}
    for graph in subgraphs:
        for operator in graph.operators:
            found.setdefault(_kind_of_use(operator, graph.tensors), []).append(operator)
    uses = [
        msgspec.structs.replace(
            use, count=len(same), weight_bytes=sum(one.weight_bytes for one in same), macs=sum(one.macs for one in same)
        )
        for use, same in found.items()
    ]
    return tuple(sorted(uses, key=lambda use: (-use.macs, -use.weight_bytes, -use.count, use.name, use.version)))


def _kind_of_use(operator: OperatorFacts, tensors: Sequence[TensorFacts]) -> OperatorUse:
    return OperatorUse(
        name=operator.name,
        kind=operator.kind,
        version=operator.version,
        inputs=tuple(tensors[at].type if at >= 0 else "" for at in operator.inputs),
        outputs=tuple(tensors[at].type if at >= 0 else "" for at in operator.outputs),
    )


def _lives(
    inputs: Sequence[int], outputs: Sequence[int], tensors: Sequence[TensorFacts], operators: Sequence[OperatorFacts]
) -> tuple[dict[int, int], dict[int, int]]:
    """Return the first and the last operator at which each tensor that is no constant has to exist."""
    last = max(0, len(operators) - 1)
    always = [tensor.index for tensor in tensors if tensor.is_variable]
    begin = dict.fromkeys([*inputs, *always], 0)
    end = dict.fromkeys(inputs, 0)
    for operator in operators:
        for index in operator.outputs:
            begin.setdefault(index, operator.index)
            end[index] = operator.index
        for index in operator.inputs:
            if index in begin:
                end[index] = operator.index
    end |= dict.fromkeys([*(index for index in outputs if index in begin), *always], last)
    begin = {index: first for index, first in begin.items() if index >= 0 and not tensors[index].is_constant}
    return begin, end


def _shape(tensor: TensorFacts) -> tuple[int, ...]:
    return tuple(max(1, size) for size in tensor.shape)


def _convolution(call: _Call) -> int:
    # Weights are [outputs, height, width, inputs of the group].
    return prod(call.output) * prod(call.inputs[1][1:])


def _depthwise(call: _Call) -> int:
    # Weights are [1, height, width, outputs].
    return prod(call.output) * prod(call.inputs[1][1:3])


def _transposed(call: _Call) -> int:
    # Inputs are output shape, weights [outputs, height, width, inputs], values: each value meets the whole kernel.
    return prod(call.inputs[2]) * prod(call.inputs[1][:-1])


def _convolution_3d(call: _Call) -> int:
    # Weights are [depth, height, width, inputs, outputs].
    return prod(call.output) * prod(call.inputs[1][:4])


def _transposed_3d(call: _Call) -> int:
    # Weights are [depth, height, width, outputs, inputs].
    return prod(call.inputs[2]) * prod(call.inputs[1][:4])


def _fully_connected(call: _Call) -> int:
    # Weights are [units, inputs].
    return prod(call.output) * call.inputs[1][-1]


def _matrices(call: _Call) -> int:
    shared = -2 if call.options.get("adjX") else -1
    return prod(call.output) * call.inputs[0][shared]


def _lstm(call: _Call) -> int:
    # Inputs 1 to 8 are the matrices of four gates, some left out, and 16 is the projection; 18 and 19 are states.
    return _steps(call) * sum(prod(shape) for shape in (*call.inputs[1:9], *call.inputs[16:17]) if shape)


def _rnn(call: _Call) -> int:
    return _steps(call) * (prod(call.inputs[1]) + prod(call.inputs[2]))


def _steps(call: _Call) -> int:
    return prod(call.inputs[0][:-1])  # batch and time, in either order


_COUNTS: dict[str, Callable[[_Call], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _convolution_3d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matrices,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
}
