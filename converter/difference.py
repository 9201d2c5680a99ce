"""Whether the float ``.tflite`` still computes what its source computes, and where it strays furthest. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "Offender", "find_difference"]

Outputs = Mapping[str, NDArray[Any]]  # by name; the samples on the first axis, then the tensor's shape

# Between TensorFlow's kernels and LiteRT's: single precision over some hundred layers gives 1e-4 at most.
_ALLOWED_DIFFERENCE = 1e-3
_LEAST_SCALE = 1e-3  # outputs smaller than that are compared as if they were so large
_NAMED_OFFENDERS = 5


@dataclass(frozen=True, slots=True)
class Offender:
    """One value that the converted model gets wrong.

    Attributes:
        sample: Index of the sample.
        place: Index within the output, the batch of 1 included.
        found: What the converted model answers.
        wanted: What the source answers.
        excess: By how many times the difference exceeds the allowed one; infinite for NaN.
    """

    output: str
    sample: int
    place: tuple[int, ...]
    found: float
    wanted: float
    excess: float

    def __str__(self) -> str:
        """Return where it is and both values."""
        where = f"{self.output!r} of sample {self.sample} at {list(self.place)}"
        return f"{where} is {self.found:.6g}, the source says {self.wanted:.6g}"


@dataclass(frozen=True, slots=True)
class Difference:
    """How a converted model strays from its source.

    Attributes:
        sentence: What is wrong, with the largest offenders.
        offenders: The largest ones, the worst first, and each output's worst before another's second; none where the
            outputs cannot be compared at all.
    """

    sentence: str
    offenders: tuple[Offender, ...] = ()


def find_difference(source: Outputs, converted: Outputs) -> Difference | None:
    """Return how ``converted`` strays from ``source``, or None when it is near everywhere.

    A value is off when it differs by more than a thousandth of its output's largest one.

    Args:
        source: Outputs of the source model, for the first samples.
        converted: Outputs of the float ``.tflite``; may hold more samples.
    """
    if source.keys() != converted.keys():
        found, wanted = ", ".join(sorted(converted)), ", ".join(sorted(source))
        return Difference(f"the outputs are called {found}, wanted {wanted}")
    pairs = {name: (converted[name][: len(output)], output) for name, output in source.items()}
    for name, (here, there) in pairs.items():
        if here.shape != there.shape:
            return Difference(f"output {name!r} has shape {list(here.shape[1:])}, wanted {list(there.shape[1:])}")
    excesses = {name: _excess(here, there) for name, (here, there) in pairs.items()}
    off = sum(int((excess > 1).sum()) for excess in excesses.values())
    if not off:
        return None
    offenders = _largest([_offenders(name, *pairs[name], excess) for name, excess in excesses.items()])
    total = sum(excess.size for excess in excesses.values())
    told = "; ".join(map(str, offenders))
    return Difference(f"{off} of {total} values are off, furthest {told}", offenders)


def _excess(found: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    """Return for each value by how many times its difference exceeds the allowed one."""
    apart: NDArray[np.float64] = np.abs(found.astype(np.float64) - wanted)
    apart[np.isnan(apart)] = np.inf
    return apart / (_ALLOWED_DIFFERENCE * max(float(np.abs(wanted).max(initial=0)), _LEAST_SCALE))


def _offenders(name: str, found: NDArray[Any], wanted: NDArray[Any], excess: NDArray[np.float64]) -> list[Offender]:
    """Return the largest offenders of one output, the worst first."""
    worst = np.argsort(-excess, axis=None, kind="stable")[:_NAMED_OFFENDERS]
    places = [tuple(int(i) for i in np.unravel_index(at, excess.shape)) for at in worst]
    return [
        Offender(name, at[0], at[1:], float(found[at]), float(wanted[at]), float(excess[at]))
        for at in places
        if excess[at] > 1
    ]


def _largest(by_output: list[list[Offender]]) -> tuple[Offender, ...]:
    """Return the worst of each output, and then whatever is worst, as many as are named; the worst first."""
    first = sorted((one[0] for one in by_output if one), key=lambda offender: -offender.excess)
    others = sorted((offender for one in by_output for offender in one[1:]), key=lambda offender: -offender.excess)
    return tuple(sorted([*first, *others][:_NAMED_OFFENDERS], key=lambda offender: -offender.excess))
