"""What a teacher says: its answers as scores, and the places that its layers look at.

Answers are taken once for all samples. A layer's places are the sum of squares over its channels, scaled to length 1
(S. Zagoruyko and N. Komodakis, arXiv:1612.03928, section 3.1), so that layers of different widths can be compared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError, SourceError
from edgeferry.converter.training.activations import activation_of
from edgeferry.converter.training.graph import Graph
from edgeferry.converter.training.losses import Loss

__all__ = ["attention", "check_teacher", "distilled", "layer_outputs", "scores_of"]

_LEAST = 1e-12  # of a probability; its logarithm is about -28


def check_teacher(name: str, teacher: Any, student: Any) -> None:
    """Do nothing when ``teacher`` takes and gives what ``student`` does.

    Raises:
        SourceError: It does not; ``name`` is that of its file.
    """
    for what, found, wanted in (
        ("inputs", teacher.inputs, student.inputs),
        ("outputs", teacher.outputs, student.outputs),
    ):
        shapes = [tuple(tensor.shape) for tensor in found]
        if shapes != [tuple(tensor.shape) for tensor in wanted]:
            expected = [tuple(tensor.shape) for tensor in wanted]
            raise SourceError(f"{name}: as a teacher it needs {what} of shape {expected}, and has {shapes}")


def scores_of(answers: Sequence[NDArray[Any]], graph: Graph) -> list[NDArray[np.float32]]:
    """Return the scores behind a teacher's answers: logarithms of probabilities, numbers as they are.

    Args:
        answers: One array for each output, the samples on the first axis.
        graph: Of the student, whose last steps say what the outputs are.
    """
    makers = graph.makers()
    last = [activation_of(makers[value]) if value in makers else "" for value in graph.outputs]
    return [_scores(one, kind) for one, kind in zip(answers, last, strict=True)]


def layer_outputs(model: Any, names: Sequence[str], where: str) -> list[Any]:
    """Return the outputs of layers, of a model as Keras knows it.

    Raises:
        RequestError: There is no such layer.
    """
    known = {layer.name: layer for layer in model.layers}
    for name in names:
        if name not in known:
            raise RequestError(f"distillation.features: {where} has no layer {name!r}; it has {', '.join(known)}")
    return [known[name].output for name in names]


def attention(tensor: Any) -> Any:
    """Return where a layer looks: a row for each sample, [batch, places]."""
    squares = tf.reduce_sum(tf.square(tensor), axis=-1)
    return tf.math.l2_normalize(tf.reshape(squares, [tf.shape(squares)[0], -1]), axis=1)


def distilled(labels: Loss | None, answers: Loss, *, outputs: int, weight: float, features_weight: float) -> Loss:
    """Return the loss of a student.

    Args:
        labels: Of scores and labels; None where there are no labels.
        answers: Of scores and the teacher's.
        outputs: How many scores there are; behind them come layers.
        weight: Of the teacher's answers; the rest is that of the labels.
        features_weight: Of the layers' distances.

    The targets are the labels where there are any, the teacher's scores, and its layers' places.
    """

    def loss(scores: Sequence[Any], targets: Sequence[Any]) -> Any:
        given, taught = (targets[:1], targets[1:]) if labels is not None else ((), targets)
        found, looked = scores[:outputs], scores[outputs:]
        total = answers(found, taught[:outputs])
        if labels is not None:
            total = weight * total + (1 - weight) * labels(found, given[0])
        for one, wanted in zip(looked, taught[outputs:], strict=True):
            total += features_weight * tf.reduce_mean(tf.square(attention(one) - wanted), axis=1)
        return total

    return loss


def _scores(answers: NDArray[Any], kind: str) -> NDArray[np.float32]:
    if kind == "softmax":
        answers = np.log(np.maximum(answers, _LEAST))
    elif kind == "sigmoid":
        likely = np.clip(answers, _LEAST, 1 - 1e-7)
        answers = np.log(likely) - np.log1p(-likely)
    return np.asarray(answers, np.float32)
