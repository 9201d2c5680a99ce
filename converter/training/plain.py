"""Brings a graph into the one form that all techniques work on, without changing what it computes.

- A layer with weights has no activation of its own; that is a step after it.
- Batch normalization behind such a layer is folded into its weights, with the statistics that it has learned, so that
  these stay as they are. Where it follows something else it becomes a factor and a summand for each channel.
- Separable convolutions become a depthwise and a pointwise one, as TensorFlow Lite runs them; swish becomes a product.
- What does nothing when a model is used, but for dropout, is gone.

Layers are copies: the model that was given is left as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.training.graph import Graph, Numbers, Step, Value
from edgeferry.converter.training.kinds import SEPARABLE, WEIGHTED, channel_axes

__all__ = ["built", "copy_of", "fresh", "plain", "shape_into"]

_NOTHING = frozenset({"ActivityRegularization", "Identity"})
_SPLIT = {"silu": "sigmoid", "swish": "sigmoid"}


def plain(graph: Graph) -> Graph:
    """Return ``graph`` in the form that this module's docstring tells."""
    for change in (_without_nothing, _separated, _with_activations_apart, _folded, _normalizations_spelled):
        graph = change(graph)
    return graph


def copy_of(layer: Any, weights: list[NDArray[Any]], **changes: Any) -> Any:
    """Return a built layer like ``layer`` with other weights, and with ``changes`` in its configuration."""
    return built(type(layer).from_config({**layer.get_config(), **changes}), shape_into(layer), weights)


def built(layer: Any, input_shape: Sequence[int | None], weights: list[NDArray[Any]]) -> Any:
    """Return ``layer``, built for ``input_shape`` and with ``weights``."""
    layer.build(tuple(input_shape))
    layer.set_weights(weights)
    return layer


def fresh(operation: Any) -> Any:
    """Return an operation like one without weights, that has not been applied to anything; a bare one as it is."""
    return type(operation).from_config(operation.get_config()) if isinstance(operation, keras.Layer) else operation


def shape_into(layer: Any) -> tuple[int | None, ...]:
    """Return the shape that a built layer with one input was built for, the batch first."""
    return tuple(layer.get_build_config()["input_shape"])


def _without_nothing(graph: Graph) -> Graph:
    gone = {step.outputs[0]: step.inputs[0] for step in graph.steps if step.kind in _NOTHING}
    return _renamed(graph, gone, [step for step in graph.steps if step.kind not in _NOTHING])


def _renamed(graph: Graph, gone: dict[Value, Value], steps: list[Step]) -> Graph:
    """Return ``graph`` with ``steps``, in which every value of ``gone`` is replaced, however often that leads on."""

    def now(value: Any) -> Any:
        while value in gone:
            value = gone[value]
        return value

    def swapped(structure: Any) -> Any:
        return keras.tree.map_structure(lambda leaf: now(leaf) if isinstance(leaf, Value) else leaf, structure)

    renamed = [replace(step, args=swapped(step.args), kwargs=swapped(dict(step.kwargs))) for step in steps]
    return replace(graph, steps=tuple(renamed), outputs=tuple(now(value) for value in graph.outputs))


def _expanded(graph: Graph, expand: Callable[[Any], list[Any] | None]) -> Graph:
    """Return ``graph`` with each layer replaced by the layers that ``expand`` makes of it, one after the other.

    A shared layer is expanded once.
    """
    numbers = Numbers.after(graph)
    made: dict[int, list[Any] | None] = {}
    steps: list[Step] = []
    for step in graph.steps:
        if id(step.operation) not in made:
            made[id(step.operation)] = expand(step.operation)
        layers = made[id(step.operation)]
        steps += [step] if layers is None else _chain(step, layers, numbers)
    return replace(graph, steps=tuple(steps))


def _chain(step: Step, layers: list[Any], numbers: Numbers) -> list[Step]:
    outputs = [*(numbers() for _ in layers[1:]), step.outputs[0]]
    takes = [step.args, *((value,) for value in outputs[:-1])]
    return [Step(layer, args, {}, (out,)) for layer, args, out in zip(layers, takes, outputs, strict=True)]


def _separated(graph: Graph) -> Graph:
    return _expanded(graph, lambda layer: _halves(layer) if type(layer).__name__ in SEPARABLE else None)


def _halves(layer: Any) -> list[Any]:
    depthwise, pointwise = SEPARABLE[type(layer).__name__]
    config = layer.get_config()
    shared = {name: config[name] for name in ("strides", "padding", "dilation_rate", "depth_multiplier", "kernel_size")}
    first = getattr(keras.layers, depthwise)(**shared, use_bias=False, name=f"{layer.name}_depthwise")
    second = getattr(keras.layers, pointwise)(
        layer.filters, 1, activation=layer.activation, use_bias=layer.use_bias, name=layer.name
    )
    kernel, *others = layer.get_weights()
    between = first.compute_output_shape(shape_into(layer))
    return [built(first, shape_into(layer), [kernel]), built(second, between, others)]


def _with_activations_apart(graph: Graph) -> Graph:
    return _spelled_products(_expanded(graph, _linear_and_activation))


def _linear_and_activation(layer: Any) -> list[Any] | None:
    if type(layer).__name__ not in WEIGHTED:
        return None
    activation = keras.activations.serialize(layer.activation)
    is_linear = activation == "linear"
    name = layer.name if is_linear else f"{layer.name}_linear"
    weights = layer.get_weights()
    if not layer.use_bias:
        weights.append(np.zeros(_bias_shape(layer, weights[0]), np.float32))
    linear = copy_of(layer, weights, activation=None, use_bias=True, name=name, dtype="float32")
    return [linear] if is_linear else [linear, keras.layers.Activation(layer.activation, name=layer.name)]


def _bias_shape(layer: Any, kernel: NDArray[Any]) -> tuple[int, ...]:
    return (int(np.prod([kernel.shape[axis] for axis in channel_axes(type(layer).__name__, kernel.ndim)])),)


def _spelled_products(graph: Graph) -> Graph:
    """Return ``graph`` with each swish as the product that TensorFlow Lite makes of it."""
    numbers = Numbers.after(graph)
    steps: list[Step] = []
    for step in graph.steps:
        name = _activation_name(step)
        if name not in _SPLIT:
            steps.append(step)
            continue
        gate = numbers()
        sigmoid = keras.layers.Activation(_SPLIT[name], name=f"{step.operation.name}_gate")
        steps.append(Step(sigmoid, (step.inputs[0],), {}, (gate,)))
        product = keras.layers.Multiply(name=step.operation.name)
        steps.append(Step(product, ([step.inputs[0], gate],), {}, step.outputs))
    return replace(graph, steps=tuple(steps))


def _activation_name(step: Step) -> str:
    if step.kind == "Activation":
        return str(keras.activations.serialize(step.operation.activation))
    return step.kind.lower() if step.kind in ("Silu", "Swish") else ""


def _folded(graph: Graph) -> Graph:
    users, makers = graph.users(), graph.makers()
    layers: dict[int, Any] = {}
    gone: dict[Value, Value] = {}
    for step in graph.steps:
        maker = makers.get(step.inputs[0]) if step.kind == "BatchNormalization" else None
        if maker is None or maker.kind not in WEIGHTED or graph.only_user(step.inputs[0], users) is not step:
            continue
        calls = [one for one in graph.steps if one.operation is maker.operation or one.operation is step.operation]
        if len(calls) == 2 and _is_on_last_axis(step):
            layers[id(maker.operation)] = _fold(maker.operation, step.operation)
            gone[step.outputs[0]] = step.inputs[0]
    steps = [
        replace(step, operation=layers.get(id(step.operation), step.operation))
        for step in graph.steps
        if step.outputs[0] not in gone
    ]
    return _renamed(graph, gone, steps)


def _is_on_last_axis(step: Step) -> bool:
    rank = len(shape_into(step.operation))
    return bool(step.operation.axis in (-1, rank - 1))


def _fold(layer: Any, normalization: Any) -> Any:
    kernel, bias = layer.get_weights()
    factor, summand = factor_and_summand(normalization)
    axes = channel_axes(type(layer).__name__, kernel.ndim)
    shape = [size if axis in axes else 1 for axis, size in enumerate(kernel.shape)]
    return copy_of(layer, [kernel * factor.reshape(shape), bias * factor + summand])


def factor_and_summand(normalization: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what batch normalization does to each channel with the statistics that it has learned."""
    mean = np.asarray(normalization.moving_mean)
    factor = 1 / np.sqrt(np.asarray(normalization.moving_variance) + normalization.epsilon)
    if normalization.scale:
        factor = factor * np.asarray(normalization.gamma)
    shift = np.asarray(normalization.beta) if normalization.center else np.zeros_like(mean)
    return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)


def _normalizations_spelled(graph: Graph) -> Graph:
    return _expanded(graph, _factor_then_summand)


def _factor_then_summand(layer: Any) -> list[Any] | None:
    found = _affine(layer)
    if found is None:
        return None
    shape = shape_into(layer)
    factor, summand = (np.broadcast_to(one.ravel(), (int(shape[-1] or 1),)).astype(np.float32) for one in found)
    if len(shape) == 2:
        return [
            keras.layers.Rescaling(factor, name=f"{layer.name}_factor"),
            keras.layers.Rescaling(1.0, summand, name=layer.name),
        ]
    each = keras.layers.DepthwiseConv1D if len(shape) == 3 else keras.layers.DepthwiseConv2D
    return [built(each(1, name=layer.name), shape, [factor.reshape((1,) * (len(shape) - 2) + (-1, 1)), summand])]


def _affine(layer: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return factors and summands of channels; None for a layer that does something else."""
    match type(layer).__name__:
        case "BatchNormalization":
            return factor_and_summand(layer)
        case "Rescaling":
            return np.asarray(layer.scale), np.asarray(layer.offset)
        case "Normalization" if not layer.invert:
            deviation = np.sqrt(np.asarray(layer.variance))
            return 1 / deviation, -np.asarray(layer.mean) / deviation
        case _:
            return None
