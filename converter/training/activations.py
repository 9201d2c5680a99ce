"""What an activation step computes, whichever way Keras spells it."""

from typing import Any

import keras

from edgeferry.converter.training.graph import Step
from edgeferry.converter.training.kinds import ACTIVATIONS, Role, role_of

__all__ = ["FUSED", "activation_of", "has_integer_kernel"]

FUSED = frozenset({"relu", "relu6"})  # done inside of the operation before, at no cost


def activation_of(step: Step) -> str:
    """Return ``relu``, ``softmax`` and so on; empty for what is no activation, or one of an unusual form."""
    if role_of(step.kind) is not Role.ACTIVATION:
        return ""
    operation = step.operation
    match step.kind:
        case "Activation":
            return str(keras.activations.serialize(operation.activation))
        case "ReLU":
            return _relu(operation)
        case "Softmax":
            return "softmax" if operation.axis == -1 else ""
        case "LeakyReLU" | "LeakyRelu":
            return "leaky_relu"
        case kind:
            return kind.lower()


def has_integer_kernel(step: Step) -> bool:
    """Return whether TensorFlow Lite can do ``step`` with integers."""
    role = role_of(step.kind)
    return activation_of(step) in ACTIVATIONS if role is Role.ACTIVATION else role is not Role.UNKNOWN


def _relu(layer: Any) -> str:
    if layer.threshold:
        return ""
    if layer.negative_slope:
        return "leaky_relu" if layer.max_value is None else ""
    return {None: "relu", 6.0: "relu6"}.get(layer.max_value, "")
