"""Scores of a model's outputs, as functions of how often each sample counts. Pure.

A score that can be told for any weights of the samples can be resampled: that is where intervals come from. Outputs
have the samples on the first axis, then the tensor's whole shape, its batch of 1 included.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError

__all__ = ["Metric", "Outputs", "Scorer", "Weights", "check_labels", "default_metric", "hits", "scorer"]

Outputs = Mapping[str, NDArray[Any]]
Labels = NDArray[Any]
Weights = NDArray[np.float64]  # [resamplings, samples]
Scorer = Callable[[Weights], NDArray[np.float64]]  # one score for each resampling

_SUM_TOLERANCE = 1e-3
_TOP = 5
_UNBOUNDED = 1e100  # for what is no number: an infinity times no weight would be none either


class Metric(StrEnum):
    """What a score counts; 1 is the best of each, but of the two errors, whose best is 0."""

    ACCURACY = "accuracy"
    TOP5 = "top5_accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    ROC_AUC = "roc_auc"
    MEAN_IOU = "mean_iou"
    MAE = "mae"
    RMSE = "rmse"
    TOP1_AGREEMENT = "top1_agreement"
    R2_AGREEMENT = "r2_agreement"

    @property
    def is_share(self) -> bool:
        """Return whether it is the share of samples that are right."""
        return self in (Metric.ACCURACY, Metric.TOP5, Metric.TOP1_AGREEMENT)

    @property
    def is_error(self) -> bool:
        """Return whether less is better."""
        return self in (Metric.MAE, Metric.RMSE)

    @property
    def is_agreement(self) -> bool:
        """Return whether it compares with the float model, without labels."""
        return self in (Metric.TOP1_AGREEMENT, Metric.R2_AGREEMENT)


_OF_CLASSES = (Metric.ACCURACY, Metric.TOP5, Metric.BALANCED_ACCURACY, Metric.ROC_AUC)


def default_metric(reference: Outputs, labels: Labels | None) -> Metric:
    """Return what a model with outputs like ``reference`` is judged by, unless somebody says otherwise."""
    if labels is not None and labels.dtype.kind == "f":
        return Metric.MAE
    if labels is not None:
        return Metric.ACCURACY if labels.ndim == 1 else Metric.MEAN_IOU
    return Metric.TOP1_AGREEMENT if _are_probabilities(reference) else Metric.R2_AGREEMENT


def check_labels(metric: Metric, reference: Outputs, labels: Labels | None) -> None:
    """Do nothing when ``metric`` can be told of outputs like ``reference`` and ``labels``.

    Raises:
        SamplesError: It cannot; the message says what was wanted.
    """
    if metric.is_agreement:
        if metric is Metric.TOP1_AGREEMENT:
            _scores(reference)
        return
    if labels is None:
        raise SamplesError(f"{metric} needs labels y, and the samples have none; add them, or leave --metric out")
    if metric in _OF_CLASSES:
        _check_classes(metric, _scores(reference), labels)
    elif metric is Metric.MEAN_IOU:
        _check_maps(_only(metric, reference), labels)
    elif labels.size != len(labels) * _only(metric, reference)[0].size:
        found, wanted = list(labels.shape[1:]), list(_only(metric, reference).shape[2:])
        raise SamplesError(f"y has shape {found} for each sample, but the model's output {wanted}; wanted the same")


def hits(metric: Metric, outputs: Outputs, labels: Labels | None, reference: Outputs) -> NDArray[np.bool_]:
    """Return which samples are right, for a metric that is a share of samples."""
    scores = _scores(outputs)
    if metric is Metric.TOP5 and labels is not None:
        best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
        return np.asarray((best == labels[:, np.newaxis]).any(axis=1) & ~np.isnan(scores).any(axis=1))
    wanted = _classes(_scores(reference)) if labels is None or metric.is_agreement else labels
    return np.asarray(_classes(scores) == wanted)


def scorer(metric: Metric, outputs: Outputs, labels: Labels | None, reference: Outputs) -> Scorer:
    """Return a function from the weights of the samples to the score of ``outputs``.

    Args:
        metric: Which score.
        outputs: Of the model that is judged, as real numbers.
        labels: As `check_labels` has found them good.
        reference: Outputs of the float model for the same samples.
    """
    if metric.is_share:
        right = hits(metric, outputs, labels, reference).astype(np.float64)
        return lambda weights: (weights @ right) / weights.sum(axis=1)
    if metric is Metric.R2_AGREEMENT:
        explained = [_explained(reference[name], outputs[name]) for name in reference]
        return lambda weights: np.min([one(weights) for one in explained], axis=0)
    if labels is None:
        raise SamplesError(f"{metric} needs labels y")
    match metric:
        case Metric.BALANCED_ACCURACY:
            return _balanced(_classes(_scores(outputs)), labels)
        case Metric.ROC_AUC:
            return _area(_scores(outputs), labels)
        case Metric.MEAN_IOU:
            return _overlap(_only(metric, outputs), labels)
        case _:
            return _error(metric, _only(metric, outputs), labels)


# Outputs that are scores of classes


def _check_classes(metric: Metric, scores: NDArray[Any], labels: Labels) -> None:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise SamplesError(f"{metric} needs integer labels y, one per sample; y holds {labels.dtype}{labels.shape}")
    classes = max(2, int(scores.shape[1]))
    if labels.max() >= classes:
        sample = int(np.argmax(labels >= classes))
        raise SamplesError(
            f"y has label {labels[sample]} at sample {sample}, "
            f"but the model tells {classes} classes apart; wanted 0 to {classes - 1}"
        )
    if metric is Metric.TOP5 and scores.shape[1] <= _TOP:
        raise SamplesError(
            f"{metric} of {classes} classes is always 1; wanted a model that tells more than {_TOP} apart"
        )
    if metric is Metric.ROC_AUC and len(np.unique(labels)) < 2:
        raise SamplesError(f"{metric} needs samples of two classes or more; y has {labels[0]} alone")


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


def _are_probabilities(outputs: Outputs) -> bool:
    if len(outputs) != 1:
        return False
    (output,) = outputs.values()
    if output.ndim != 3 or output.shape[1] != 1 or output.shape[2] < 2:
        return False
    return bool(output.min() >= 0 and np.allclose(output.sum(axis=-1), 1, atol=_SUM_TOLERANCE))


def _balanced(found: NDArray[np.int64], labels: Labels) -> Scorer:
    """Return the mean over the classes of the share that is right of each."""
    of_class = np.eye(int(labels.max()) + 1)[labels]
    right = of_class * (found == labels)[:, np.newaxis]
    return lambda weights: _mean_ratio(weights @ right, weights @ of_class)


def _area(scores: NDArray[Any], labels: Labels) -> Scorer:
    """Return the area under the receiver operating characteristic; of several classes the mean, each against the rest.

    Of two classes one says it all.
    """
    ranked = scores if scores.shape[1] > 1 else np.concatenate([1 - scores, scores], axis=1)
    kinds = [kind for kind in np.unique(labels) if kind < ranked.shape[1]]
    kinds = kinds[-1:] if scores.shape[1] <= 2 else kinds
    areas = [_area_of(np.nan_to_num(ranked[:, kind], nan=-np.inf), labels == kind) for kind in kinds]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def _area_of(scores: NDArray[Any], is_positive: NDArray[np.bool_]) -> Scorer:
    """Return the probability that a positive sample scores above a negative one (Mann and Whitney, 1947)."""
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))

    def area(weights: Weights) -> NDArray[np.float64]:
        positive = np.add.reduceat((weights * is_positive)[:, order], starts, axis=1)
        negative = np.add.reduceat((weights * ~is_positive)[:, order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2  # equal scores count half
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return np.asarray((positive * below).sum(axis=1) / np.where(pairs > 0, pairs, np.inf))

    return area


# Outputs of other kinds


def _only(metric: Metric, outputs: Outputs) -> NDArray[Any]:
    if len(outputs) != 1:
        raise SamplesError(f"{metric} needs a model with one output; this one has {', '.join(sorted(outputs))}")
    return next(iter(outputs.values()))


def _check_maps(output: NDArray[Any], labels: Labels) -> None:
    places = output.shape[2:-1]
    if labels.dtype.kind not in "iu" or labels.shape[1:] != places:
        raise SamplesError(
            f"{Metric.MEAN_IOU} needs a map of {list(places)} integer labels per sample; "
            f"y holds {labels.dtype} of {list(labels.shape[1:])}; make classes of one-hot rows with argmax(1)"
        )
    if labels.max() >= output.shape[-1]:
        raise SamplesError(f"y has label {labels.max()}, but the model tells {output.shape[-1]} classes apart")


def _overlap(output: NDArray[Any], labels: Labels) -> Scorer:
    """Return the mean over the classes of intersection over union, counted over all samples."""
    found = output.argmax(axis=-1).reshape(len(labels), -1)
    wanted = labels.reshape(len(labels), -1)
    kinds = np.arange(output.shape[-1])
    both = np.stack([((found == kind) & (wanted == kind)).sum(axis=1) for kind in kinds], axis=1)
    either = np.stack([((found == kind) | (wanted == kind)).sum(axis=1) for kind in kinds], axis=1)
    return lambda weights: _mean_ratio(weights @ both, weights @ either)


def _error(metric: Metric, output: NDArray[Any], labels: Labels) -> Scorer:
    """Return the mean absolute error, or the root of the mean squared one."""
    apart = np.abs(output.reshape(len(labels), -1) - labels.reshape(len(labels), -1).astype(np.float64))
    apart = np.nan_to_num(apart, nan=_UNBOUNDED, posinf=_UNBOUNDED)
    if metric is Metric.MAE:
        absolute = apart.mean(axis=1)
        return lambda weights: (weights @ absolute) / weights.sum(axis=1)
    squared = np.square(apart).mean(axis=1)
    return lambda weights: np.sqrt((weights @ squared) / weights.sum(axis=1))


def _explained(reference: NDArray[Any], candidate: NDArray[Any]) -> Scorer:
    """Return R2 of ``candidate`` as a prediction of ``reference``, 0 where it explains nothing or is not finite."""
    wanted = reference.reshape(len(reference), -1).astype(np.float64)
    error = np.square(candidate.reshape(len(candidate), -1) - wanted).sum(axis=1)
    error = np.nan_to_num(error, nan=_UNBOUNDED, posinf=_UNBOUNDED)
    shifted = wanted - wanted.mean()  # against cancellation
    sums, squares, count = shifted.sum(axis=1), np.square(shifted).sum(axis=1), wanted.shape[1]
    is_wrong = (error != 0).astype(np.float64)

    def explained(weights: Weights) -> NDArray[np.float64]:
        spread = weights @ squares - np.square(weights @ sums) / (weights.sum(axis=1) * count)
        is_constant = spread <= 1e-12 * np.maximum(weights @ squares, 1e-300)
        score = 1 - (weights @ error) / np.where(is_constant, 1.0, spread)
        constant = np.where(weights @ is_wrong == 0, 1.0, 0.0)
        return np.where(is_constant, constant, np.maximum(score, 0.0))

    return explained


def _mean_ratio(parts: NDArray[np.float64], wholes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of parts over wholes along the last axis, of the classes that there are."""
    is_there = wholes > 0
    ratios = np.where(is_there, parts / np.where(is_there, wholes, 1), 0)
    return np.asarray(ratios.sum(axis=1) / np.maximum(is_there.sum(axis=1), 1))
