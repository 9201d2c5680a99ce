"""The float model's answers beside a variant's, for the report: a confusion matrix of each, or the errors. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["compare_answers"]

Outputs = Mapping[str, NDArray[Any]]

_MAX_CLASSES = 100
_BINS = 41
_TOP_CONFUSIONS = 12


def compare_answers(reference: Outputs, candidate: Outputs, labels: NDArray[Any] | None) -> dict[str, Any]:
    """Return how two models answer the same samples.

    With ``kind`` ``classes``: matrices ``float`` and ``candidate`` of counts, true class by told class; without labels
    the float model's class is taken for the true one. With ``kind`` ``errors``: by output a histogram of what the
    candidate is off, ``counts`` between ``edges``.

    Args:
        reference: Outputs of the float model; samples on the first axis.
        candidate: Of the variant, for the same samples.
        labels: Of each sample, where they are known: classes, or anything else.
    """
    scores = _class_scores(reference)
    if scores is not None:
        classes = labels if _name_classes(labels, scores) else None
        if classes is not None or (labels is None and _are_probabilities(scores)):
            return _classes(scores, _class_scores(candidate), classes)
    return {"kind": "errors", "outputs": {name: _errors(reference[name], candidate[name]) for name in reference}}


def _class_scores(outputs: Outputs) -> NDArray[Any] | None:
    if len(outputs) != 1:
        return None
    (output,) = outputs.values()
    rows = output.reshape(len(output), -1)
    return rows if rows.shape[1] == output.shape[-1] and output.ndim > 1 else None


def _name_classes(labels: NDArray[Any] | None, scores: NDArray[Any]) -> bool:
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return False
    return bool(labels.min() >= 0 and labels.max() < max(2, scores.shape[1]))


def _are_probabilities(scores: NDArray[Any]) -> bool:
    return scores.shape[1] > 1 and bool(scores.min() >= 0 and np.allclose(scores.sum(axis=1), 1, atol=1e-3))


def _classes(
    reference: NDArray[Any], candidate: NDArray[Any] | None, labels: NDArray[np.int64] | None
) -> dict[str, Any]:
    told = _told(reference)
    other = told if candidate is None else _told(candidate)
    truth = told if labels is None else labels
    count = max(2, reference.shape[1])
    pairs = {"float": told, "candidate": other}
    matrices = {name: _matrix(truth, one, count) for name, one in pairs.items()}
    result: dict[str, Any] = {
        "kind": "classes",
        "classes": count,
        "labelled": labels is not None,
        "changed": int((told != other).sum()),
        "confusions": {name: _confusions(matrix) for name, matrix in matrices.items()},
    }
    if count <= _MAX_CLASSES:
        result |= {name: matrix.tolist() for name, matrix in matrices.items()}
    return result


def _told(scores: NDArray[Any]) -> NDArray[np.int64]:
    if scores.shape[1] == 1:
        return (scores[:, 0] >= 0.5).astype(np.int64)
    return np.asarray(np.argmax(scores, axis=1), np.int64)


def _matrix(truth: NDArray[np.int64], told: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, (truth, told), 1)
    return matrix


def _confusions(matrix: NDArray[np.int64]) -> list[list[int]]:
    """Return the most frequent mistakes: true class, told class, how often."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:_TOP_CONFUSIONS]
    places = [np.unravel_index(int(place), wrong.shape) for place in order]
    return [[int(true), int(told), int(wrong[true, told])] for true, told in places if wrong[true, told]]


def _errors(reference: NDArray[Any], candidate: NDArray[Any]) -> dict[str, Any]:
    off = (candidate.astype(np.float64) - reference).ravel()
    off = off[np.isfinite(off)]
    limit = float(np.percentile(np.abs(off), 99.9)) if off.size else 0.0
    counts, edges = np.histogram(np.clip(off, -limit, limit), bins=_BINS, range=(-limit, limit) if limit else (-1, 1))
    return {
        "counts": counts.tolist(),
        "edges": edges.tolist(),
        "mean": float(off.mean()) if off.size else 0.0,
        "rmse": float(np.sqrt(np.square(off).mean())) if off.size else 0.0,
        "largest": float(np.abs(off).max()) if off.size else 0.0,
        "spread": float(reference.astype(np.float64).std()),
    }
