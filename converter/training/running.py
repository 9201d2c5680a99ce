"""Runs a Keras model on arrays."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["run"]

_BATCH = 256


def run(model: Any, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the outputs of ``model`` for all samples, as it is used and not as it is trained."""
    compute = tf.function(lambda batch: keras.tree.flatten(model(batch, training=False)))
    starts = range(0, len(inputs[0]), _BATCH)
    parts = [compute([tf.convert_to_tensor(one[at : at + _BATCH]) for one in inputs]) for at in starts]
    return [np.concatenate([part[at].numpy() for part in parts]) for at in range(len(parts[0]))]
