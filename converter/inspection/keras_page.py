"""How a Keras model is laid out for people. Pure."""

import json
from collections.abc import Iterable
from typing import Any

from edgeferry.converter.inspection.keras_facts import KerasFacts, LayerFacts, TrainingFacts, WeightFacts
from edgeferry.converter.inspection.page import Branch, Section, counted, human_bytes, human_count, shape_text

__all__ = ["keras_facts_lines", "keras_sections", "keras_tree", "keras_warnings"]

_LONGEST_VALUE = 100
# What tells a layer from another of its class; other arguments stand in JSON.
_TELLING = (
    *("units", "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "depth_multiplier"),
    *("pool_size", "activation", "rate", "input_dim", "output_dim", "target_shape", "return_sequences", "go_backwards"),
    *("num_heads", "key_dim", "axis", "max_value", "negative_slope", "size", "interpolation", "epsilon", "scale"),
)
_DEFAULTS: dict[str, Any] = {
    "strides": [1, 1],
    "padding": "valid",
    "dilation_rate": [1, 1],
    "groups": 1,
    "activation": "linear",
    "return_sequences": False,
    "go_backwards": False,
    "axis": -1,
    "negative_slope": 0.0,
    "epsilon": 0.001,
    "scale": True,
    "max_value": None,
    "depth_multiplier": 1,
}


def keras_facts_lines(facts: KerasFacts) -> list[tuple[str, str]]:
    """Return what can be said of the model in a line each."""
    wrote = f"Keras {facts.keras_version}" if facts.keras_version else "a Keras that does not say"
    layers = sum(1 for _ in _all_layers(facts.layers))
    frozen = facts.parameters - facts.trainable_parameters
    training = _training(facts.training) if facts.training else [("training", "the file does not say")]
    return [
        ("model", f"{facts.class_name} {facts.name!r}, {counted(layers, 'layer')}"),
        ("written by", " ".join(filter(None, [wrote, facts.backend and f"({facts.backend})", facts.saved_at]))),
        (
            "parameters",
            f"{facts.parameters:,}, {human_bytes(facts.parameter_bytes)}; {frozen:,} not trainable"
            if facts.parameters
            else "none in the file",
        ),
        *training,
        *([("optimizer state", human_bytes(facts.optimizer_bytes))] if facts.optimizer_bytes else []),
    ]


def keras_sections(facts: KerasFacts) -> list[Section]:
    """Return the tables."""
    inputs = tuple(("in", one.name, one.type, shape_text(one.shape)) for one in facts.inputs)
    outputs = tuple(("out", name, "", "") for name in facts.outputs)
    rows = tuple(_row(layer, depth) for layer, depth in _all_layers(facts.layers))
    unplaced = tuple((one.name, one.type, shape_text(one.shape), human_count(one.parameters)) for one in facts.unplaced)
    return [
        Section("Inputs and outputs", ("", "name", "type", "shape"), (*inputs, *outputs)),
        Section("Layers", ("layer", "!class", "input", ">parameters", "configured as"), rows),
        Section("Weights of layers that the file does not name", ("name", "type", "shape", ">parameters"), unplaced),
    ]


def keras_warnings(facts: KerasFacts) -> list[str]:
    """Return what a converter may stumble over."""
    warnings = []
    if facts.unsafe:
        names = ", ".join(facts.unsafe)
        warnings.append(f"has Python code of its own in {names}, which edgeferry does not run; export a SavedModel")
    own = dict.fromkeys(one.class_name for one, _ in _all_layers(facts.layers) if one.package)
    if own:
        warnings.append(f"needs classes that are not Keras's own: {', '.join(own)}; export a SavedModel")
    if not facts.layers:
        warnings.append(f"is of the class {facts.class_name}, whose layers are not in the file; export a SavedModel")
    return warnings


def keras_tree(facts: KerasFacts) -> tuple[Branch, ...]:
    """Return the layers; those within a layer below it, and weights below the layer that owns them."""
    return tuple(_branch(layer) for layer in facts.layers)


def _training(training: TrainingFacts) -> list[tuple[str, str]]:
    rate = training.optimizer_config.get("learning_rate")
    optimizer = training.optimizer or "none"
    lines = [("optimizer", f"{optimizer}, learning rate {rate:g}" if isinstance(rate, int | float) else optimizer)]
    for label, value in (("loss", training.loss), ("metrics", training.metrics)):
        if value is not None:
            lines.append((label, _plain(value)))
    return lines


def _all_layers(layers: Iterable[LayerFacts], depth: int = 0) -> Iterable[tuple[LayerFacts, int]]:
    for layer in layers:
        yield layer, depth
        yield from _all_layers(layer.layers, depth + 1)


def _row(layer: LayerFacts, depth: int) -> tuple[str, ...]:
    frozen = "" if layer.is_trainable else " (frozen)"
    return (
        "  " * depth + layer.name,
        f"{layer.class_name}{frozen}",
        shape_text(layer.input_shape) if layer.input_shape else "",
        f"{layer.parameters:,}" if layer.parameters else "",
        _configured(layer),
    )


def _configured(layer: LayerFacts) -> str:
    config = layer.config
    told = {key: config[key] for key in _TELLING if key in config and config[key] != _DEFAULTS.get(key, ...)}
    return ", ".join(f"{key} {_plain(value)}" for key, value in told.items())


def _branch(layer: LayerFacts) -> Branch:
    fed = f"from {', '.join(layer.inbound)}" if layer.inbound else ""
    asides = [_configured(layer), f"{layer.parameters:,} parameters" if layer.parameters else "", fed]
    children = (*map(_weight, layer.weights), *map(_branch, layer.layers))
    return Branch(f"{layer.name}: {layer.class_name}", "; ".join(filter(None, asides)), children)


def _weight(weight: WeightFacts) -> Branch:
    state = "" if weight.is_trainable else ", not trainable"
    return Branch(weight.name, f"{weight.type}{shape_text(weight.shape)}, {human_bytes(weight.size_bytes)}{state}")


def _plain(value: Any) -> str:
    """Return a configuration's value in one short line."""
    if isinstance(value, list) and all(isinstance(one, int) for one in value):
        return "x".join(map(str, value))
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, dict) and "class_name" in value:
        return str(value["class_name"])
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
