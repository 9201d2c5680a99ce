"""Better ranges than the least and the greatest value: a few samples far out cost all others their precision.

A first pass over the samples finds the limits of every tensor, a second one fills a histogram between them. From that
come ranges that leave out a small share of the values (``percentile``), or that make the mean squared error of rounding
least (``mse``). ``moving_average`` follows the limits of one sample after the other, as litert-quantizer does.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.repair.observation import Sample, watched

__all__ = ["Histogram", "histograms", "least_error_range", "percentile_range"]

BINS = 2048
_LEFT_OUT = 1e-4  # of all values, on both sides together
_STEPS = 255  # of int8
_SHRINKS = tuple(float(share) for share in np.geomspace(1.0, 0.02, 65))

Range = tuple[float, float]


class Histogram:
    """How often values occurred between two limits.

    Attributes:
        low: Least value, at most 0: zero has to be representable (TensorFlow Lite 8-bit quantization specification).
        high: Greatest value, at least 0.
        counts: In `BINS` equal parts.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = min(low, 0.0), max(high, 0.0)
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count ``values``."""
        if self.high > self.low:
            self.counts += np.histogram(values, bins=BINS, range=(self.low, self.high))[0]

    @property
    def centers(self) -> NDArray[np.float64]:
        """Return the middle of each part."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return (edges[:-1] + edges[1:]) / 2


def histograms(content: bytes, samples: Sequence[Sample], limits: Mapping[int, Range]) -> dict[int, Histogram]:
    """Return the histogram of each tensor in ``limits`` over ``samples``."""
    made = {index: Histogram(low, high) for index, (low, high) in limits.items()}
    for seen in watched(content, samples, list(limits)):
        for index, values in seen.items():
            made[index].add(np.asarray(values, np.float32))
    return made


def percentile_range(histogram: Histogram, left_out: float = _LEFT_OUT) -> Range:
    """Return the range without the outermost values, half of ``left_out`` of them on each side that has any."""
    total = int(histogram.counts.sum())
    if not total:
        return histogram.low, histogram.high
    share = np.cumsum(histogram.counts) / total
    width = (histogram.high - histogram.low) / BINS
    first = int(np.searchsorted(share, left_out / 2, side="right"))
    last = int(np.searchsorted(share, 1 - left_out / 2, side="left"))
    low = histogram.low + first * width if first else histogram.low
    return min(low, 0.0), max(histogram.low + (last + 1) * width, 0.0)


def least_error_range(histogram: Histogram) -> Range:
    """Return the range, shrunk from one side and then from the other, whose rounding and clipping cost least."""
    limits = histogram.low, histogram.high
    if not histogram.counts.any():
        return limits
    limits = _cheapest(histogram, [(limits[0], limits[1] * share) for share in _SHRINKS])
    return _cheapest(histogram, [(limits[0] * share, limits[1]) for share in _SHRINKS])


def _cheapest(histogram: Histogram, ranges: Sequence[Range]) -> Range:
    return min(ranges, key=lambda limits: _squared_error(histogram, limits))


def _squared_error(histogram: Histogram, limits: Range) -> float:
    low, high = limits
    step = (high - low) / _STEPS
    centers = histogram.centers
    rounded = np.clip(np.rint((centers - low) / step), 0, _STEPS) * step + low
    return float((np.square(rounded - centers) * histogram.counts).sum())
