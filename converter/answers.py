"""What is said of a model's outputs: best classes where they are scores of classes, else their range. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "OutputSummary", "right_share", "summarize"]

_BEST = 3
_SHOWN_SAMPLES = 10
_MOST_CLASSES = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """A class and its score."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class OutputSummary:
    """What is said of one output.

    Attributes:
        shape: The samples on the first axis.
        least: Of all finite values; None where there is none.
        mean: Of all finite values.
        greatest: Of all finite values.
        not_finite: Number of values that are NaN or infinite.
        best: For each of the first samples its best classes, the best one first; empty where the output does not look
            like scores of classes, or has values that are not finite.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    least: float | None
    mean: float | None
    greatest: float | None
    not_finite: int
    best: tuple[tuple[Answer, ...], ...]


def summarize(name: str, output: NDArray[Any], labels: Sequence[str] = ()) -> OutputSummary:
    """Return what is said of ``output``.

    Args:
        name: Of the output.
        output: Numbers, the samples on the first axis.
        labels: Names of the classes, used where there are as many as scores.
    """
    finite = output[np.isfinite(output)].astype(np.float64)
    is_ranked = are_scores(output) and finite.size == output.size
    return OutputSummary(
        name=name,
        type=str(output.dtype),
        shape=output.shape,
        least=float(finite.min()) if finite.size else None,
        mean=float(finite.mean()) if finite.size else None,
        greatest=float(finite.max()) if finite.size else None,
        not_finite=int(output.size - finite.size),
        best=tuple(_best(row, labels) for row in output[:_SHOWN_SAMPLES]) if is_ranked else (),
    )


def are_scores(output: NDArray[Any]) -> bool:
    """Return whether the output has a score for each of several classes: floats, samples by classes."""
    return output.ndim == 2 and output.dtype.kind == "f" and 2 <= output.shape[1] <= _MOST_CLASSES


def right_share(output: NDArray[Any], truth: NDArray[Any] | None) -> float | None:
    """Return the share of samples whose best class is the true one; None where that makes no sense."""
    if truth is None or not are_scores(output) or truth.shape != output.shape[:1] or truth.dtype.kind not in "iu":
        return None
    if truth.min() < 0 or truth.max() >= output.shape[1]:
        return None
    return float(np.mean(output.argmax(axis=1) == truth))


def _best(scores: NDArray[Any], labels: Sequence[str]) -> tuple[Answer, ...]:
    order = np.argsort(-scores, kind="stable")[:_BEST]
    names = labels if len(labels) == len(scores) else [str(at) for at in range(len(scores))]
    return tuple(Answer(names[at], float(scores[at])) for at in order)
