"""Builds the Keras model that is trained from a graph in its plain form, and the plain model that it ends as.

Each layer with weights becomes a `CompressedLayer`. For quantization-aware training a `FakeQuant` stands wherever the
device rounds: behind every input and every step that gives values of a range of its own, but for what is done inside of
the next step there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import Code, RequestError, SourceError
from edgeferry.converter.training.activations import FUSED, activation_of, has_integer_kernel
from edgeferry.converter.training.compressed import CompressedLayer, FakeQuant, Rounding
from edgeferry.converter.training.graph import Graph, Step, Value
from edgeferry.converter.training.kinds import FIXED_RANGES, TRANSPOSED, Role, role_of
from edgeferry.converter.training.plain import copy_of

__all__ = ["CompressedModel", "calibrate", "check_quantizable", "finished", "follow", "rewrite"]

_BEFORE_FUSED = frozenset({Role.WEIGHTED, Role.COMPUTING})
_INERTIA = 0.9  # of a range, against what one batch shows
_AFTER_SCORES = frozenset({"softmax", "sigmoid"})

Layers = Callable[[Step], Any]
Quants = Callable[[Value, tuple[float, float] | None], Any]


@dataclass(frozen=True, slots=True)
class CompressedModel:
    """A model in training.

    Attributes:
        graph: In its plain form.
        model: From the inputs to the outputs as the device will give them.
        scores: The same without a last softmax or sigmoid, which losses do better without; behind them the layers that
            were asked for.
        unrounded: From the inputs to what each `FakeQuant` takes; None where there is none.
        layers: That have weights, by the step's operation, in the order of the graph.
        quants: By the value that each rounds, in the order of the outputs of ``unrounded``.
    """

    graph: Graph
    model: Any
    scores: Any
    unrounded: Any
    layers: Mapping[int, CompressedLayer]
    quants: Mapping[Value, FakeQuant]


def check_quantizable(graph: Graph, name: str) -> None:
    """Do nothing when every step of ``graph`` can be done with integers.

    Raises:
        SourceError: Some cannot; they are named.
    """
    steps = [step for step in graph.steps if not has_integer_kernel(step)]
    if steps:
        refused = ", ".join(dict.fromkeys(f"{step.operation.name} ({_described(step)})" for step in steps))
        raise SourceError(
            f"{name}: quantization-aware training knows no integer form of {refused}; "
            "replace it, or leave it in float with --unsupported float",
            code=Code.OP_NOT_SUPPORTED,
        )


def rewrite(
    graph: Graph, *, is_quantized: bool, is_clustered: bool = False, watched: Sequence[str] = ()
) -> CompressedModel:
    """Return the model to train.

    Args:
        graph: In its plain form.
        is_quantized: Whether it gets a `FakeQuant` for each range; they are not active yet.
        is_clustered: Whether weights will be clustered. What is stored of a quantized layer are integers in units of
            their channel; of a float one it is the weights themselves, so that these have to be few.
        watched: Names of layers whose outputs come behind the scores.

    Raises:
        RequestError: There is no such layer.
    """
    layers: dict[int, CompressedLayer] = {}
    quants: dict[Value, FakeQuant] = {}

    def layer_of(step: Step) -> Any:
        if role_of(step.kind) is not Role.WEIGHTED:
            return step.operation
        if id(step.operation) not in layers:
            layers[id(step.operation)] = CompressedLayer(step.operation, has_one_unit=is_clustered and not is_quantized)
        return layers[id(step.operation)]

    def quant_of(value: Value, fixed: tuple[float, float] | None) -> Any:
        quants[value] = FakeQuant(f"range_{value.number}", fixed)
        return quants[value]

    built = _Builder(graph, layer_of, quant_of if is_quantized else None)
    inputs, values = built.run()
    scores = [values[_before_scores(graph, value)] for value in graph.outputs]
    scores += [values[_value_named(graph, name)] for name in watched]
    return CompressedModel(
        graph,
        keras.Model(inputs, [values[value] for value in graph.outputs]),
        keras.Model(inputs, scores),
        keras.Model(inputs, list(built.takes.values())) if built.takes else None,
        layers,
        {value: quants[value] for value in built.takes},
    )


def finished(compressed: CompressedModel, *, is_rounding: bool) -> Any:
    """Return a model of Keras's own layers with the weights that were trained.

    Args:
        compressed: What was trained.
        is_rounding: Whether values are rounded as they are in training, for the export; without it the model can be
            loaded where nobody knows of us.
    """
    layers = {key: _baked(layer) for key, layer in compressed.layers.items()}

    def quant_of(value: Value, _fixed: tuple[float, float] | None) -> Any:
        low, high = (float(bound) for bound in compressed.quants[value].range())
        return Rounding(low, high, name=f"rounding_{value.number}")

    built = _Builder(
        compressed.graph,
        lambda step: layers.get(id(step.operation), step.operation),
        quant_of if is_rounding and compressed.quants else None,
    )
    inputs, values = built.run()
    return keras.Model(inputs, [values[value] for value in compressed.graph.outputs])


def calibrate(compressed: CompressedModel, batches: Sequence[Any]) -> None:
    """Begin each range with the least and the greatest value that ``batches`` of inputs show there."""
    seen = np.array([_extremes(compressed, batch) for batch in batches])  # [batches, quants, 2]
    for quant, low, high in zip(
        compressed.quants.values(), seen[..., 0].min(axis=0), seen[..., 1].max(axis=0), strict=True
    ):
        if not quant.is_fixed:
            quant.set_range(float(low), float(high))


def follow(compressed: CompressedModel, batch: Any) -> None:
    """Move each range a little towards what ``batch`` shows there."""
    for quant, (low, high) in zip(compressed.quants.values(), _extremes(compressed, batch), strict=True):
        if not quant.is_fixed:
            before = [float(bound) for bound in quant.range()]
            quant.set_range(
                *(_INERTIA * old + (1 - _INERTIA) * new for old, new in zip(before, (low, high), strict=True))
            )


def _extremes(compressed: CompressedModel, batch: Any) -> NDArray[np.float64]:
    tensors = keras.tree.flatten(compressed.unrounded(batch, training=False))
    return np.array([[float(keras.ops.min(tensor)), float(keras.ops.max(tensor))] for tensor in tensors])


@dataclass(slots=True)
class _Builder:
    """Applies layers along a graph, and roundings where they belong.

    Attributes:
        takes: What each rounding was applied to.
        owners: Which rounding's range each value has.
    """

    graph: Graph
    layer_of: Layers
    quant_of: Quants | None
    takes: dict[Value, Any] = field(default_factory=dict)
    owners: dict[Value, Any] = field(default_factory=dict)

    def run(self) -> tuple[list[Any], dict[Value, Any]]:
        """Return new inputs, and every value of the graph for them."""
        inputs = self.graph.fresh_inputs()
        entered = [self._rounded(value, tensor) for value, tensor in zip(self.graph.entries, inputs, strict=True)]
        fused = _fused(self.graph)

        def call(step: Step, *args: Any, **kwargs: Any) -> Any:
            outputs = self.layer_of(step)(*args, **kwargs)
            return outputs if step.outputs[0] in fused else self._after(step, outputs)

        return inputs, self.graph.run(entered, call)

    def _after(self, step: Step, outputs: Any) -> Any:
        role = role_of(step.kind)
        if role in (Role.PASSING, Role.MIXING):
            owner = self.owners.get(step.inputs[0])
            self.owners[step.outputs[0]] = owner
            return owner(outputs) if role is Role.MIXING and owner is not None else outputs
        if len(step.outputs) > 1:
            return outputs
        return self._rounded(step.outputs[0], outputs, FIXED_RANGES.get(activation_of(step)))

    def _rounded(self, value: Value, tensor: Any, fixed: tuple[float, float] | None = None) -> Any:
        if self.quant_of is None or not str(tensor.dtype).startswith("float"):
            return tensor
        self.takes[value] = tensor
        self.owners[value] = self.quant_of(value, fixed)
        return self.owners[value](tensor)


def _fused(graph: Graph) -> set[Value]:
    """Return the values that the device never sees: the next step is done before they are stored."""
    users, makers = graph.users(), graph.makers()
    alone = {value: graph.only_user(value, users) for value, step in makers.items() if _can_fuse(step.kind)}
    return {value for value, user in alone.items() if user is not None and activation_of(user) in FUSED}


def _can_fuse(kind: str) -> bool:
    return role_of(kind) in _BEFORE_FUSED and kind not in TRANSPOSED


def _value_named(graph: Graph, name: str) -> Value:
    named = {step.operation.name: step.outputs[0] for step in graph.steps}
    if name not in named:
        raise RequestError(f"distillation.features: the model has no layer {name!r}; it has {', '.join(named)}")
    return named[name]


def _before_scores(graph: Graph, value: Value) -> Value:
    maker = graph.makers().get(value)
    return maker.inputs[0] if maker is not None and activation_of(maker) in _AFTER_SCORES else value


def _described(step: Step) -> str:
    name = activation_of(step)
    return f"{step.kind} {name}" if name and step.kind == "Activation" else step.kind


def _baked(layer: CompressedLayer) -> Any:
    return copy_of(layer.inner, [keras.ops.convert_to_numpy(value) for value in (layer.kernel(), layer.bias())])
