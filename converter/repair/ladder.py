"""Climbs the repair ladder: each rung's models are made, judged like any other candidate, and told."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeferry.converter.errors import ConverterError
from edgeferry.converter.repair.attempts import Findings
from edgeferry.converter.repair.plan import Rung, Step, rungs, to_judge
from edgeferry.converter.schemes import Variant
from edgeferry.converter.selection import Candidate
from edgeferry.converter.workshop import Made, Workshop

__all__ = ["Climb", "Ladder"]


@dataclass(frozen=True, slots=True)
class Climb:
    """How a climb ended.

    Attributes:
        made: The model that keeps the budget, or the best one where none does; None where nothing could be made.
        steps: One for each rung that was tried.
    """

    made: Made | None
    steps: tuple[Step, ...]


class Ladder:
    """The ladder for the variants of one float model.

    Args:
        workshop: Where models are made and judged.
        float_model: What they are made of.
        keeps: Tells whether a candidate keeps the budget.
    """

    def __init__(self, workshop: Workshop, float_model: Made, keeps: Callable[[Candidate], bool]) -> None:
        self._workshop = workshop
        self._float_model = float_model
        self._keeps = keeps

    def climb(self, plain: Made, *, may_mix: bool, may_train: bool = False) -> Climb:
        """Return what repairs of ``plain`` come to.

        Args:
            plain: The model that loses too much.
            may_mix: Whether the runtime may run some layers in float.
            may_train: Whether the source may be trained.
        """
        reached, steps = plain, []
        for rung in rungs(plain.variant.scheme, may_mix=may_mix, may_train=may_train):
            judged, step = self._step(reached.variant, rung)
            steps.append(step)
            if judged is not None and (step.is_enough or _surely_loses_less(judged, reached)):
                reached = judged
            if step.is_enough:
                break
        return Climb(None if reached is plain else reached, tuple(steps))

    def _step(self, variant: Variant, rung: Rung) -> tuple[Made | None, Step]:
        try:
            findings = self._workshop.attempt(variant, rung, self._float_model)
            judged = self._judged(variant, rung, findings)
        except ConverterError as err:
            return None, Step(rung, "", None, None, is_enough=False, sentence=str(err))
        is_enough = judged is not None and self._keeps(judged.candidate)
        return judged, _told(rung, judged, findings, is_enough=is_enough)

    def _judged(self, variant: Variant, rung: Rung, findings: Findings) -> Made | None:
        judged = None
        for attempt in to_judge(rung, findings.attempts):
            repaired = replace(variant, repair=attempt.repair)
            judged = self._workshop.judge(repaired, findings.folder / attempt.file, self._float_model)
            if self._keeps(judged.candidate):
                break
        return judged


def _surely_loses_less(one: Made, other: Made) -> bool:
    return one.candidate.evaluation.most < other.candidate.evaluation.most


def _told(rung: Rung, judged: Made | None, findings: Findings, *, is_enough: bool) -> Step:
    why = "; ".join(cause.sentence for cause in findings.causes[:2])
    if judged is None:
        reasons = "; ".join(findings.refusals) or "there was nothing to try"
        return Step(rung, "", None, None, is_enough=False, sentence=f"nothing could be made: {reasons}")
    evaluation = judged.candidate.evaluation
    return Step(rung, judged.variant.repair.sentence, evaluation.score, evaluation.drop, is_enough, why)
