"""What is best among candidates that keep every budget. Pure."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

__all__ = ["Objective", "Rated", "best"]


class Objective(StrEnum):
    """What the choice goes by.

    ``order`` is the profile's own order of schemes; ``pareto`` takes, among those that no other one beats in all, the
    one that is nearest to the best loss, size and latency at once.
    """

    ORDER = "order"
    ACCURACY = "accuracy"
    SIZE = "size"
    LATENCY = "latency"
    PARETO = "pareto"


class Rated(Protocol):
    """A candidate, as far as this module looks at it."""

    @property
    def size_bytes(self) -> int:
        """Return its file's size."""
        ...

    @property
    def latency_ms(self) -> float:
        """Return the median time of one inference on the build host."""
        ...

    @property
    def drop(self) -> float:
        """Return what it loses of the score."""
        ...


def best(objective: Objective, rated: Sequence[Rated]) -> int:
    """Return the place of the best of ``rated``, which are in the profile's order; of equal ones the first.

    Args:
        objective: What the choice goes by.
        rated: At least one.
    """
    if objective is Objective.ORDER:
        return 0
    places = range(len(rated))
    if objective is Objective.PARETO:
        front = [at for at in places if not any(_beats(other, rated[at]) for other in rated)]
        return min(front, key=lambda at: _distance(rated[at], rated))
    return min(places, key=lambda at: _KEYS[objective](rated[at]))


_KEYS: Mapping[Objective, Callable[[Rated], float]] = {
    Objective.ACCURACY: lambda one: one.drop,
    Objective.SIZE: lambda one: one.size_bytes,
    Objective.LATENCY: lambda one: one.latency_ms,
}


def _figures(one: Rated) -> tuple[float, float, float]:
    return one.drop, float(one.size_bytes), one.latency_ms


def _beats(one: Rated, other: Rated) -> bool:
    """Return whether ``one`` is nowhere worse than ``other`` and somewhere better."""
    pairs = list(zip(_figures(one), _figures(other), strict=True))
    return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)


def _distance(one: Rated, rated: Sequence[Rated]) -> float:
    """Return how far ``one`` is from the best of each figure, in shares of the span between best and worst."""
    total = 0.0
    for mine, all_of_them in zip(_figures(one), zip(*(_figures(other) for other in rated), strict=True), strict=True):
        span = max(all_of_them) - min(all_of_them)
        total += ((mine - min(all_of_them)) / span) ** 2 if span else 0.0
    return total
