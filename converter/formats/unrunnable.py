"""Why a ``.tflite`` cannot be run here: which operators the runtime does not have, and where they are."""

from pathlib import Path

from edgeferry.converter.errors import Code, SourceError
from edgeferry.converter.inspection.tflite_facts import OperatorKind, TfliteFacts
from edgeferry.converter.inspection.tflite_file import read_tflite
from edgeferry.converter.inspection.tflite_fusion import layer_of
from edgeferry.converter.kernel_versions import CUSTOM_OPERATORS
from edgeferry.inference.runtime import PACKAGE, runtime_version

__all__ = ["unrunnable"]

_LACKING = (
    (OperatorKind.CUSTOM, "the custom operator", Code.CUSTOM_OPERATION),
    (OperatorKind.FLEX, "TensorFlow's own operation", Code.SELECT_TF_NOT_RUNNABLE),
)
_KNOWN = frozenset().union(*CUSTOM_OPERATORS)


def unrunnable(name: str, model: Path, err: Exception, *, code: Code) -> SourceError:
    """Return why the runtime refuses ``model``.

    Args:
        name: Of what the user gave.
        model: The ``.tflite``, which may have been made of it.
        err: What the runtime says.
        code: What it is where no operator is to blame.
    """
    try:
        facts = read_tflite(model)
    except SourceError:
        return SourceError(str(err), code=code)
    runtime = f"the runtime on this machine ({PACKAGE} {runtime_version()})"
    for kind, whose, kind_code in _LACKING:
        found = _first(facts, kind)
        if found is not None:
            sentence = (
                f"{name} needs {whose} {found}, which {runtime} does not have; express it with built-in operations"
            )
            return SourceError(sentence, code=kind_code)
    made = "" if code is Code.SOURCE_UNREADABLE else f"{name} converts, but the result cannot be run: "
    return SourceError(f"{made}{err}", code=code)


def _first(facts: TfliteFacts, kind: OperatorKind) -> str | None:
    """Return the first operator of that kind which no runtime brings along, and its layer."""
    for graph in facts.subgraphs:
        for one in graph.operators:
            if one.kind is kind and one.name not in _KNOWN:
                name = graph.tensors[one.outputs[0]].name.split(";")[0] if one.outputs else ""
                place = f" (in {layer_of(name)!r})" if "/" in name else ""  # an output of the model has no layer's name
                return f"{one.name.removeprefix('Flex')!r}{place}"
    return None
