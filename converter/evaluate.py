"""How well a quantized model does, and whether the float ``.tflite`` is still the source model. Pure.

Where the samples have labels, the metric is accuracy. Without labels a candidate is compared with the float model: by
the share of samples to which both give the same class, where the outputs are probabilities; else by the share of the
float outputs' variance that the candidate explains (the coefficient of determination R2), the least of all outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError

__all__ = ["Difference", "Evaluation", "Metric", "classes_of", "evaluate", "largest_difference"]

Outputs = Mapping[str, NDArray[Any]]  # by name; the samples on the first axis, then the tensor's shape

# Between TensorFlow's kernels and LiteRT's: single precision over some hundred layers gives 1e-4 at most.
_ALLOWED_DIFFERENCE = 1e-3
_SUM_TOLERANCE = 1e-3


class Metric(StrEnum):
    """What a score counts; 1 is the best of each."""

    ACCURACY = "accuracy"
    TOP1_AGREEMENT = "top1_agreement"
    R2_AGREEMENT = "r2_agreement"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A candidate beside the float model, on the same samples.

    Attributes:
        float_score: Of the float model; 1 where the metric is an agreement with it.
        score: Of the candidate.
        samples: How many there were.
    """

    metric: Metric
    float_score: float
    score: float
    samples: int

    @property
    def drop(self) -> float:
        """Return what the candidate loses; negative when it does better."""
        return self.float_score - self.score


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a converted model strays furthest from its source.

    Attributes:
        sample: Index of the sample; -1 where the outputs cannot be compared at all.
    """

    output: str
    sample: int
    sentence: str


def evaluate(reference: Outputs, candidate: Outputs, labels: NDArray[np.int64] | None) -> Evaluation:
    """Return how ``candidate`` does beside the float model's ``reference``.

    Args:
        reference: Outputs of the float model.
        candidate: Outputs of the candidate for the same samples, as real numbers.
        labels: Class of each sample, where they are known.

    Raises:
        SamplesError: There are labels, but the outputs are no scores of classes.
    """
    samples = len(next(iter(reference.values())))
    if labels is not None:
        wanted, found = _classes(_scores(reference)), _classes(_scores(candidate))
        return Evaluation(Metric.ACCURACY, _share(wanted == labels), _share(found == labels), samples)
    if _are_probabilities(reference):
        wanted, found = _classes(_scores(reference)), _classes(_scores(candidate))
        return Evaluation(Metric.TOP1_AGREEMENT, 1.0, _share(wanted == found), samples)
    score = min(_explained(reference[name], candidate[name]) for name in reference)
    return Evaluation(Metric.R2_AGREEMENT, 1.0, score, samples)


def classes_of(reference: Outputs) -> int:
    """Return how many classes the model tells apart.

    Raises:
        SamplesError: Its outputs are no scores of classes.
    """
    return max(2, int(_scores(reference).shape[1]))


def largest_difference(source: Outputs, converted: Outputs) -> Difference | None:
    """Return where ``converted`` strays furthest from ``source``, or None when it is near everywhere.

    Args:
        source: Outputs of the source model, for the first samples.
        converted: Outputs of the float ``.tflite``; may hold more samples.
    """
    if source.keys() != converted.keys():
        found, wanted = ", ".join(sorted(converted)), ", ".join(sorted(source))
        return Difference(found, -1, f"the outputs are called {found}, wanted {wanted}")
    worst: tuple[float, Difference] | None = None
    for name, wanted_output in source.items():
        excess, difference = _stray(name, wanted_output, converted[name][: len(wanted_output)])
        if difference is not None and (worst is None or excess > worst[0]):
            worst = (excess, difference)
    return worst[1] if worst else None


def _scores(outputs: Outputs) -> NDArray[Any]:
    """Return the scores of classes: samples by classes.

    Raises:
        SamplesError: The outputs are something else.
    """
    shapes = {name: output.shape for name, output in outputs.items()}
    (name, shape), *others = shapes.items()
    if others or int(np.prod(shape[1:-1])) != 1:
        found = ", ".join(f"{name}{list(shape[1:])}" for name, shape in shapes.items())
        raise SamplesError(
            f"the samples have labels y, but the model's output is {found}, wanted one output with a score per class; "
            "leave y out, and the agreement with the float model is measured"
        )
    return outputs[name].reshape(shape[0], shape[-1])


def _classes(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return the class of each row; a single score is the probability of class 1, and NaN no class at all."""
    classes = np.argmax(scores, axis=1) if scores.shape[1] > 1 else (scores[:, 0] >= 0.5).astype(np.int64)
    return np.where(np.isnan(scores).any(axis=1), -1, classes)


def _share(hits: NDArray[np.bool_]) -> float:
    return float(np.mean(hits))


def _are_probabilities(outputs: Outputs) -> bool:
    if len(outputs) != 1:
        return False
    (output,) = outputs.values()
    if output.ndim != 3 or output.shape[1] != 1 or output.shape[2] < 2:
        return False
    return bool(output.min() >= 0 and np.allclose(output.sum(axis=-1), 1, atol=_SUM_TOLERANCE))


def _explained(reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    """Return R2 of ``candidate`` as a prediction of ``reference``, 0 where it explains nothing or is not finite."""
    wanted = reference.astype(np.float64)
    error = float(np.square(candidate - wanted).sum())
    variance = float(np.square(wanted - wanted.mean()).sum())
    if variance == 0:
        return 1.0 if error == 0 else 0.0
    return max(0.0, 1 - error / variance) if np.isfinite(error) else 0.0


def _stray(name: str, wanted: NDArray[Any], found: NDArray[Any]) -> tuple[float, Difference | None]:
    """Return by how many times ``found`` exceeds the allowed difference, and the difference where it does."""
    if wanted.shape != found.shape:
        sentence = f"output {name!r} has shape {list(found.shape[1:])}, wanted {list(wanted.shape[1:])}"
        return np.inf, Difference(name, -1, sentence)
    apart = np.abs(found.astype(np.float64) - wanted)
    apart[np.isnan(apart)] = np.inf
    allowed = _ALLOWED_DIFFERENCE * max(float(np.abs(wanted).max(initial=0)), 1e-3)
    at = np.unravel_index(int(np.argmax(apart)), apart.shape)
    if apart[at] <= allowed:
        return 0.0, None
    sample, *place = (int(i) for i in at)
    sentence = f"output {name!r} of sample {sample} is {found[at]:.6g} at {place}, the source says {wanted[at]:.6g}"
    return float(apart[at] / allowed), Difference(name, sample, sentence)
