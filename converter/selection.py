"""Which scheme a profile gets: the best that keeps every budget; and why not each other one. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgeferry.converter.evaluate import Evaluation
from edgeferry.converter.inspection.tflite_facts import OperatorUse
from edgeferry.converter.latency import Latency
from edgeferry.converter.legality import problems
from edgeferry.converter.objective import Objective, best
from edgeferry.converter.repair.plan import Step
from edgeferry.converter.schemes import SUPPORTED
from edgeferry.device_profiles import Budgets, DeviceProfile, Scheme

__all__ = ["Candidate", "Choice", "Miss", "Unavailable", "Verdict", "choose", "in_mib", "keeps_accuracy"]


_FAR = 1e9
_ROUNDING = 1e-9  # 0.95 - 0.94 is a little more than 0.01, and yet one sample of a hundred


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model made with one scheme, and what it costs.

    Attributes:
        size_bytes: Of the ``.tflite`` file.
        memory_bytes: Peak memory of loading and running it on the build host.
        latency_ms: Median time of one inference on the build host.
        p95_ms: 95 of 100 inferences took no longer there.
        operations: That it consists of.
        repaired_by: What was done so that it loses less, in words; empty for nothing.
    """

    scheme: Scheme
    size_bytes: int
    memory_bytes: int
    latency_ms: float
    evaluation: Evaluation
    p95_ms: float = 0.0
    operations: tuple[OperatorUse, ...] = ()
    repaired_by: str = ""

    @property
    def drop(self) -> float:
        """Return what it loses of the score."""
        return self.evaluation.drop


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A scheme that could not be made of this model."""

    scheme: Scheme
    reason: str


@dataclass(frozen=True, slots=True)
class Miss:
    """A budget that a candidate does not keep.

    Attributes:
        is_reparable: Whether it is the accuracy's, and a better model could keep it.
        sentence: What was found and what is allowed.
        excess: By how much, relative to what is allowed.
    """

    sentence: str
    excess: float
    is_reparable: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one scheme of a profile's list.

    Attributes:
        candidate: None where the scheme was not made.
        misses: Budgets that it does not keep.
        reason: Why it is not the one, or "chosen".
        latency: The best that is known; None where the scheme was not made.
    """

    scheme: Scheme
    candidate: Candidate | None
    misses: tuple[Miss, ...]
    reason: str
    latency: Latency | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a profile gets.

    Attributes:
        verdicts: One for each scheme, in the profile's order.
        chosen: None when nothing keeps the budgets.
        steps: Of the repair ladder, by the scheme for which it was climbed.
    """

    profile: str
    verdicts: tuple[Verdict, ...]
    chosen: Candidate | None
    steps: Mapping[Scheme, tuple[Step, ...]] = field(default_factory=dict)

    def losing(self, objective: Objective = Objective.ORDER) -> tuple[Scheme, ...]:
        """Return the schemes that would do but for their accuracy, in the profile's order.

        In that order, those behind the chosen one are not worth a repair; by another objective they may be.
        """
        found = []
        for verdict in self.verdicts:
            is_chosen = verdict.candidate is not None and verdict.candidate is self.chosen
            if is_chosen and objective is Objective.ORDER:
                break
            if verdict.misses and all(miss.is_reparable for miss in verdict.misses):
                found.append(verdict.scheme)
        return tuple(found)

    def nearest_miss(self) -> str:
        """Return which scheme came nearest, and what it lacks."""
        missed = [verdict for verdict in self.verdicts if verdict.misses]
        if not missed:
            return "; ".join(f"{verdict.scheme}: {verdict.reason}" for verdict in self.verdicts)
        nearest = min(missed, key=lambda verdict: sum(miss.excess for miss in verdict.misses))
        return f"nearest is {nearest.scheme}: {nearest.reason}"


def choose(
    profile: DeviceProfile,
    schemes: Sequence[Scheme],
    candidates: Mapping[Scheme, Candidate | Unavailable],
    max_drop: float,
    *,
    objective: Objective = Objective.ORDER,
    latencies: Mapping[Scheme, Latency] | None = None,
) -> Choice:
    """Return the best of ``schemes`` among those that ``profile`` can run and that surely lose at most ``max_drop``.

    Args:
        profile: What it can run, and what a model may cost there. A latency on the build host says nothing of the
            device, so the budget for it is held against figures of such devices alone.
        schemes: To choose from, the preferred one first.
        candidates: What was made; a supported scheme is among them.
        max_drop: Greatest allowed loss of score, 0.01 is one point of a hundred; the upper end of the 95 % confidence
            interval is held against it.
        objective: What is best; the first of ``schemes`` unless something else is asked for.
        latencies: The best that are known of candidates, by scheme.
    """
    known = latencies or {}
    judged = [_judge(scheme, candidates.get(scheme), profile, max_drop, known.get(scheme)) for scheme in schemes]
    good = [verdict.candidate for verdict in judged if verdict.candidate is not None and not verdict.misses]
    chosen = good[best(objective, good)] if good else None
    return Choice(profile.name, tuple(_concluded(verdict, chosen, objective) for verdict in judged), chosen)


def keeps_accuracy(candidate: Candidate, max_drop: float) -> bool:
    """Return whether ``candidate`` loses at most ``max_drop``, with the confidence of its interval."""
    return candidate.evaluation.most <= max_drop + _ROUNDING


def in_mib(size_bytes: int) -> str:
    """Return a size for people: ``1.25 MiB``, ``830 KiB``."""
    return f"{size_bytes / 2**20:.2f} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:.1f} KiB"


def _judge(
    scheme: Scheme,
    found: Candidate | Unavailable | None,
    profile: DeviceProfile,
    max_drop: float,
    latency: Latency | None,
) -> Verdict:
    if found is None:
        can = ", ".join(SUPPORTED)
        return Verdict(scheme, None, (), f"passed over: the converter makes {can}")
    if isinstance(found, Unavailable):
        return Verdict(scheme, None, (), f"not made: {found.reason}")
    misses = (
        *_impossible(found, profile),
        *_misses(found, profile.budgets, max_drop),
        *_slow(latency, profile.budgets),
    )
    return Verdict(scheme, found, misses, "; ".join(miss.sentence for miss in misses), latency)


def _concluded(verdict: Verdict, chosen: Candidate | None, objective: Objective) -> Verdict:
    if verdict.candidate is None or verdict.misses or chosen is None:
        return verdict
    if verdict.candidate is chosen:
        return replace(verdict, reason=f"chosen, repaired by {chosen.repaired_by}" if chosen.repaired_by else "chosen")
    first = "comes first" if objective is Objective.ORDER else f"is better for {objective}"
    return replace(verdict, reason=f"good, but {chosen.scheme} {first}")


def _impossible(candidate: Candidate, profile: DeviceProfile) -> tuple[Miss, ...]:
    """Return what of ``candidate`` the profile's runtime cannot run: no other miss is as far from being kept."""
    return tuple(Miss(f"cannot run there: {problem}", _FAR) for problem in problems(candidate.operations, profile))


def _slow(latency: Latency | None, budgets: Budgets) -> tuple[Miss, ...]:
    if latency is None or budgets.latency_ms is None or not latency.is_of_device:
        return ()
    if latency.median_ms <= budgets.latency_ms:
        return ()
    sentence = f"takes {latency}, the profile allows {budgets.latency_ms:g} ms"
    return (Miss(sentence, _excess(latency.median_ms, budgets.latency_ms)),)


def _misses(candidate: Candidate, budgets: Budgets, max_drop: float) -> tuple[Miss, ...]:
    misses = []
    if not keeps_accuracy(candidate, max_drop):
        misses.append(_accuracy_miss(candidate.evaluation, max_drop))
    if candidate.size_bytes > budgets.model_bytes:
        sentence = f"has {in_mib(candidate.size_bytes)}, the profile allows {in_mib(budgets.model_bytes)}"
        misses.append(Miss(sentence, _excess(candidate.size_bytes, budgets.model_bytes)))
    if candidate.memory_bytes > budgets.memory_bytes:
        sentence = f"needs {in_mib(candidate.memory_bytes)} memory, the profile allows {in_mib(budgets.memory_bytes)}"
        misses.append(Miss(sentence, _excess(candidate.memory_bytes, budgets.memory_bytes)))
    return tuple(misses)


def _accuracy_miss(evaluation: Evaluation, max_drop: float) -> Miss:
    lost = f"loses {evaluation.drop:.4f} of {evaluation.metric}, with 95 % confidence at most {evaluation.most:.4f}"
    sentence = f"{lost}; allowed are {max_drop:g}"
    can_be_shown = evaluation.least <= max_drop + _ROUNDING
    if not can_be_shown:
        sentence += f", and {evaluation.samples} samples cannot show less than {evaluation.least:.4f}: give more"
    return Miss(sentence, _excess(evaluation.most, max_drop), is_reparable=can_be_shown)


def _excess(found: float, allowed: float) -> float:
    return (found - allowed) / max(allowed, 1e-4)  # an allowed drop of 0 shall not divide by it
