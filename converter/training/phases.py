"""What each technique does to a model between the steps of its training.

A technique changes a `CompressedModel` when its phase begins, and pruning and quantization some more while it goes on;
what it has brought about, the phases after it keep.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgeferry.converter.training.centroids import centroids
from edgeferry.converter.training.compressed import CompressedLayer
from edgeferry.converter.training.kinds import DEPTHWISE
from edgeferry.converter.training.loop import Change
from edgeferry.converter.training.masks import mask, sparsity_at
from edgeferry.converter.training.recipe import Clustering, Pruning, Quantization, Ranges
from edgeferry.converter.training.rewriter import CompressedModel, calibrate, follow

__all__ = ["ClusteringPhase", "PlainPhase", "PruningPhase", "QuantizingPhase"]

_MASKS = 20  # in the whole schedule of pruning
_SCHEDULED = 2 / 3  # of the steps; the last third is for the weights that stay
_FOLLOW_EVERY = 10  # steps; ranges of activations change slowly


class PlainPhase:
    """Trains a model as it is.

    Args:
        name: Of the phase.
        epochs: How many it takes.
    """

    def __init__(self, name: str, epochs: int) -> None:
        self.name = name
        self.epochs = epochs

    def begin(self, compressed: CompressedModel) -> None:
        """Change nothing."""

    def before_step(self, compressed: CompressedModel, step: int, steps: int) -> Change:
        """Change nothing."""
        return Change.NOTHING

    def finish(self, compressed: CompressedModel) -> None:
        """Change nothing."""


class PruningPhase:
    """Prunes weights in place, step by step.

    Args:
        wanted: What the recipe says.
        epochs: How many it takes.
    """

    name = "pruning"

    def __init__(self, wanted: Pruning, epochs: int) -> None:
        self.epochs = epochs
        self._wanted = wanted
        self._pruned = 0.0

    def begin(self, compressed: CompressedModel) -> None:
        """Prune as much as the schedule begins with."""
        self._prune(compressed, self._wanted.initial_sparsity)

    def before_step(self, compressed: CompressedModel, step: int, steps: int) -> Change:
        """Prune some more when it is time to."""
        scheduled = math.floor((steps - 1) * _SCHEDULED)
        every = max(1, scheduled // _MASKS)
        if step > scheduled:
            self._pruned = self._wanted.sparsity  # by steps before, also where a training goes on
            return Change.NOTHING
        if step % every and step != scheduled:
            return Change.NOTHING
        progress = step / scheduled if scheduled else 1
        self._prune(compressed, sparsity_at(progress, self._wanted.initial_sparsity, self._wanted.sparsity))
        return Change.NUMBERS

    def finish(self, compressed: CompressedModel) -> None:
        """Prune all that is to be pruned, if that was not done yet."""
        if self._pruned < self._wanted.sparsity:
            self._prune(compressed, self._wanted.sparsity)

    def _prune(self, compressed: CompressedModel, sparsity: float) -> None:
        self._pruned = sparsity
        for layer in _changed(compressed.layers.values(), self._wanted.skip):
            weights = np.moveaxis(layer.weights_in_units.numpy(), layer.incoming_axis, -2)
            layer.mask.assign(np.moveaxis(mask(weights, sparsity, self._wanted.pattern), -2, layer.incoming_axis))


class ClusteringPhase:
    """Clusters the weights of a model, and trains centroids and weights on.

    Args:
        wanted: What the recipe says.
        epochs: How many it takes.
        seed: Of the first centroids.
    """

    name = "clustering"

    def __init__(self, wanted: Clustering, epochs: int, seed: int) -> None:
        self.epochs = epochs
        self._wanted = wanted
        self._seed = seed

    def begin(self, compressed: CompressedModel) -> None:
        """Find the first centroids of each layer."""
        for layer in _changed(compressed.layers.values(), self._wanted.skip):
            weights = layer.weights_in_units.numpy()[layer.mask.numpy() > 0]
            layer.cluster_to(centroids(weights, self._wanted.clusters, self._seed))

    def before_step(self, compressed: CompressedModel, step: int, steps: int) -> Change:
        """Change nothing: each step finds the nearest centroid by itself."""
        return Change.NOTHING

    def finish(self, compressed: CompressedModel) -> None:
        """Change nothing."""


class QuantizingPhase:
    """Rounds weights from the first step on, and activations after the delay.

    Args:
        wanted: What the recipe says.
        epochs: How many it takes.
        calibration: Batches of samples from which the first ranges come.
    """

    name = "quantization-aware training"

    def __init__(self, wanted: Quantization, epochs: int, calibration: Sequence[Any]) -> None:
        self.epochs = epochs
        self._wanted = wanted
        self._calibration = calibration
        self._is_rounding = False

    def begin(self, compressed: CompressedModel) -> None:
        """Round the weights, and find the first ranges."""
        for layer in compressed.layers.values():
            layer.is_quantized = True
        calibrate(compressed, self._calibration)
        for quant in compressed.quants.values():
            quant.learns(self._wanted.ranges is Ranges.LEARNED)
        if not self._wanted.delay:
            self._round(compressed)

    def before_step(self, compressed: CompressedModel, step: int, steps: int) -> Change:
        """Round activations when it is time to, and let their ranges follow them."""
        if not self._is_rounding and step >= steps * self._wanted.delay:
            calibrate(compressed, self._calibration)
            self._round(compressed)
            return Change.GRAPH
        if self._wanted.ranges is Ranges.MOVING_AVERAGE and step % _FOLLOW_EVERY == 0:
            follow(compressed, self._calibration[step // _FOLLOW_EVERY % len(self._calibration)])
        return Change.NOTHING

    def finish(self, compressed: CompressedModel) -> None:
        """Round activations, if they were not yet."""
        if not self._is_rounding:
            calibrate(compressed, self._calibration)
            self._round(compressed)

    def _round(self, compressed: CompressedModel) -> None:
        self._is_rounding = True
        for quant in compressed.quants.values():
            quant.is_active = True


def _changed(layers: Iterable[CompressedLayer], skip: Sequence[str]) -> list[CompressedLayer]:
    """Return the layers that are pruned and clustered; ``skip`` names some that are not.

    Depthwise ones are not: they have few weights, each with much to do.
    """
    return [layer for layer in layers if layer.kind not in DEPTHWISE and layer.original not in skip]
