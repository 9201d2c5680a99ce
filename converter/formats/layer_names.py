"""Operations that are called after the layers that they belong to.

Keras opens each layer's name scope twice, once to build it and once to call it, so that TensorFlow calls the operations
of `conv` after `conv_1`, which may be another layer's name. What is told of a conversion names the user's own layers.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

__all__ = ["layers_keep_their_names"]


@contextlib.contextmanager
def layers_keep_their_names(model: Any) -> Iterator[None]:
    """Have operations that are traced meanwhile called ``layer/operation``; ``model/layer/operation`` in inner models.

    Args:
        model: A Keras model with inputs of its own.
    """
    layers = list(_paths(model, ""))
    for layer, path in layers:
        object.__setattr__(layer, "call", _scoped(layer.call, path))  # past Keras, which tracks what is set
    try:
        yield
    finally:
        for layer, _ in layers:
            object.__delattr__(layer, "call")


def _paths(model: Any, above: str) -> Iterator[tuple[Any, str]]:
    for layer in model.layers:
        path = f"{above}{layer.name}/"
        yield layer, path
        if hasattr(layer, "layers"):
            yield from _paths(layer, path)


def _scoped(call: Callable[..., Any], path: str) -> Callable[..., Any]:
    @functools.wraps(call)
    def scoped(*inputs: Any, **options: Any) -> Any:
        with tf.name_scope(path):  # what ends with a slash is taken as it is
            return call(*inputs, **options)

    return scoped
