"""Functions whose variables have become constants: of TensorFlow 1, whose variables cannot be saved again."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

__all__ = ["without_variables"]


def without_variables(function: Any) -> Callable[..., dict[str, Any]]:
    """Return what ``function``, a signature of a loaded SavedModel, computes, with its variables as they are now."""
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    # The loader of such graphs has inputs and outputs in the order of their names (saved_model/load_v1_in_v2.py).
    inputs, outputs = sorted(function.structured_input_signature[1]), sorted(function.structured_outputs)

    def compute(**tensors: Any) -> dict[str, Any]:
        found = tf.nest.flatten(frozen(*(tensors[name] for name in inputs)))
        return dict(zip(outputs, found, strict=True))

    return compute
