"""Whether a device could run a model: its operations as they are, or as TensorFlow's converter would make them.

A ``.tflite`` is judged by what stands in it. Another model is converted first, in a child process, with everything
allowed that has a name, so that not only the first operation without a kernel is found but all of them.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeferry.converter.child import run_child
from edgeferry.converter.inspection import inspect_model
from edgeferry.converter.inspection.facts import Inspection
from edgeferry.converter.inspection.tflite_facts import TfliteFacts
from edgeferry.converter.legality import Problem, problems
from edgeferry.device_profiles import DeviceProfile

__all__ = ["Check", "check_model"]

_NAMED_PLACES = 3
_PERMISSIVE = "permissive.tflite"


@dataclass(frozen=True, slots=True)
class Check:
    """What a check came to.

    Attributes:
        operations: How many operators the model has, as a ``.tflite``.
        problems: What the profile's runtime cannot run; empty when it can run everything.
        places: By operation, the names of some tensors that it computes: where it is in the source model.
    """

    profile: str
    operations: int
    problems: tuple[Problem, ...]
    places: Mapping[str, tuple[str, ...]]


def check_model(
    inspection: Inspection,
    path: Path,
    profile: DeviceProfile,
    *,
    signature: str | None,
    deadline_s: float,
    say: Callable[[str], None],
) -> Check:
    """Return what of the model the runtime of ``profile`` cannot run.

    Args:
        inspection: Of the model.
        path: Where it is.
        profile: Of the device.
        signature: Of a SavedModel, the one to convert; its serving signature unless given.
        deadline_s: How long a conversion may take.
        say: Called with a sentence before it begins.

    Raises:
        ConverterError: It had to be converted, and that failed altogether.
    """
    facts = inspection.details
    if not isinstance(facts, TfliteFacts):
        say(f"converting {path.name} to see which operations it becomes")
        facts = _converted(inspection, path, signature, deadline_s)
    found = problems(facts.uses, profile)
    return Check(
        profile=profile.name,
        operations=sum(use.count for use in facts.uses),
        problems=found,
        places={name: _places(facts, name) for name in dict.fromkeys(problem.operation for problem in found)},
    )


def _converted(inspection: Inspection, path: Path, signature: str | None, deadline_s: float) -> TfliteFacts:
    with tempfile.TemporaryDirectory(prefix="edgeferry-check-") as scratch:
        folder = Path(scratch)
        job = {"format": inspection.format, "model": str(path), "signature": signature}
        what = f"converting {path.name}"
        run_child("edgeferry.converter.formats.permissive", job, folder=folder, what=what, deadline_s=deadline_s)
        details = inspect_model(folder / _PERMISSIVE).details
    if not isinstance(details, TfliteFacts):  # it is called .tflite
        raise TypeError(f"{_PERMISSIVE} was read as {type(details).__name__}")
    return details


def _places(facts: TfliteFacts, operation: str) -> tuple[str, ...]:
    outputs = (
        graph.tensors[operator.outputs[0]].name.split(";")[0]
        for graph in facts.subgraphs
        for operator in graph.operators
        if operator.name == operation and operator.outputs
    )
    return tuple(_first(outputs))


def _first(names: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(names))
    return [*distinct[:_NAMED_PLACES], *(["..."] if len(distinct) > _NAMED_PLACES else [])]
