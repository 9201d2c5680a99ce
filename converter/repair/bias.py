"""Bias correction: what rounding the weights does to the mean of each output is taken from the bias.

Rounding W to W + dW adds dW x to a layer's output. The mean of that is dW times the mean of x, known from real samples.
Source: Nagel et al. 2019, section 4.2. At the edges, where a convolution reads padding, the mean is a little less.
"""

from collections.abc import Mapping

import numpy as np

from edgeferry.converter.repair.graph import FloatArray, FloatGraph, Operation
from edgeferry.converter.repair.links import WEIGHTED, bias_input, data_input, weights_input

__all__ = ["correct_biases", "correctable", "mean_shift", "rounding_error"]

_INT8_MAX = 127


def correctable(graph: FloatGraph) -> tuple[Operation, ...]:
    """Return the operations whose bias can be corrected."""
    return tuple(operation for operation in graph.operations if _is_correctable(graph, operation))


def correct_biases(graph: FloatGraph, means: Mapping[int, FloatArray], *, per_channel: bool) -> int:
    """Correct every bias in place and return how many there were.

    Args:
        graph: Of the float model whose weights are going to be rounded to int8.
        means: Mean of each channel of what each layer computes on, by tensor.
        per_channel: Whether int8 weights have a scale for each output channel.
    """
    operations = correctable(graph)
    for operation in operations:
        weights, bias = graph.changeable(weights_input(operation)), graph.changeable(bias_input(operation))
        if weights is not None and bias is not None:
            error = rounding_error(operation.kind, weights, per_channel=per_channel)
            shift = mean_shift(operation, error, means[data_input(operation)])
            graph.change(bias_input(operation), bias - shift)
    return len(operations)


def rounding_error(kind: str, weights: FloatArray, *, per_channel: bool) -> FloatArray:
    """Return what symmetric int8 rounding adds to ``weights`` (TensorFlow Lite 8-bit quantization specification)."""
    channel_axis = weights.ndim - 1 if kind == "DEPTHWISE_CONV_2D" else 0
    axes = tuple(axis for axis in range(weights.ndim) if axis != channel_axis) if per_channel else None
    peak = np.abs(weights).max(axis=axes, keepdims=True)
    scale = np.where(peak > 0, peak / _INT8_MAX, 1).astype(np.float32)
    rounded = np.clip(np.rint(weights / scale), -_INT8_MAX, _INT8_MAX).astype(np.float32) * scale
    return np.asarray(rounded - weights)


def mean_shift(operation: Operation, error: FloatArray, means: FloatArray) -> FloatArray:
    """Return by how much the mean of each output channel moves.

    Args:
        operation: A weighted one.
        error: Of its weights, in their shape.
        means: Of its input's channels, [channels].
    """
    if operation.kind == "DEPTHWISE_CONV_2D":  # [1, height, width, channels x multiplier]
        return np.asarray(error.sum(axis=(0, 1, 2)) * np.repeat(means, operation.multiplier))
    return np.asarray((error.reshape(error.shape[0], -1, error.shape[-1]) @ means).sum(axis=1))


def _is_correctable(graph: FloatGraph, operation: Operation) -> bool:
    if operation.kind not in WEIGHTED or bias_input(operation) == -1:
        return False
    weights, bias = graph.changeable(weights_input(operation)), graph.changeable(bias_input(operation))
    if weights is None or bias is None:
        return False
    channels = graph.shape(data_input(operation))[-1] * operation.multiplier
    return bool(weights.shape[-1] == channels)  # a grouped convolution reads a part of the channels only
