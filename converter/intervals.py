"""How sure a drop is: 95 % confidence intervals of paired differences. Pure.

Float model and candidate are judged on the same samples, so what counts is the samples on which they differ.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.metrics import Scorer

__all__ = ["CONFIDENCE", "Interval", "least_upper_bound", "paired_shares", "resampled"]

Interval = tuple[float, float]

CONFIDENCE = 0.95
RESAMPLINGS = 1000
_Z = 1.959963984540054  # of the normal distribution, two-sided
_STEPS = 60  # of a bisection: to the last digit of a double
_SEED = 20260101
_CHUNK_WEIGHTS = 1 << 22  # 32 MiB at a time


def paired_shares(lost: int, gained: int, samples: int) -> Interval:
    """Return the interval of a difference of two shares of the same samples, by Tango's score method.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998), 891-908. It holds for few samples and for no difference at all, where
    methods from the marginal shares claim too much.

    Args:
        lost: Samples that the float model has right and the candidate wrong.
        gained: The other way round.
        samples: Of all.
    """
    low = _bisect(lambda delta: _score(lost, gained, samples, delta) - _Z, -1.0, (lost - gained) / samples)
    high = _bisect(lambda delta: _score(lost, gained, samples, delta) + _Z, (lost - gained) / samples, 1.0)
    return low, high


def least_upper_bound(samples: int) -> float:
    """Return the upper bound of a difference of shares where not one of ``samples`` differs."""
    return _Z**2 / (samples + _Z**2)


def resampled(float_model: Scorer, candidate: Scorer, samples: int) -> Interval:
    """Return the interval of the float model's score less the candidate's, by resampling the samples in pairs.

    Percentiles of 1,000 bootstrap resamplings with a fixed seed (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13).
    """
    random = np.random.default_rng(_SEED)
    shares = np.full(samples, 1 / samples)
    differences: list[NDArray[np.float64]] = []
    chunk = max(1, min(RESAMPLINGS, _CHUNK_WEIGHTS // samples))
    for start in range(0, RESAMPLINGS, chunk):
        weights = random.multinomial(samples, shares, size=min(chunk, RESAMPLINGS - start)).astype(np.float64)
        differences.append(float_model(weights) - candidate(weights))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(differences), [tail, 1 - tail])
    return float(low), float(high)


def _score(lost: int, gained: int, samples: int, delta: float) -> float:
    """Return Tango's statistic of the hypothesis that the difference is ``delta``; it falls as ``delta`` grows."""
    a = 2 * samples
    b = -lost - gained + (2 * samples - lost + gained) * delta
    c = -gained * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = samples * (2 * q + delta * (1 - delta))
    away = lost - gained - samples * delta
    if variance <= 0:
        return math.copysign(math.inf, away) if away else 0.0
    return away / math.sqrt(variance)


def _bisect(falling: Callable[[float], float], low: float, high: float) -> float:
    """Return where ``falling`` crosses zero between ``low`` and ``high``."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
