"""Makes TensorFlow's strategies, and carries arrays from the chief to the other workers."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.errors import Code, ConverterError
from edgeferry.converter.training.strategies import Strategy

__all__ = ["LOST", "broadcast", "gpus", "lost", "strategy_of"]

# What TensorFlow raises in the workers that are left when one is gone.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


def gpus() -> int:
    """Return how many TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


def strategy_of(wanted: Strategy) -> Any:
    """Return TensorFlow's strategy; for several machines it has to be made before anything is computed."""
    match wanted:
        case Strategy.MULTI_WORKER:
            return tf.distribute.MultiWorkerMirroredStrategy()
        case Strategy.MIRRORED:
            return tf.distribute.MirroredStrategy()
        case _:
            return tf.distribute.get_strategy()


def broadcast(strategy: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Return the first replica's ``array``; the others give one of the same shape."""
    if strategy.num_replicas_in_sync == 1:
        return array

    def given(context: Any) -> Any:
        is_first = context.replica_id_in_sync_group == 0
        return tf.constant(array if is_first else np.zeros_like(array), tf.float64)  # exact for all that counts

    shared = strategy.experimental_distribute_values_from_function(given)
    summed: NDArray[Any] = strategy.reduce(tf.distribute.ReduceOp.SUM, shared, axis=None).numpy()
    return summed.astype(array.dtype)


def lost(err: Exception) -> ConverterError:
    """Return the error for a worker that is gone."""
    kind = type(err).__name__.removesuffix("Error")
    return ConverterError(f"a worker is lost ({kind}); start all again with --resume", code=Code.WORKER_LOST)
