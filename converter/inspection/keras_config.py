"""From the JSON that Keras writes of a model to its layers and its training, Keras 2 and 3 alike. Pure.

Source: ``keras/src/saving/serialization_lib.py`` (Keras 3) and the ``model_config`` of Keras 2's HDF5 files; both have
``class_name`` and ``config``, and differ in how they write what a layer is fed by.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from edgeferry.converter.inspection.keras_facts import KerasInput, LayerFacts, TrainingFacts

__all__ = ["input_facts", "layer_facts", "output_names", "training_facts", "unsafe_layers"]

_INPUT = "InputLayer"
_WRAPPED = ("layer", "forward_layer", "backward_layer", "cell")  # of wrappers and recurrent layers
_ABOUT_LAYERS = frozenset({"layers", *_WRAPPED, "cells", "input_layers", "output_layers"})
_COMPILED = {"optimizer", "optimizer_config", "loss", "metrics"}


def layer_facts(model: Mapping[str, Any]) -> tuple[LayerFacts, ...]:
    """Return the layers of a serialized model; none where it is a class of the user's own that lists none."""
    return tuple(_layer(entry) for entry in _entries(_config(model)))


def input_facts(model: Mapping[str, Any]) -> tuple[KerasInput, ...]:
    """Return the inputs that a serialized model declares: of its input layers, or of the shape it was built for."""
    config = _config(model)
    inputs = [_input(entry) for entry in _entries(config) if entry.get("class_name") == _INPUT]
    wanted = _names(config.get("input_layers"))
    if wanted:
        inputs.sort(key=lambda one: wanted.index(one.name) if one.name in wanted else len(wanted))
    if not inputs:  # Sequential models of Keras 2 say it with their first layer
        first = next(_entries(config), {})
        shape = _shape(_config(first).get("batch_input_shape") or config.get("build_input_shape"))
        inputs = [KerasInput(_name(first), _type(_config(first)), shape)] if shape else []
    return tuple(inputs)


def output_names(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the layers that give the outputs; of a Sequential model the last one."""
    config = _config(model)
    entries = list(_entries(config))
    named = _names(config.get("output_layers"))
    if named or not entries or "output_layers" in config:
        return tuple(named)
    return (_name(entries[-1]),)


def training_facts(compiled: Any) -> TrainingFacts | None:
    """Return what ``compile_config`` (Keras 3) or ``training_config`` (HDF5) says; None for nothing."""
    if not compiled or not isinstance(compiled, Mapping):
        return None
    optimizer = compiled.get("optimizer") or compiled.get("optimizer_config") or ""
    serialized = optimizer if isinstance(optimizer, Mapping) else {"class_name": optimizer}
    return TrainingFacts(
        optimizer=str(serialized.get("class_name", "")),
        optimizer_config=dict(_config(serialized)),
        loss=_spelled(compiled.get("loss")),
        metrics=_spelled(compiled.get("metrics")),
        other={key: _spelled(value) for key, value in compiled.items() if key not in _COMPILED and value is not None},
    )


def unsafe_layers(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the layers whose code stands in the file itself, as of a Lambda layer."""
    return tuple(dict.fromkeys(_name(layer) for layer in _all_layers(model) if _has_code(layer)))


def _all_layers(model: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in _entries(_config(model)):
        yield entry
        yield from _all_layers(entry)


def _has_code(layer: Mapping[str, Any]) -> bool:
    own = {key: value for key, value in _config(layer).items() if key not in _ABOUT_LAYERS}
    return layer.get("class_name") == "Lambda" or _has_lambda(own)


def _has_lambda(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("class_name") == "__lambda__" or any(_has_lambda(one) for one in value.values())
    return isinstance(value, list) and any(_has_lambda(one) for one in value)


def _layer(entry: Mapping[str, Any]) -> LayerFacts:
    config = _config(entry)
    package = str(entry.get("registered_name") or "").partition(">")
    return LayerFacts(
        name=_name(entry),
        class_name=str(entry.get("class_name", "")),
        package=package[0] if package[1] else "",
        input_shape=_input_shape(entry),
        inbound=tuple(dict.fromkeys(_inbound(entry.get("inbound_nodes")))),
        is_trainable=bool(config.get("trainable", True)),
        config={key: _spelled(value) for key, value in config.items() if key not in _ABOUT_LAYERS},
        layers=tuple(_layer(one) for one in _entries(config)),
    )


def _entries(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the serialized layers within a layer's or a model's config."""
    for key in ("layers", "cells"):
        found = config.get(key)
        yield from (one for one in (found if isinstance(found, list) else ()) if _is_serialized(one))
    yield from (config[key] for key in _WRAPPED if _is_serialized(config.get(key)))


def _is_serialized(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_name" in value and isinstance(value.get("config"), Mapping | list)


def _config(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    config = entry.get("config")
    if isinstance(config, list):  # of a Sequential model of Keras 2.1 and before
        return {"layers": config}
    return config if isinstance(config, Mapping) else {}


def _name(entry: Mapping[str, Any]) -> str:
    return str(_config(entry).get("name") or entry.get("name") or entry.get("class_name", ""))


def _input(entry: Mapping[str, Any]) -> KerasInput:
    config = _config(entry)
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    return KerasInput(_name(entry), _type(config), _shape(shape))


def _type(config: Mapping[str, Any]) -> str:
    found = config.get("dtype")
    return str(_config(found).get("name", "")) if isinstance(found, Mapping) else str(found or "float32")


def _input_shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    built = entry.get("build_config")
    config = _config(entry)
    found = built.get("input_shape") if isinstance(built, Mapping) else None
    found = found or config.get("batch_input_shape") or config.get("batch_shape")
    return _shape(found or next((tensor.get("shape") for tensor in _tensors(entry.get("inbound_nodes"))), None))


def _shape(found: Any) -> tuple[int, ...]:
    """Return a shape with -1 for what is open; empty for what is no single shape."""
    if not isinstance(found, list) or not all(size is None or isinstance(size, int) for size in found):
        return ()
    return tuple(-1 if size is None else size for size in found)


def _inbound(nodes: Any) -> Iterator[str]:
    """Yield the names of the layers in inbound nodes: of Keras 3's tensors, or of lists such as ``["conv", 0, 0]``."""
    yield from (str(tensor["keras_history"][0]) for tensor in _tensors(nodes))
    if isinstance(nodes, list) and len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
        yield nodes[0]
    elif isinstance(nodes, list):
        for node in nodes:
            yield from _inbound(node) if isinstance(node, list) else ()


def _tensors(nodes: Any) -> Iterator[Mapping[str, Any]]:
    """Yield what Keras 3 notes of the tensors in inbound nodes: their shape, and the layer that made them."""
    if isinstance(nodes, Mapping):
        history = nodes.get("keras_history")
        if isinstance(history, list) and history:
            yield nodes
            return
        nodes = list(nodes.values())
    for node in nodes if isinstance(nodes, list) else ():
        yield from _tensors(node)


def _names(found: Any) -> list[str]:
    return list(_inbound(found))


def _spelled(value: Any) -> Any:
    """Return ``value`` with serialized objects cut down to what tells them apart: class and arguments."""
    if isinstance(value, Mapping):
        if "class_name" in value and isinstance(value.get("config"), Mapping):
            return _object(value)
        if value.get("class_name") == "function":  # Keras 3 writes functions with their name as config
            return value.get("config")
        return {str(key): _spelled(one) for key, one in value.items()}
    return [_spelled(one) for one in value] if isinstance(value, list) else value


def _object(value: Mapping[str, Any]) -> Any:
    arguments = {key: _spelled(one) for key, one in value["config"].items() if one is not None}
    if value["class_name"] == "DTypePolicy":
        return arguments.get("name", "")
    return {"class_name": value["class_name"], **arguments} if arguments else value["class_name"]
