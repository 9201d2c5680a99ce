"""The repair ladder: what is tried, in what order, for a scheme that loses too much. Pure.

    better ranges -> equalized channels, corrected biases -> the layers that lose most in float -> training, if allowed

Each rung keeps what the rungs below it have gained. A rung's attempts are compared on calibration samples, without
labels, by how far they stray from the float model; the best one is judged like any other candidate. The first that
keeps the budget ends the climb.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

from edgeferry.device_profiles import Scheme

__all__ = ["NO_REPAIR", "Attempt", "Cause", "Ranges", "Repair", "Rung", "Step", "attempts", "rungs", "to_judge"]

ABOUT_AS_NEAR = 1.25  # times the least error; less is chance
MAX_FLOAT_SHARE = 0.5  # of all layers; with more of them in float the model is not worth its conversions


class Ranges(StrEnum):
    """How the ranges of activations are learnt."""

    MIN_MAX = "min_max"
    PERCENTILE = "percentile"
    LEAST_ERROR = "mse"
    MOVING_AVERAGE = "moving_average"


class Rung(StrEnum):
    """A rung of the ladder, in words for the report."""

    RANGES = "better calibration"
    EQUALIZATION = "cross-layer equalization"
    FLOAT_LAYERS = "worst layers in float"
    TRAINING = "quantization-aware training"


@dataclass(frozen=True, slots=True, order=True)
class Repair:
    """What is done to a model before, and while, it is quantized.

    Attributes:
        is_equalized: Channels have been rescaled between layers.
        is_corrected: Biases make up for the rounding of weights.
        float_layers: Scopes of operations that stay in float; as litert-quantizer names them.
        is_trained: The weights were trained to be rounded; nothing else is done then.
    """

    ranges: Ranges = Ranges.MIN_MAX
    is_equalized: bool = False
    is_corrected: bool = False
    float_layers: tuple[str, ...] = ()
    is_trained: bool = False

    @property
    def sentence(self) -> str:
        """Return it in words; empty for nothing."""
        words = [] if self.ranges is Ranges.MIN_MAX else [f"{self.ranges} ranges"]
        words += ["cross-layer equalization"] * self.is_equalized + ["bias correction"] * self.is_corrected
        count = len(self.float_layers)
        words += [f"{count} layer{'s' * (count > 1)} in float"] * bool(count)
        words += ["quantization-aware training"] * self.is_trained
        return ", ".join(words)


NO_REPAIR = Repair()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A repair that was made.

    Attributes:
        error: Squared distance from the float model's outputs, relative to theirs, on calibration samples.
        file: Name of the model's file in the child's folder.
    """

    repair: Repair
    error: float
    file: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a layer loses in int8.

    Attributes:
        layer: Its name.
        kind: ``channels apart``, ``range outlier`` or ``dead channels``.
        sentence: What was found.
    """

    layer: str
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Step:
    """A rung that was climbed, for the report.

    Attributes:
        repair: In words.
        score: Of the best attempt, by the conversion's metric; None where nothing could be made.
        drop: What it still loses.
        is_enough: Whether it keeps the budget.
        sentence: What was found: why the plain model failed, what was done, or why nothing could be.
    """

    rung: Rung
    repair: str
    score: float | None
    drop: float | None
    is_enough: bool
    sentence: str


def rungs(scheme: Scheme, *, may_mix: bool, may_train: bool = False) -> tuple[Rung, ...]:
    """Return the rungs for ``scheme``, the lowest first; none for one that has nothing to repair.

    Args:
        scheme: Of the model.
        may_mix: Whether the runtime may run some layers in float.
        may_train: Whether the source is a model that can be trained, and somebody has allowed it.
    """
    last = (Rung.FLOAT_LAYERS,) * may_mix + (Rung.TRAINING,) * (may_train and scheme is Scheme.INT8)
    if scheme in (Scheme.INT8, Scheme.INT16X8):
        return (Rung.RANGES, Rung.EQUALIZATION, *last)
    if scheme is Scheme.DYNAMIC_INT8:  # finds its ranges by itself at each inference
        return (Rung.EQUALIZATION, *last)
    return ()


def attempts(rung: Rung, so_far: Repair, worst: Sequence[Sequence[str]] = ()) -> tuple[Repair, ...]:
    """Return what to try on ``rung``, the mildest first.

    Args:
        rung: Which one.
        so_far: The best of the rungs below.
        worst: For `Rung.FLOAT_LAYERS`: scopes of all layers, in groups, those that lose most first.
    """
    if rung is Rung.TRAINING:  # starts from the source: what repairs have done to its copy is not needed
        return (Repair(is_trained=True),)
    if rung is Rung.RANGES:
        others = (Ranges.PERCENTILE, Ranges.LEAST_ERROR, Ranges.MOVING_AVERAGE)
        return tuple(replace(so_far, ranges=ranges) for ranges in others)
    if rung is Rung.EQUALIZATION:
        plain = replace(so_far, ranges=Ranges.MIN_MAX)  # equalized channels need no values cut off
        equalized = [replace(base, is_equalized=True) for base in dict.fromkeys((plain, so_far))]
        return (*equalized, *(replace(base, is_corrected=True) for base in equalized))
    most = int(len(worst) * MAX_FLOAT_SHARE)
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return tuple(replace(so_far, float_layers=tuple(chain(*worst[:count]))) for count in counts)


def to_judge(rung: Rung, made: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return the attempts of ``rung`` that are worth a judgement on all samples, in this order, until one is enough.

    Of most rungs the mildest of those that are about as near to the float model as the nearest. With layers in float
    the nearest is the one with most of them; wanted is the one with fewest.
    """
    if rung is Rung.FLOAT_LAYERS:
        return tuple(sorted(made, key=lambda attempt: len(attempt.repair.float_layers)))
    enough = min((attempt.error for attempt in made), default=0.0) * ABOUT_AS_NEAR
    return next(((attempt,) for attempt in made if attempt.error <= enough), ())
