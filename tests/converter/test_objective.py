"""What is best among candidates that keep every budget."""

from dataclasses import dataclass

import pytest

from edgeferry.converter.objective import Objective, best


@dataclass(frozen=True)
class One:
    drop: float
    size_bytes: int
    latency_ms: float


ACCURATE, SMALL, QUICK = One(0.0, 400, 9.0), One(0.02, 90, 8.0), One(0.01, 120, 3.0)
ALL = [ACCURATE, SMALL, QUICK]


@pytest.mark.parametrize(
    ("objective", "wanted"),
    [
        (Objective.ORDER, ACCURATE),
        (Objective.ACCURACY, ACCURATE),
        (Objective.SIZE, SMALL),
        (Objective.LATENCY, QUICK),
        (Objective.PARETO, QUICK),  # a little worse than the best twice, and the best once
    ],
)
def test_each_objective_has_its_best(objective: Objective, wanted: One) -> None:
    assert ALL[best(objective, ALL)] is wanted


@pytest.mark.parametrize("objective", list(Objective))
def test_of_equal_ones_the_first_is_taken(objective: Objective) -> None:
    assert best(objective, [QUICK, QUICK]) == 0


def test_what_another_one_beats_in_everything_is_never_taken() -> None:
    worse = One(QUICK.drop, QUICK.size_bytes + 1, QUICK.latency_ms)

    assert best(Objective.PARETO, [worse, QUICK]) == 1
