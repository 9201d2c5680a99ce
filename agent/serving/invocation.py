"""One request of any protocol through a model's queue, row by row where the model takes one row at a time."""

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

__all__ = ["Caller", "Deadline", "run_rows"]


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
    queue_s = invoke_s = 0.0
    for row in range(rows):
        one = {name: array[row : row + 1] for name, array in inputs.items()}
        outputs, durations = served.queue.run(one, deadline.at_s, is_patient=deadline.is_patient)
        answers.append(outputs)
        queue_s += durations.queue_s
        invoke_s += durations.invoke_s
    return _joined(answers, served.outputs), Durations(queue_s, invoke_s)


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
