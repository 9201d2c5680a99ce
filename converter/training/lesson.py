"""What a model learns: a loss, and for each sample what its scores are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.formats import keras_model
from edgeferry.converter.samples import Samples
from edgeferry.converter.training.distillation import attention, check_teacher, distilled, layer_outputs, scores_of
from edgeferry.converter.training.graph import Graph
from edgeferry.converter.training.losses import Loss, divergence, label_loss
from edgeferry.converter.training.recipe import Distillation, Recipe, Technique
from edgeferry.converter.training.running import run

__all__ = ["Lesson", "prepared"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a model learns.

    Attributes:
        loss: Of its scores, with the watched layers behind them, and the targets.
        targets: One array for each thing to compare with, the samples on the first axis.
        watched: Names of layers of the model.
    """

    loss: Loss
    targets: tuple[NDArray[Any], ...]
    watched: tuple[str, ...] = ()


def prepared(
    source: keras_model.KerasSource, graph: Graph, samples: Samples, inputs: Sequence[NDArray[Any]], recipe: Recipe
) -> Lesson:
    """Return what ``recipe`` has a model learn: labels where there are any, a teacher where one is wanted.

    Without either the model learns to answer as the source does.

    Args:
        source: The model that was given.
        graph: Of the model that is trained, in its plain form.
        samples: To learn from.
        inputs: Its arrays, in the order of the model's inputs.
        recipe: What is asked for.

    Raises:
        ConverterError: Labels or teacher do not fit the model.
    """
    shapes = [tuple(tensor.shape) for tensor in source.model.outputs]
    has_teacher = Technique.DISTILLATION in recipe.techniques
    labels = samples.labels
    by_labels = None if labels is None else label_loss(graph, shapes, labels, str(samples.path))
    given = () if labels is None else (labels,)
    if by_labels is not None and not has_teacher:
        return Lesson(lambda scores, targets: by_labels(scores, targets[0]), given)
    wanted = recipe.distillation if has_teacher else Distillation(temperature=1)
    teacher = _teacher(wanted, source)
    pairs = [pair.split("=") for pair in wanted.features]
    taught = scores_of(run(teacher, inputs), graph)
    looked = _places(teacher, [name for _, name in pairs], inputs)
    loss = distilled(
        by_labels,
        divergence(graph, wanted.temperature),
        outputs=len(shapes),
        weight=wanted.weight,
        features_weight=wanted.features_weight,
    )
    return Lesson(loss, (*given, *taught, *looked), tuple(name for name, _ in pairs))


def _teacher(wanted: Distillation, source: keras_model.KerasSource) -> Any:
    if wanted.teacher is None:
        return source.model
    path = Path(wanted.teacher)
    teacher = keras_model.load(path).model
    check_teacher(path.name, teacher, source.model)
    return teacher


def _places(teacher: Any, names: Sequence[str], inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    if not names:
        return []
    outputs = layer_outputs(teacher, names, "the teacher")
    looking = keras.Model(teacher.inputs, [keras.layers.Lambda(attention)(output) for output in outputs])
    return [np.asarray(one) for one in run(looking, inputs)]
