"""Where a channel's scale can be moved from one layer into the next without changing what the model computes.

A layer, an activation and the next layer form a link when everything between them is positively homogeneous in each
channel, f(s x) = s f(x) for s > 0: ReLU, pooling, means over space, padding with zeros, flattening. Source: Nagel et
al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.1.
"""

from dataclasses import dataclass

import numpy as np

from edgeferry.converter.repair.graph import FloatArray, FloatGraph, Operation

__all__ = ["WEIGHTED", "Link", "bias_input", "data_input", "find_links", "weights_input"]

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")

_HOMOGENEOUS = ("NONE", "RELU")
_ALWAYS_THROUGH = ("RELU", "LEAKY_RELU", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")


@dataclass(frozen=True, slots=True)
class Link:
    """Two layers between which channels can be rescaled.

    Attributes:
        first: Its output channels are divided.
        second: Its input channels are multiplied.
        tensor: The first one's output.
        channels: Their number.
        spread: How often they repeat in the second one's inputs: the pixels of what was flattened.
    """

    first: Operation
    second: Operation
    tensor: int
    channels: int
    spread: int = 1

    def divided(self, weights: FloatArray, scales: FloatArray) -> FloatArray:
        """Return the first layer's ``weights`` with each output channel divided by its scale."""
        if self.first.kind == "DEPTHWISE_CONV_2D":  # [1, height, width, channels]
            return np.asarray(weights / scales, np.float32)
        return np.asarray(weights / scales.reshape(-1, *(1,) * (weights.ndim - 1)), np.float32)

    def multiplied(self, weights: FloatArray, scales: FloatArray) -> FloatArray:
        """Return the second layer's ``weights`` with each input channel multiplied by its scale."""
        if self.second.kind == "DEPTHWISE_CONV_2D":
            return np.asarray(weights * np.repeat(scales, self.second.multiplier), np.float32)
        return np.asarray(weights * np.tile(scales, self.spread), np.float32)

    def gain(self, weights: FloatArray, inputs: FloatArray) -> FloatArray:
        """Return the most that one weight of the first layer adds to each output channel.

        Args:
            weights: Of the first layer.
            inputs: Largest magnitude of each channel that it reads, [input channels].
        """
        if self.first.kind == "DEPTHWISE_CONV_2D":
            return np.asarray(
                np.abs(weights).max(axis=(0, 1, 2)) * np.repeat(inputs, self.first.multiplier), np.float32
            )
        peaks = inputs if len(inputs) == weights.shape[-1] else inputs.max()  # a grouped convolution reads a part
        return np.asarray((np.abs(weights) * peaks).reshape(self.channels, -1).max(axis=1), np.float32)

    def reach(self, weights: FloatArray) -> FloatArray:
        """Return the largest magnitude among the second layer's ``weights`` for each input channel."""
        if self.second.kind == "DEPTHWISE_CONV_2D":
            return np.asarray(
                np.abs(weights).reshape(-1, self.channels, self.second.multiplier).max(axis=(0, 2)), np.float32
            )
        return np.asarray(np.abs(weights).reshape(-1, self.spread, self.channels).max(axis=(0, 1)), np.float32)


def data_input(operation: Operation) -> int:
    """Return the tensor that a weighted operation computes on."""
    return operation.inputs[2 if operation.kind == "TRANSPOSE_CONV" else 0]


def weights_input(operation: Operation) -> int:
    """Return the weights of a weighted operation."""
    return operation.inputs[1]


def bias_input(operation: Operation) -> int:
    """Return the bias of a weighted operation; -1 where there is none."""
    position = 3 if operation.kind == "TRANSPOSE_CONV" else 2
    return operation.inputs[position] if len(operation.inputs) > position else -1


def find_links(graph: FloatGraph) -> tuple[Link, ...]:
    """Return the links of ``graph``, in the order of their first layers."""
    found = [_link_from(graph, operation) for operation in graph.operations if _can_give(graph, operation)]
    return tuple(link for link in found if link is not None)


def _can_give(graph: FloatGraph, operation: Operation) -> bool:
    if operation.kind not in WEIGHTED or operation.activation not in _HOMOGENEOUS:
        return False
    return graph.changeable(weights_input(operation)) is not None and _is_scalable(graph, bias_input(operation))


def _is_scalable(graph: FloatGraph, bias: int) -> bool:
    """Return whether a bias can be divided: there is none, it is ours to change, or it is zero for whoever reads it."""
    values = graph.constant(bias)
    return bias == -1 or graph.changeable(bias) is not None or (values is not None and not values.any())


def _link_from(graph: FloatGraph, first: Operation) -> Link | None:
    (tensor,) = first.outputs
    channels, spread = graph.shape(tensor)[-1], 1
    at = tensor
    while not graph.is_output(at):
        readers = graph.consumers(at)
        if len(readers) != 1:
            return None
        (reader,) = readers
        if reader.kind in WEIGHTED:
            link = Link(first, reader, tensor, channels, spread)
            return link if _can_take(graph, link, at) else None
        factor = _passes(graph, reader, at)
        if not factor:
            return None
        spread *= factor
        (at,) = reader.outputs
    return None


def _can_take(graph: FloatGraph, link: Link, tensor: int) -> bool:
    if data_input(link.second) != tensor:
        return False
    weights = graph.changeable(weights_input(link.second))
    if weights is None:
        return False
    if link.second.kind == "DEPTHWISE_CONV_2D":
        return link.spread == 1 and weights.shape[-1] == link.channels * link.second.multiplier
    return bool(weights.shape[-1] == link.channels * link.spread)  # a grouped convolution has fewer


def _passes(graph: FloatGraph, operation: Operation, tensor: int) -> int:
    """Return how often channels repeat behind ``operation``, 0 where their scale does not pass it."""
    if operation.inputs[0] != tensor:
        return 0
    match operation.kind:
        case kind if kind in _ALWAYS_THROUGH:
            return 1
        case "MAX_POOL_2D" | "AVERAGE_POOL_2D":
            return int(operation.activation in _HOMOGENEOUS)
        case "MEAN" | "PAD":
            return int(_leaves_channels(graph, operation, tensor))
        case "RESHAPE":
            before, after = graph.shape(tensor)[-1], graph.shape(operation.outputs[0])[-1]
            return after // before if before > 0 and after % before == 0 else 0
        case _:
            return 0


def _leaves_channels(graph: FloatGraph, operation: Operation, tensor: int) -> bool:
    """Return whether a mean is not over the channels, or padding adds none."""
    where = graph.constant(operation.inputs[1])
    if where is None:
        return False
    if operation.kind == "PAD":  # [axes, 2]
        return not where[-1].any()
    return not {-1, len(graph.shape(tensor)) - 1} & set(where.ravel().tolist())
