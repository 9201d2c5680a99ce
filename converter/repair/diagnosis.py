"""Why a model loses in int8: what is unusual in the ranges of its layers, in words."""

from collections.abc import Mapping

import numpy as np

from edgeferry.converter.repair.graph import FloatArray, FloatGraph
from edgeferry.converter.repair.links import Link
from edgeferry.converter.repair.plan import Cause
from edgeferry.converter.repair.ranges import Range

__all__ = ["causes"]

_APART = 30.0  # the smallest of the usual channels then has 8 of 255 steps
_OUTLIER = 4.0  # all other values then share 64 of 255 steps
_DEAD_SHARE = 0.25
_NAMED = 5


def causes(
    graph: FloatGraph,
    links: tuple[Link, ...],
    peaks: Mapping[int, FloatArray],
    limits: Mapping[int, Range],
    usual: Mapping[int, Range],
) -> tuple[Cause, ...]:
    """Return what is unusual, the worst first, five at most.

    Args:
        graph: Of the float model.
        links: Layers whose channels can be rescaled.
        peaks: Largest magnitude of each channel at them, by tensor.
        limits: Least and greatest value of each tensor.
        usual: The same without the outermost ten thousandth of the values.
    """
    found = [(ratio, _apart(graph, link, ratio)) for link in links if (ratio := _ratio(peaks[link.tensor])) > _APART]
    for index, (low, high) in limits.items():
        ratio = (high - low) / max(usual[index][1] - usual[index][0], 1e-30)
        if ratio > _OUTLIER:
            found.append((ratio, _outlier(graph, index, usual[index], (low, high))))
    found += [
        (1.0, _dead(graph, link, share)) for link in links if (share := _dead_share(peaks[link.tensor])) > _DEAD_SHARE
    ]
    return tuple(cause for _, cause in sorted(found, key=lambda one: -one[0])[:_NAMED])


def _ratio(peaks: FloatArray) -> float:
    """Return how far apart the channels are: the largest, over one that a tenth of them does not reach."""
    alive = peaks[peaks > 0]
    return float(alive.max() / np.quantile(alive, 0.1)) if len(alive) else 1.0


def _dead_share(peaks: FloatArray) -> float:
    return float(np.mean(peaks == 0))


def _apart(graph: FloatGraph, link: Link, ratio: float) -> Cause:
    name = graph.layer(link.first)
    sentence = f"the channels of {name!r} differ in range by a factor of {ratio:,.0f}; one scale cannot serve them all"
    return Cause(name, "channels apart", sentence)


def _outlier(graph: FloatGraph, index: int, usual: Range, limits: Range) -> Cause:
    name = min(graph.name(index).split(";"), key=len)
    sentence = (
        f"values of {name!r} reach from {limits[0]:.4g} to {limits[1]:.4g}, "
        f"but all except one in ten thousand lie between {usual[0]:.4g} and {usual[1]:.4g}"
    )
    return Cause(name, "range outlier", sentence)


def _dead(graph: FloatGraph, link: Link, share: float) -> Cause:
    name = graph.layer(link.first)
    return Cause(name, "dead channels", f"{share:.0%} of the channels of {name!r} are always zero")
