"""What became one operator, and what is an operator of its own and why: from a graph as it stands. Pure.

TensorFlow's converter folds a scale and a shift (a batch normalization) into the weights of the convolution or matrix
product before them, and has that operator apply the activation behind it. It does not say where it could not; the graph
tells. Source: tensorflow/compiler/mlir/lite/transforms/optimize_patterns.td and optimize_pass.cc.
"""

from collections.abc import Iterable, Iterator

from edgeferry.converter.inspection.tflite_facts import (
    FusedOperator,
    Fusion,
    OperatorFacts,
    SubgraphFacts,
    UnfusedOperator,
)

__all__ = ["fusion_of", "layer_of"]

_WEIGHTED = {"CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
_LINEAR = {"ADD", "DIV", "MUL", "SUB"}
_POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
_HOSTS = _WEIGHTED | _LINEAR | _POOLS  # which the converter has apply an activation
_RECURRENT = {"UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"}
_JOINABLE = {"RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1"}
_REPLACEABLE = {"ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "PRELU"}
_SQUASHING = {"LOGISTIC", "TANH"}
_PADDED = _POOLS | {"CONV_2D", "DEPTHWISE_CONV_2D"}
_MOVING = {"DEQUANTIZE", "EXPAND_DIMS", "QUANTIZE", "RESHAPE", "SQUEEZE"}
_VALID = 1  # of the schema's Padding
_PADDING, _WEIGHTS, _NORMALIZATION, _ACTIVATION = range(4)  # the order in which an operator does its work
# What TensorFlow and Keras open inside of a layer's own scope, and wrap models in.
_INNER = {"BiasAdd", "ExpandDims", "Pow", "ReadVariableOp", "batchnorm", "moments", "separable_conv2d"}
_OUTER = ("StatefulPartitionedCall/", "PartitionedCall/")


def fusion_of(graph: SubgraphFacts) -> Fusion:
    """Return what was fused in ``graph``, and what was not."""
    return Fusion(tuple(_fused(graph)), _Graph(graph).unfused())


def layer_of(name: str) -> str:
    """Return the layer whose operation the tensor is called after; the operation itself where no scope is around it."""
    parts = name.split(":", maxsplit=1)[0].split("/")
    parts = parts[:-1] or parts
    while len(parts) > 1 and parts[-1] in _INNER:
        parts = parts[:-1]
    path = "/".join(parts)
    for outer in _OUTER:
        path = path.removeprefix(outer)
    return path


def _fused(graph: SubgraphFacts) -> Iterator[FusedOperator]:
    for one in graph.operators:
        layers = _layers_in_order(_names(one, graph)) if one.name in _HOSTS | _RECURRENT else ()
        if len(layers) > 1 or one.activation:
            yield FusedOperator(one.index, one.name, layers, one.activation)


def _names(one: OperatorFacts, graph: SubgraphFacts) -> list[str]:
    """Return the names of the operations that became this one: those of its output, or of its weights.

    Outputs of the model have a name of their own, which tells no layer.
    """
    written = [graph.tensors[at].name for at in one.outputs[:1]]
    weights = [graph.tensors[at].name for at in one.inputs if at >= 0 and graph.tensors[at].is_constant]
    told = next((name for name in (*written, *weights) if "/" in name), "".join(written))
    return [name for name in told.split(";") if name and not name.isdecimal()]  # a number is one of several outputs


def _layers_in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the layers behind the names that the converter joined, which it does in no order, as they work."""
    ranks: dict[str, int] = {}
    for name in names:
        layer = layer_of(name)
        ranks[layer] = min(ranks.get(layer, _ACTIVATION), _rank(name))
    return tuple(sorted(ranks, key=lambda layer: ranks[layer]))


def _rank(name: str) -> int:
    """Return where in an operator the operation of that name comes."""
    *scopes, operation = name.split("/")
    if operation.startswith("Pad"):
        return _PADDING
    if operation.lower().startswith("relu"):
        return _ACTIVATION
    return _NORMALIZATION if "batchnorm" in scopes or operation.startswith("FusedBatchNorm") else _WEIGHTS


class _Graph:
    """A subgraph with the maker and the users of each tensor."""

    def __init__(self, graph: SubgraphFacts) -> None:
        self._graph = graph
        self._makers = {at: one for one in graph.operators for at in one.outputs}
        self._users: dict[int, list[OperatorFacts]] = {}
        for one in graph.operators:
            for at in dict.fromkeys(one.inputs):
                self._users.setdefault(at, []).append(one)

    def unfused(self) -> tuple[UnfusedOperator, ...]:
        """Return what could have been fused but was not; of a layer's several operators the first."""
        found: dict[str, UnfusedOperator] = {}
        for one in self._graph.operators:
            why = self._why_not(one)
            if why is not None:
                layer = self._layer(one)
                found.setdefault(f"{layer} {one.name in _LINEAR}", UnfusedOperator(one.index, one.name, layer, *why))
        return tuple(found.values())

    def _why_not(self, one: OperatorFacts) -> tuple[str, str] | None:
        if one.name in _JOINABLE:
            return self._why_no_activation(one)
        if one.name in _REPLACEABLE | _SQUASHING:
            return self._why_never(one)
        if one.name in _LINEAR:
            return self._why_not_folded(one)
        return self._why_padded(one) if one.name in {"PAD", "PADV2"} else None

    def _why_no_activation(self, one: OperatorFacts) -> tuple[str, str]:
        before = self._maker(one)
        if before is None:
            return "it works on an input of the model, and there is no operator before it", ""
        if before.name not in _HOSTS:
            reason = f"{self._named(before)} cannot apply an activation"
            return (
                reason,
                "put the activation directly behind the convolution, dense layer or addition, where it may be",
            )
        if before.activation:
            return f"{self._named(before)} applies {before.activation} already", "leave one of the two out"
        return self._why_apart(one, before)

    def _why_never(self, one: OperatorFacts) -> tuple[str, str] | None:
        before = self._maker(one)
        if before is None or before.name not in _HOSTS or self._is_answer(one):
            return None  # what makes a score of an answer has to be there
        reason = f"{self._named(before)} can apply relu, relu6 and relu_n1_to_1 only"
        is_replaceable = one.name in _REPLACEABLE
        return reason, "relu or relu6 in its place would cost nothing; train with it" if is_replaceable else ""

    def _why_not_folded(self, one: OperatorFacts) -> tuple[str, str] | None:
        """Return why a scale or shift with a constant for each channel stands alone."""
        constants = [at for at in one.inputs if at >= 0 and self._graph.tensors[at].is_constant]
        before = self._maker(one)
        if len(constants) != 1 or (before and before.name in _LINEAR and self._layer(before) == self._layer(one)):
            return None
        if before is None:
            return (
                "it works on an input of the model, before any weights",
                "give samples that are scaled already, or scale the first layer's weights instead",
            )
        if max(self._graph.tensors[constants[0]].shape, default=1) < 2:  # a scalar is part of some formula
            return None
        if before.name not in _WEIGHTED:
            reason = f"{self._named(before)}, before it, has no weights to fold it into"
            return reason, "put the normalization directly behind the convolution or dense layer"
        if before.activation:
            reason = f"{self._named(before)} applies {before.activation} before it"
            return reason, "put the normalization between the layer and its activation"
        return self._why_apart(one, before)

    def _why_padded(self, one: OperatorFacts) -> tuple[str, str] | None:
        users = self._users.get(one.outputs[0], [])
        if len(users) != 1 or users[0].name not in _PADDED or users[0].options.get("padding") != _VALID:
            return None
        reason = f"{self._named(users[0])}, behind it, pads by 'valid', so that this is an operator of its own"
        return reason, "padding='same' in that layer needs none, where it pads alike"

    def _why_apart(self, one: OperatorFacts, before: OperatorFacts) -> tuple[str, str]:
        """Return why an operator stands alone that the one before it could take in."""
        result = before.outputs[0]
        others = [user for user in self._users.get(result, []) if user.index != one.index]
        if others:
            whose = f"{self._named(others[0])} uses the result of {self._named(before)} without it"
            return whose, "have both use the same result, where that is what is meant"
        if result in self._graph.outputs:
            reason = f"the result of {self._named(before)} without it is an output of the model"
            return reason, "leave that output out, where nobody needs it"
        return f"the converter left it beside {self._named(before)} and does not say why", ""

    def _is_answer(self, one: OperatorFacts) -> bool:
        """Return whether the operator's result is an output of the model, perhaps in another shape."""
        result = one.outputs[0]
        users = self._users.get(result, [])
        return result in self._graph.outputs or any(user.name in _MOVING and self._is_answer(user) for user in users)

    def _maker(self, one: OperatorFacts) -> OperatorFacts | None:
        data = [at for at in one.inputs if at >= 0 and not self._graph.tensors[at].is_constant]
        return self._makers.get(data[0]) if data else None

    def _layer(self, one: OperatorFacts) -> str:
        return layer_of(next(iter(_names(one, self._graph)), ""))

    def _named(self, one: OperatorFacts) -> str:
        return f"{one.name} ({self._layer(one)})"
