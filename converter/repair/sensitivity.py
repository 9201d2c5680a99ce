"""Which layers lose most when they alone are quantized: measured, not guessed."""

from collections.abc import Sequence
from itertools import pairwise

from edgeferry.converter.repair.making import Base, Outputs, deviation, outputs_of
from edgeferry.converter.repair.observation import Sample
from edgeferry.converter.repair.plan import Ranges

__all__ = ["groups", "worst_layers"]

MAX_MEASUREMENTS = 48
_LEAST_ERROR = 1e-9  # a layer that changes nothing has nothing to be kept in float for


def groups(scopes: Sequence[str], limit: int = MAX_MEASUREMENTS) -> list[tuple[str, ...]]:
    """Return ``scopes`` in order, in at most ``limit`` groups of neighbours of nearly equal size."""
    count = min(limit, len(scopes))
    edges = [len(scopes) * at // count for at in range(count + 1)] if count else []
    return [tuple(scopes[start:end]) for start, end in pairwise(edges)]


def worst_layers(base: Base, ranges: Ranges, samples: Sequence[Sample], reference: Outputs) -> list[tuple[str, ...]]:
    """Return the scopes of the layers of ``base`` in groups, those whose quantization alone costs most first.

    Args:
        base: The float model.
        ranges: How the ranges of activations are learnt.
        samples: To measure with.
        reference: What the float model answers to them.
    """
    errors = {}
    for group in groups([base.graph.scope(operation) for operation in base.graph.operations]):
        errors[group] = deviation(reference, outputs_of(base.quantized(ranges, only=group), samples))
    losing = [group for group, error in errors.items() if error > _LEAST_ERROR]
    return sorted(losing, key=lambda group: -errors[group])
