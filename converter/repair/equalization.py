"""Cross-layer equalization: each channel of a link gets an equal share of its activation's and of its weights' range.

A channel is divided by a scale where it comes out of a layer, and multiplied by it where it goes into the next. One
scale per tensor then serves all its channels. Source: Nagel et al. 2019, section 4.1; with scales per output channel
the first layer's own weights cost nothing, so the activation's range takes their place, as in Xiao et al.,
"SmoothQuant", 2023, with alpha 0.5.

Scales are powers of two: multiplying by one is exact in floating point, so the float model answers as before, bit by
bit but for sums in which numbers underflow.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeferry.converter.repair.graph import FloatArray, FloatGraph
from edgeferry.converter.repair.links import Link, bias_input, weights_input

__all__ = ["channel_scales", "equalize", "rescale", "total_scales"]

_ROUNDS = 30  # of a chain of layers; each changes what its neighbour sees
_CONVERGED = 1.01
_MAX_EXPONENT = 40  # beyond 1e12 a channel is dead or the model is


def channel_scales(peaks: FloatArray, reach: FloatArray) -> FloatArray:
    """Return by what each channel has to be divided so that activation and weights share its range evenly.

    A factor that all channels share changes nothing, so their geometric mean is 1. Dead channels stay as they are.

    Args:
        peaks: Largest magnitude of each channel's activation, [channels].
        reach: Largest magnitude of the weights that read it, [channels].
    """
    scales = np.ones(len(peaks), np.float32)
    is_alive = (peaks > 0) & (reach > 0) & np.isfinite(peaks) & np.isfinite(reach)
    if is_alive.any():
        wanted = np.sqrt(peaks[is_alive] / reach[is_alive])
        scales[is_alive] = wanted / np.exp(np.log(wanted).mean())
    return scales


def total_scales(
    links: Sequence[Link], weights: Mapping[int, FloatArray], peaks: Mapping[int, FloatArray]
) -> dict[int, FloatArray]:
    """Return by what the channels of each link have to be divided, by the link's tensor.

    A layer in the middle of a chain stands in two links: what one does to its weights, the other one sees. So the links
    are gone through again and again until nothing moves.

    Args:
        links: In the order of their first layers.
        weights: Of every layer in them, by the operation's index.
        peaks: Largest magnitude of each channel's activation, by the link's tensor.
    """
    now = dict(weights)
    total = {link.tensor: np.ones(link.channels, np.float32) for link in links}
    for _ in range(_ROUNDS):
        moved = 1.0
        for link in links:
            scales = channel_scales(peaks[link.tensor] / total[link.tensor], link.reach(now[link.second.index]))
            total[link.tensor] *= scales
            now[link.first.index] = link.divided(now[link.first.index], scales)
            now[link.second.index] = link.multiplied(now[link.second.index], scales)
            moved = max(moved, float(scales.max()), float(1 / scales.min()))
        if moved < _CONVERGED:
            break
    return {tensor: _power_of_two(scales) for tensor, scales in total.items()}


def equalize(graph: FloatGraph, links: Sequence[Link], peaks: Mapping[int, FloatArray]) -> float:
    """Rescale ``links`` in place and return the largest ratio between the scales of two channels; 1 for no change.

    Args:
        graph: Of the float model.
        links: Of the graph.
        peaks: Largest magnitude that was seen of each channel of a link's tensor, by tensor.
    """
    layers = {layer.index: layer for link in links for layer in (link.first, link.second)}
    weights = {index: graph.changeable(weights_input(layer)) for index, layer in layers.items()}
    scales = total_scales(links, {index: found for index, found in weights.items() if found is not None}, peaks)
    for link in links:
        rescale(graph, link, scales[link.tensor])
    return max((float(one.max() / one.min()) for one in scales.values()), default=1.0)


def rescale(graph: FloatGraph, link: Link, scales: FloatArray) -> None:
    """Divide the channels that leave the first layer of ``link`` by ``scales``, and multiply them before the second."""
    _change(graph, weights_input(link.first), lambda values: link.divided(values, scales))
    _change(graph, bias_input(link.first), lambda values: values / scales)
    _change(graph, weights_input(link.second), lambda values: link.multiplied(values, scales))


def _change(graph: FloatGraph, tensor: int, made: Callable[[FloatArray], FloatArray]) -> None:
    values = graph.changeable(tensor) if tensor >= 0 else None  # a layer without bias has none to divide
    if values is not None:
        graph.change(tensor, made(values))


def _power_of_two(scales: FloatArray) -> FloatArray:
    exponents = np.clip(np.rint(np.log2(scales)), -_MAX_EXPONENT, _MAX_EXPONENT)
    return np.asarray(np.exp2(exponents), np.float32)
