"""Classify and regress: examples, which name features instead of tensors, and their results; for REST and gRPC.

A feature is an input of the model, its values in row-major order. The context's features belong to every example.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.tfs_json import base64_bytes, is_base64, quoted
from edgeferry.inference.quantization import DTYPES
from edgeferry.wire.codec import Message
from edgeferry.wire.desired import TensorSpec

__all__ = [
    "ClassScore",
    "Example",
    "classifications",
    "encode_classifications",
    "encode_regressions",
    "examples_from_json",
    "regressions",
    "tensors_of_examples",
]

Example = Mapping[str, Sequence[Any]]  # feature by name: numbers, or bytes
_SCORES = "scores"


class ClassScore(Message, frozen=True):
    """How much one class fits."""

    label: str
    score: float


def examples_from_json(document: Mapping[str, Any]) -> list[Example]:
    """Return the examples of a request, the context's features in each.

    Raises:
        RequestError: There are none, or one is not an object of numbers.
    """
    if "examples" not in document:
        detail = f"JSON Value: {quoted(document)} When method is classify, key 'examples' is expected and was not found"
        raise RequestError.bad(detail)
    examples = document["examples"]
    if not isinstance(examples, list):
        raise RequestError.bad(f"JSON Value: {quoted(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise RequestError.bad(f"JSON Value: {quoted(document)} 'examples' value is an empty array")
    context = _features(document["context"]) if "context" in document else {}
    return [{**context, **_features(example)} for example in examples]


def _features(value: Any) -> dict[str, list[Any]]:
    if not isinstance(value, dict):
        raise RequestError.bad(f"Example must be JSON object but got JSON {quoted(value)}")
    return {name: [_feature(name, v) for v in (c if isinstance(c, list) else [c])] for name, c in value.items()}


def _feature(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.encode()
    if is_base64(value):
        return base64_bytes(value)
    raise RequestError.bad(f"Feature: {name[:256]} has element with unexpected JSON type: {quoted(value)}")


def tensors_of_examples(examples: Sequence[Example], specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    """Return every input of a signature, an example a row.

    Raises:
        RequestError: A feature is missing, has a wrong type or a wrong number of values, or is of no input.
    """
    known = {spec.name for spec in specs}
    for number, example in enumerate(examples):
        for name in example:
            if name not in known:
                wanted = ", ".join(sorted(known))
                raise RequestError.bad(f"Feature: {name[:256]} of example {number} is not an input; wanted {wanted}")
    return {spec.name: _stacked(spec.name, [_row(n, e, spec) for n, e in enumerate(examples)]) for spec in specs}


def _stacked(name: str, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    if len({row.shape for row in rows}) != 1:
        raise RequestError.bad(f"Feature: {name}: its number of values differs between the examples")
    return np.stack(rows)


def _row(number: int, example: Example, spec: TensorSpec) -> NDArray[Any]:
    where = f"Feature: {spec.name} of example {number}"
    if spec.name not in example:
        raise RequestError.bad(f"{where} is missing")
    values = example[spec.name]
    shape = spec.shape[1:]
    free = shape.count(-1)
    fixed = math.prod(size for size in shape if size != -1)
    if free > 1 or (len(values) % fixed or not values if free else len(values) != fixed):
        raise RequestError.bad(f"{where} has {len(values)} values, wanted {fixed} for shape {list(shape)}")
    return _array(where, values, spec).reshape(shape)


def _array(where: str, values: Sequence[Any], spec: TensorSpec) -> NDArray[Any]:
    dtype = DTYPES[spec.datatype]
    allowed = (int, float) if dtype.kind == "f" else (int,)  # a bool is an int
    stray = [value for value in values if not isinstance(value, allowed)]
    if stray:
        raise RequestError.bad(f"{where} holds {str(stray[0])[:64]!r}, wanted {spec.datatype}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if any(not limits.min <= value <= limits.max for value in values):
            raise RequestError.bad(f"{where} exceeds {spec.datatype}: {limits.min} to {limits.max}")
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype)
    except OverflowError as err:
        raise RequestError.bad(f"{where} exceeds {spec.datatype}") from err


def classifications(
    outputs: Mapping[str, NDArray[Any]], rows: int, class_labels: Sequence[str]
) -> list[list[ClassScore]]:
    """Return the score of every class for each of ``rows`` examples.

    Args:
        outputs: Of the model, real numbers; the one called ``scores`` is taken, or the only one.
        rows: How many examples there were.
        class_labels: Names of the classes; their numbers stand in where the artifact has no names.

    Raises:
        RequestError: No output has one score for each class.
    """
    scores = _chosen_output(outputs)
    if scores.ndim < 2 or len(scores) != rows:
        raise RequestError.bad(f"the model does not classify: its output has shape {list(scores.shape)}")
    by_row = scores.reshape(rows, -1)
    classes = by_row.shape[1]
    labels = class_labels if len(class_labels) == classes else [str(number) for number in range(classes)]
    return [[ClassScore(label, float(s)) for label, s in zip(labels, row, strict=True)] for row in by_row]


def regressions(outputs: Mapping[str, NDArray[Any]], rows: int) -> list[float]:
    """Return the value for each of ``rows`` examples.

    Raises:
        RequestError: No output has one value for each example.
    """
    values = _chosen_output(outputs)
    if values.size != rows:
        raise RequestError.bad(
            f"the model does not regress: its output has shape {list(values.shape)}, wanted one value"
        )
    return [float(value) for value in values.ravel()]


def _chosen_output(outputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    if _SCORES in outputs:
        return outputs[_SCORES]
    if len(outputs) != 1:
        raise RequestError.bad(f"the model has outputs {', '.join(outputs)}, none of which is {_SCORES!r}; use predict")
    return next(iter(outputs.values()))


def encode_classifications(found: Sequence[Sequence[ClassScore]]) -> bytes:
    """Return the answer to classify."""
    return _results([[[each.label, each.score] for each in row] for row in found])


def encode_regressions(found: Sequence[float]) -> bytes:
    """Return the answer to regress."""
    return _results(list(found))


def _results(value: list[Any]) -> bytes:
    numbers = [n for row in value for n in ([score for _, score in row] if isinstance(row, list) else [row])]
    document = {"results": value}
    return msgspec.json.encode(document) if np.isfinite(numbers).all() else json.dumps(document).encode()
