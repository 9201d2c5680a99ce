"""How well a quantized model does beside the float model, and how sure that is. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.intervals import Interval, least_upper_bound, paired_shares, resampled
from edgeferry.converter.metrics import Metric, Outputs, check_labels, default_metric, hits, scorer

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A candidate beside the float model, on the same samples.

    Attributes:
        float_score: Of the float model; 1 where the metric is an agreement with it.
        score: Of the candidate.
        samples: How many there were.
        drop: What the candidate loses; negative when it does better. Of an error: what it gains of it, in standard
            deviations of the labels.
        interval: Where the drop lies with 95 % confidence.
        least: The smallest upper end that an interval of so many samples can have.
    """

    metric: Metric
    float_score: float
    score: float
    samples: int
    drop: float
    interval: Interval
    least: float = 0.0

    @property
    def most(self) -> float:
        """Return the upper end of the interval, which budgets are held against."""
        return self.interval[1]


def evaluate(
    reference: Outputs, candidate: Outputs, labels: NDArray[np.generic] | None, metric: Metric | None = None
) -> Evaluation:
    """Return how ``candidate`` does beside the float model's ``reference``.

    Args:
        reference: Outputs of the float model.
        candidate: Outputs of the candidate for the same samples, as real numbers.
        labels: Of each sample, where they are known.
        metric: What counts; by the kind of labels and outputs unless it is given.

    Raises:
        SamplesError: The metric cannot be told of such outputs and labels.
    """
    metric = metric or default_metric(reference, labels)
    check_labels(metric, reference, labels)
    samples = len(next(iter(reference.values())))
    once = np.ones((1, samples))
    float_scorer, found_scorer = (scorer(metric, outputs, labels, reference) for outputs in (reference, candidate))
    float_score, score = float(float_scorer(once)[0]), float(found_scorer(once)[0])
    unit = _unit(metric, labels)
    if all(np.array_equal(reference[name], candidate[name]) for name in reference):
        return Evaluation(metric, float_score, score, samples, 0.0, (0.0, 0.0))
    if metric.is_share:
        was_right, is_right = (hits(metric, outputs, labels, reference) for outputs in (reference, candidate))
        lost, gained = int((was_right & ~is_right).sum()), int((~was_right & is_right).sum())
        interval, least = paired_shares(lost, gained, samples), least_upper_bound(samples)
        return Evaluation(metric, float_score, score, samples, (lost - gained) / samples, interval, least)
    low, high = sorted(end / unit for end in resampled(float_scorer, found_scorer, samples))
    least = _least(metric, labels, samples)
    interval = (min(low, -least), max(high, least)) if least else (low, high)
    return Evaluation(metric, float_score, score, samples, (float_score - score) / unit, interval, least)


def _least(metric: Metric, labels: NDArray[np.generic] | None, samples: int) -> float:
    """Return what the interval of a metric that counts answers reaches at least.

    Resampling knows nothing of answers that it has not seen to differ: without a floor, ten samples without a different
    one would show that nothing is lost. Each class is as sure as its own samples.
    """
    if metric is Metric.BALANCED_ACCURACY and labels is not None:
        _, counts = np.unique(labels, return_counts=True)
        return float(np.mean([least_upper_bound(int(count)) for count in counts]))
    return least_upper_bound(samples) if metric in (Metric.ROC_AUC, Metric.MEAN_IOU) else 0.0


def _unit(metric: Metric, labels: NDArray[np.generic] | None) -> float:
    """Return by what a difference of scores is divided: an error that grows is a loss, told in the labels' spread."""
    if not metric.is_error or labels is None:
        return 1.0
    return -(float(np.std(np.asarray(labels, np.float64))) or 1.0)
