"""What training makes smaller: how far a model's scores are from labels, or from those of a teacher.

Scores are what stands before a last softmax or sigmoid. The loss is what suits outputs and labels:

| last step | labels | loss |
|---|---|---|
| softmax, or no activation and several scores | classes | cross-entropy |
| sigmoid, one score | classes 0 and 1 | cross-entropy |
| anything | real numbers | mean squared error |
| anything | none | distance from the float model's answers |
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.training.activations import activation_of
from edgeferry.converter.training.graph import Graph

__all__ = ["Loss", "divergence", "label_loss"]

# From scores and labels, or a teacher's scores, to the loss of each sample, [batch].
Loss = Callable[[Sequence[Any], Any], Any]


def label_loss(graph: Graph, shapes: Sequence[tuple[int | None, ...]], labels: NDArray[Any], where: str) -> Loss:
    """Return the loss for a model with one output.

    Args:
        graph: Of the model.
        shapes: Of its outputs, the batch first.
        labels: Of all samples.
        where: The file that they stand in, for messages.

    Raises:
        SamplesError: The labels do not fit the output.
    """
    if len(shapes) != 1:
        raise SamplesError(
            f"{where}: has labels y, but the model has {len(shapes)} outputs; leave y out, and the model is trained to "
            "answer as it does now"
        )
    shape, kind = shapes[0], _last_activation(graph, 0)
    if labels.dtype.kind == "f" or (shape[-1] == 1 and kind != "sigmoid"):
        _check_size(shape, labels, where)
        return _numbers
    classes = max(2, int(shape[-1] or 0))
    if labels.max() >= classes:
        raise SamplesError(f"{where}: y has label {labels.max()}, but the model tells {classes} classes apart")
    if labels.ndim != len(shape) - 1:
        raise SamplesError(
            f"{where}: y has shape {_shown(labels.shape)}, wanted one class for each of {_shown(shape[:-1])}"
        )
    return _binary if shape[-1] == 1 else _classes


def divergence(graph: Graph, temperature: float) -> Loss:
    """Return how far scores are from a teacher's: of classes the Kullback-Leibler divergence, else the squared error.

    Source: G. Hinton, O. Vinyals and J. Dean, arXiv:1503.02531; the factor keeps gradients as large as those of labels.
    """
    kinds = [_last_activation(graph, at) for at in range(len(graph.outputs))]

    def loss(scores: Sequence[Any], wanted: Any) -> Any:
        parts = [
            _one_divergence(kind, one, other, temperature)
            for kind, one, other in zip(kinds, scores, wanted, strict=True)
        ]
        return tf.add_n(parts)

    return loss


def _one_divergence(kind: str, scores: Any, wanted: Any, temperature: float) -> Any:
    if kind == "softmax":
        found, target = (tf.nn.log_softmax(one / temperature) for one in (scores, wanted))
        return temperature**2 * _means(tf.reduce_sum(tf.exp(target) * (target - found), axis=-1))
    if kind == "sigmoid":
        target = tf.sigmoid(wanted / temperature)
        return temperature**2 * _means(tf.nn.sigmoid_cross_entropy_with_logits(target, scores / temperature))
    return _squares(scores, wanted)


def _last_activation(graph: Graph, at: int) -> str:
    maker = graph.makers().get(graph.outputs[at])
    return activation_of(maker) if maker is not None else ""


def _check_size(shape: Sequence[int | None], labels: NDArray[Any], where: str) -> None:
    wanted = math.prod(length or 1 for length in shape[1:])
    if labels[0].size != wanted:
        raise SamplesError(f"{where}: y has {labels[0].size} numbers for each sample, the model's output {wanted}")


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join('samples' if at == 0 else str(size) for at, size in enumerate(shape))})"


def _numbers(scores: Sequence[Any], wanted: Any) -> Any:
    return _squares(scores[0], tf.reshape(tf.cast(wanted, tf.float32), tf.shape(scores[0])))


def _squares(scores: Any, wanted: Any) -> Any:
    return _means(tf.square(scores - wanted))


def _classes(scores: Sequence[Any], labels: Any) -> Any:
    return _means(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores[0]))


def _binary(scores: Sequence[Any], labels: Any) -> Any:
    return _means(
        tf.nn.sigmoid_cross_entropy_with_logits(tf.reshape(tf.cast(labels, tf.float32), tf.shape(scores[0])), scores[0])
    )


def _means(values: Any) -> Any:
    """Return the mean over all but the first axis."""
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)
