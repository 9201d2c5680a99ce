"""One request of any protocol through a model's queue, row by row where the model takes one row at a time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.queue import Tensors
from edgeferry.agent.serving.registry import ServedVersion
from edgeferry.agent.serving.stats import Durations
from edgeferry.inference.model import fits
from edgeferry.wire.desired import TensorSpec

__all__ = ["Caller", "Deadline", "Stopwatch", "run_rows"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when an answer is of use.

    Attributes:
        at_s: By ``time.monotonic``.
        is_patient: Whether no answer until then is the model's failure; otherwise it is its client's haste.
    """

    at_s: float
    is_patient: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        deadline: Until when the answer is of use.
        routing_key: What the same caller shows each time, so that the same version answers; empty for nothing.
    """

    deadline: Deadline
    routing_key: str = ""


class Stopwatch:
    """Tells what a protocol takes around a run: reading the request before it, and writing the answer after it."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._parse_s = 0.0
        self._answered_s = 0.0

    def parsed(self) -> None:
        """Note that the tensors are there."""
        self._parse_s = time.monotonic() - self._began_s

    def answered(self) -> None:
        """Note that the model has answered."""
        self._answered_s = time.monotonic()

    def written(self, served: ServedVersion, run: Durations) -> Durations:
        """Return where the time of the whole request went, now that its answer is written, and count it.

        Args:
            served: The version that was run.
            run: What its queue says.
        """
        output_s = time.monotonic() - self._answered_s
        served.queue.stats.handled(parse_s=self._parse_s, output_s=output_s)
        return run + Durations(parse_s=self._parse_s, output_s=output_s)


def run_rows(served: ServedVersion, inputs: Tensors, deadline: Deadline) -> tuple[Tensors, Durations]:
    """Return the outputs for ``inputs``, whose first dimension may be larger than the model's where that is 1.

    Args:
        served: The version to run.
        inputs: Every input by name, in the model's own dtypes.
        deadline: Of all rows together.

    Raises:
        RequestError: The shapes do not fit, the queue is full, the deadline has passed, or the model failed.
    """
    rows = _rows(served.inputs, inputs)
    if rows is None:
        return served.queue.run(inputs, deadline.at_s, is_patient=deadline.is_patient)
    answers: list[Tensors] = []
    spent = Durations()
    for row in range(rows):
        one = {name: array[row : row + 1] for name, array in inputs.items()}
        outputs, durations = served.queue.run(one, deadline.at_s, is_patient=deadline.is_patient)
        answers.append(outputs)
        spent += durations
    return _joined(answers, served.outputs), spent


def _rows(specs: tuple[TensorSpec, ...], inputs: Mapping[str, NDArray[Any]]) -> int | None:
    """Return how many rows have to be run one by one; None when the inputs can be run as they are."""
    if all(fits(inputs[spec.name].shape, spec.shape) for spec in specs):
        return None
    counts = {len(inputs[spec.name]) if inputs[spec.name].ndim else 0 for spec in specs}
    for spec in specs:
        shape = inputs[spec.name].shape
        if not shape or not fits((1, *shape[1:]), spec.shape):
            raise RequestError.bad(f"input {spec.name!r} has shape {list(shape)}, wanted {list(spec.shape)}")
    if len(counts) != 1 or 0 in counts:
        raise RequestError.bad(f"inputs have {', '.join(map(str, sorted(counts)))} rows, wanted equally many")
    return counts.pop()


def _joined(answers: list[Tensors], specs: tuple[TensorSpec, ...]) -> Tensors:
    for spec in specs:
        if answers[0][spec.name].shape[:1] != (1,):
            raise RequestError.bad(f"output {spec.name!r} is not of one row; send one row at a time")
    return {spec.name: np.concatenate([answer[spec.name] for answer in answers]) for spec in specs}
