"""The ladder keeps what loses less, by every metric, and ends with the first that is enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeferry.converter.errors import QuantizationError
from edgeferry.converter.evaluate import Evaluation
from edgeferry.converter.metrics import Metric
from edgeferry.converter.repair.attempts import Findings
from edgeferry.converter.repair.ladder import Ladder
from edgeferry.converter.repair.plan import NO_REPAIR, Attempt, Cause, Ranges, Repair, Rung
from edgeferry.converter.schemes import Variant
from edgeferry.converter.selection import Candidate
from edgeferry.device_profiles import Scheme

BUDGET = 0.05


@dataclass(frozen=True)
class Model:
    """What the workshop makes, as far as the ladder looks at it."""

    variant: Variant
    candidate: Candidate


@dataclass
class Bench:
    """A workshop whose attempts lose what the test says."""

    losses: dict[Repair, float]
    asked: list[tuple[Variant, Rung]] = field(default_factory=list)
    broken: Sequence[Rung] = ()

    def attempt(self, variant: Variant, rung: Rung, _float_model: object) -> Findings:
        self.asked.append((variant, rung))
        if rung in self.broken:
            raise QuantizationError("the quantizer refuses")
        of_this = {repair: loss for repair, loss in self.losses.items() if _is_of(repair, rung)}
        made = tuple(Attempt(repair, loss, "attempt.tflite") for repair, loss in of_this.items())
        return Findings(Path(), made, (Cause("conv", "channels apart", "channels of 'conv' differ"),), ("mse: no",))

    def judge(self, variant: Variant, _path: Path, _float_model: object) -> Any:
        return model(variant, self.losses[variant.repair])


def _is_of(repair: Repair, rung: Rung) -> bool:
    if repair.float_layers:
        return rung is Rung.FLOAT_LAYERS
    return (Rung.EQUALIZATION if repair.is_equalized else Rung.RANGES) is rung


def model(variant: Variant, loss: float) -> Any:
    # an error: the score grows with the loss, so "more" is not "better"
    evaluation = Evaluation(Metric.MAE, 1.0, 1.0 + loss, 100, loss, (loss / 2, loss))
    return Model(variant, Candidate(Scheme.INT8, 1, 1, 1.0, evaluation, repaired_by=variant.repair.sentence))


def climbed(bench: Bench, *, may_mix: bool = True) -> Any:
    plain = model(Variant(Scheme.INT8), 0.9)
    ladder = Ladder(bench, plain, lambda candidate: candidate.evaluation.most <= BUDGET)  # type: ignore[arg-type]
    return ladder.climb(plain, may_mix=may_mix)


RANGES = Repair(Ranges.PERCENTILE)
EQUALIZED = Repair(is_equalized=True)


def test_the_first_rung_that_is_enough_ends_the_climb() -> None:
    bench = Bench({RANGES: 0.5, EQUALIZED: 0.01, Repair(float_layers=("a;",)): 0.0})

    climb = climbed(bench)

    assert climb.made.variant.repair == EQUALIZED
    assert [step.is_enough for step in climb.steps] == [False, True]
    assert [rung for _, rung in bench.asked] == [Rung.RANGES, Rung.EQUALIZATION]


def test_what_a_rung_has_gained_is_kept_by_the_next() -> None:
    bench = Bench({RANGES: 0.5, EQUALIZED: 0.4})

    climbed(bench)

    assert [variant.repair for variant, _ in bench.asked] == [NO_REPAIR, RANGES, EQUALIZED]


def test_a_rung_that_costs_more_than_it_gives_is_not_kept() -> None:
    bench = Bench({RANGES: 0.95, EQUALIZED: 0.4})

    climb = climbed(bench)

    assert [variant.repair for variant, _ in bench.asked][1] == NO_REPAIR
    assert climb.made.variant.repair == EQUALIZED


def test_the_fewest_layers_in_float_that_are_enough_win() -> None:
    one, two = Repair(float_layers=("a;",)), Repair(float_layers=("a;", "b;"))

    climb = climbed(Bench({two: 0.0, one: 0.02}))

    assert climb.made.variant.repair == one


def test_without_float_kernels_nothing_stays_in_float() -> None:
    bench = Bench({Repair(float_layers=("a;",)): 0.0})

    climb = climbed(bench, may_mix=False)

    assert climb.made is None
    assert [rung for _, rung in bench.asked] == [Rung.RANGES, Rung.EQUALIZATION]


def test_a_rung_where_nothing_could_be_made_says_why() -> None:
    climb = climbed(Bench({}), may_mix=False)

    assert [step.sentence for step in climb.steps] == ["nothing could be made: mse: no"] * 2
    assert climb.steps[0].score is None


def test_a_rung_that_fails_is_told_and_the_next_is_climbed() -> None:
    climb = climbed(Bench({EQUALIZED: 0.0}, broken=[Rung.RANGES]))

    assert climb.steps[0].sentence == "the quantizer refuses"
    assert climb.made.variant.repair == EQUALIZED


def test_a_step_tells_why_the_plain_model_lost() -> None:
    climb = climbed(Bench({EQUALIZED: 0.0}))

    assert climb.steps[-1].sentence == "channels of 'conv' differ"
    assert replace(climb.steps[-1], sentence="").repair == "cross-layer equalization"
