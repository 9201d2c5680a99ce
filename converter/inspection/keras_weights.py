"""Which layer a stored weight belongs to, and what it is called there. Pure.

Keras 3 stores weights below the class of their layer and numbers them; newer files also name the layer. Keras 2 names
layer and weight. Source: ``_walk_saveable`` and ``_save_container_state`` in ``keras/src/saving/saving_lib.py``.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgeferry.converter.inspection.keras_facts import LayerFacts, WeightFacts

__all__ = ["Stored", "place_by_layer", "place_by_path"]

_STATISTICS = re.compile(r"moving_|seed|running_|iteration|count$")
_KERNEL_CLASSES = re.compile(r"(?:Dense|Conv\dD|Conv\dDTranspose|EinsumDense)$")

Placed = tuple[tuple[LayerFacts, ...], tuple[WeightFacts, ...]]


@dataclass(frozen=True, slots=True)
class Stored:
    """An array in the file.

    Attributes:
        path: Groups and name: ``("layers", "conv2d", "vars", "0")``.
        owner: The layer that the file names beside it; empty where it names none.
    """

    path: tuple[str, ...]
    owner: str
    facts: WeightFacts

    @property
    def is_optimizers(self) -> bool:
        """Return whether it belongs to the optimizer and not to the model."""
        return self.path[0] in ("optimizer", "optimizer_weights")


def place_by_path(layers: tuple[LayerFacts, ...], stored: Sequence[Stored]) -> Placed:
    """Return the layers with their weights, and what belongs to none of them, from the paths of Keras 3.

    Args:
        layers: In the order of the model.
        stored: All arrays; of paths such as ``layers/conv2d_1/vars/0``.
    """
    placed, rest = _place_below(layers, stored, ("layers",))
    return placed, tuple(one.facts for one in rest)


def place_by_layer(layers: tuple[LayerFacts, ...], stored: Sequence[Stored]) -> Placed:
    """Return the layers with their weights, and what belongs to none of them, from the names of HDF5 files.

    Args:
        layers: In the order of the model.
        stored: All arrays; of paths such as ``model_weights/conv2d/conv2d/kernel:0``. The weights of a model within the
            model lie with the outer one and carry the inner layer's name.
    """
    by_outer: dict[str, list[Stored]] = {}
    for one in stored:
        by_outer.setdefault(one.path[1] if len(one.path) > 2 else "", []).append(one)
    placed = tuple(_with_named(layer, by_outer.pop(layer.name, [])) for layer in layers)
    return placed, tuple(one.facts for rest in by_outer.values() for one in rest)


def _place_below(
    layers: tuple[LayerFacts, ...], stored: Sequence[Stored], prefix: tuple[str, ...]
) -> tuple[tuple[LayerFacts, ...], list[Stored]]:
    size = len(prefix)
    below = [one for one in stored if one.path[:size] == prefix and len(one.path) > size + 1]
    rest = [one for one in stored if one not in below]
    folders = _folders(layers, below, size)
    placed = []
    for layer in layers:
        folder = folders[layer.name]
        own = [one for one in below if one.path[size] == folder]
        below = [one for one in below if one.path[size] != folder]
        placed.append(_with_numbered(layer, own, (*prefix, folder)))
    return tuple(placed), [*rest, *below]


def _folders(layers: Iterable[LayerFacts], below: Iterable[Stored], size: int) -> dict[str, str]:
    """Return the folder of each layer: the one where its name stands, else the one that Keras would call so."""
    told = {one.owner: one.path[size] for one in below if one.owner and len(one.path) == size + 3}
    counts: Counter[str] = Counter()
    folders = {}
    for layer in layers:
        kind = _snake_case(layer.class_name)
        folders[layer.name] = told.get(layer.name) or (f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
    return folders


def _with_numbered(layer: LayerFacts, own: list[Stored], folder: tuple[str, ...]) -> LayerFacts:
    layers = layer.layers
    if "layers" in {one.path[len(folder)] for one in own}:
        layers, own = _place_below(layers, own, (*folder, "layers"))
    own = sorted(own, key=lambda one: (one.path[:-1], _number(one.path[-1])))
    names = _names(layer, len(own))
    weights = [
        _called(one.facts, names[at] if names else "/".join(_short(one.path, folder))) for at, one in enumerate(own)
    ]
    return msgspec.structs.replace(layer, weights=tuple(weights), layers=layers)


def _with_named(layer: LayerFacts, own: list[Stored]) -> LayerFacts:
    layers = list(layer.layers)
    for at, inner in enumerate(layers):
        inners = [one for one in own if inner.name in one.path[2:-1]]
        own = [one for one in own if one not in inners]
        layers[at] = _with_named(inner, inners)
    mine = tuple(_called(one.facts, one.path[-1].removesuffix(":0")) for one in own)
    return msgspec.structs.replace(layer, weights=mine, layers=tuple(layers))


def _called(weight: WeightFacts, name: str) -> WeightFacts:
    is_learned = weight.is_trainable and not _STATISTICS.search(name) and not weight.type.startswith("u")
    return msgspec.structs.replace(weight, name=name, is_trainable=is_learned)


def _short(path: tuple[str, ...], folder: tuple[str, ...]) -> list[str]:
    return [part for part in path[len(folder) :] if part != "vars"]


def _names(layer: LayerFacts, count: int) -> list[str]:
    """Return what the weights of Keras's commonest layers are called; nothing for others, or for another number."""
    config = layer.config
    if layer.class_name == "BatchNormalization":
        parts = {"gamma": _is_on(config, "scale"), "beta": _is_on(config, "center")}
        names = [*(name for name, is_there in parts.items() if is_there), "moving_mean", "moving_variance"]
    elif _KERNEL_CLASSES.search(layer.class_name):
        names = ["kernel", *(["bias"] if _is_on(config, "use_bias") else [])]
    elif layer.class_name == "Embedding":
        names = ["embeddings"]
    else:
        return []
    return names if len(names) == count else []


def _is_on(config: dict[str, Any], key: str) -> bool:
    return bool(config.get(key, True))


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0


def _snake_case(name: str) -> str:
    """Return ``name`` as ``keras.src.utils.naming.to_snake_case`` writes it."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
