"""Whether a device could run a model: its operations as they are, or as TensorFlow's converter would make them.

A ``.tflite`` is judged by what stands in it. Another model is converted first, in a child process, with everything
allowed that has a name, so that not only the first operation without a kernel is found but all of them.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeferry.converter.child import run_child
from edgeferry.converter.inspection import inspect_model
from edgeferry.converter.inspection.facts import Inspection
from edgeferry.converter.inspection.saved_model_facts import MetaGraphFacts, SavedModelFacts
from edgeferry.converter.inspection.tflite_facts import TfliteFacts
from edgeferry.converter.legality import Problem, problems
from edgeferry.device_profiles import DeviceProfile

__all__ = ["Check", "check_model"]

_NAMED_PLACES = 3
_PERMISSIVE = "permissive.tflite"  # see formats/permissive
_EXPORTED = "saved_model"


@dataclass(frozen=True, slots=True)
class Check:
    """What a check came to.

    Attributes:
        operations: How many operators the model has, as a ``.tflite``.
        problems: What the profile's runtime cannot run; empty when it can run everything.
        places: By operation, where it is: by the names of the source model where there is one.
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
    facts, source = inspection.details, None
    if not isinstance(facts, TfliteFacts):
        say(f"converting {path.name} to see which operations it becomes")
        facts, source = _converted(inspection, path, signature, deadline_s)
    found = problems(facts.uses, profile)
    names = dict.fromkeys(problem.operation for problem in found)
    return Check(
        profile=profile.name,
        operations=sum(use.count for use in facts.uses),
        problems=found,
        places={name: tuple(_first(_places(name, facts, source, signature))) for name in names},
    )


def _converted(
    inspection: Inspection, path: Path, signature: str | None, deadline_s: float
) -> tuple[TfliteFacts, SavedModelFacts]:
    """Return what the model becomes, and the SavedModel that it was or that was made of it."""
    source = inspection.details
    with tempfile.TemporaryDirectory(prefix="edgeferry-check-") as scratch:
        folder = Path(scratch)
        job = {"format": inspection.format, "model": str(path), "signature": signature}
        what = f"converting {path.name}"
        run_child("edgeferry.converter.formats.permissive", job, folder=folder, what=what, deadline_s=deadline_s)
        facts = inspect_model(folder / _PERMISSIVE).details
        if not isinstance(source, SavedModelFacts):
            source = inspect_model(folder / _EXPORTED).details
    if not isinstance(facts, TfliteFacts) or not isinstance(source, SavedModelFacts):
        raise TypeError(f"{path.name} was read as {type(facts).__name__} and {type(source).__name__}")
    return facts, source


def _places(operation: str, facts: TfliteFacts, source: SavedModelFacts | None, signature: str | None) -> list[str]:
    """Return the source's own names for what an operation computes, else the names of the tensors that it writes."""
    kind = operation.removeprefix("Flex")
    scopes = [] if source is None else [one for graph in source.meta_graphs for one in _scopes(graph, signature)]
    named = [name for name, _, of_kind in (scope.partition(": ") for scope in scopes) if of_kind == kind]
    return named or [
        graph.tensors[operator.outputs[0]].name.split(";")[0]
        for graph in facts.subgraphs
        for operator in graph.operators
        if operator.name == operation and operator.outputs
    ]


def _scopes(graph: MetaGraphFacts, signature: str | None) -> tuple[str, ...]:
    return graph.scopes.get(signature, ()) if signature else next(iter(graph.scopes.values()), ())


def _first(names: Sequence[str]) -> list[str]:
    distinct = list(dict.fromkeys(names))
    return [*distinct[:_NAMED_PLACES], *(["..."] if len(distinct) > _NAMED_PLACES else [])]
