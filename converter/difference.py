"""Whether the float ``.tflite`` still computes what its source computes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "largest_difference"]

Outputs = Mapping[str, NDArray[Any]]  # by name; the samples on the first axis, then the tensor's shape

# Between TensorFlow's kernels and LiteRT's: single precision over some hundred layers gives 1e-4 at most.
_ALLOWED_DIFFERENCE = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a converted model strays furthest from its source.

    Attributes:
        sample: Index of the sample; -1 where the outputs cannot be compared at all.
    """

    output: str
    sample: int
    sentence: str


def largest_difference(source: Outputs, converted: Outputs) -> Difference | None:
    """Return where ``converted`` strays furthest from ``source``, or None when it is near everywhere.

    Args:
        source: Outputs of the source model, for the first samples.
        converted: Outputs of the float ``.tflite``; may hold more samples.
    """
    if source.keys() != converted.keys():
        found, wanted = ", ".join(sorted(converted)), ", ".join(sorted(source))
        return Difference(found, -1, f"the outputs are called {found}, wanted {wanted}")
    worst: tuple[float, Difference] | None = None
    for name, wanted_output in source.items():
        excess, difference = _stray(name, wanted_output, converted[name][: len(wanted_output)])
        if difference is not None and (worst is None or excess > worst[0]):
            worst = (excess, difference)
    return worst[1] if worst else None


def _stray(name: str, wanted: NDArray[Any], found: NDArray[Any]) -> tuple[float, Difference | None]:
    """Return by how many times ``found`` exceeds the allowed difference, and the difference where it does."""
    if wanted.shape != found.shape:
        sentence = f"output {name!r} has shape {list(found.shape[1:])}, wanted {list(wanted.shape[1:])}"
        return np.inf, Difference(name, -1, sentence)
    apart = np.abs(found.astype(np.float64) - wanted)
    apart[np.isnan(apart)] = np.inf
    allowed = _ALLOWED_DIFFERENCE * max(float(np.abs(wanted).max(initial=0)), 1e-3)
    at = np.unravel_index(int(np.argmax(apart)), apart.shape)
    if apart[at] <= allowed:
        return 0.0, None
    sample, *place = (int(i) for i in at)
    sentence = f"output {name!r} of sample {sample} is {found[at]:.6g} at {place}, the source says {wanted[at]:.6g}"
    return float(apart[at] / allowed), Difference(name, sample, sentence)
