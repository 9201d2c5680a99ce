"""From a model's outputs to the line that a sink gets, in JSON.

    {"ts": 1767225600123, "pipeline": "porch", "model": "dogs", "version": "7", "latency_ms": 31.2,
     "classes": [{"label": "corgi", "score": 0.91}, ...]}

With labels for every value of the first output the best classes are told; otherwise ``outputs``, by name, each with its
shape and, up to `MAX_VALUES` of them, its values. ``origin`` names the file or topic that the sample came from.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeferry.agent.serving.pipelines.slot import Sample
from edgeferry.inference.quantization import DTYPES
from edgeferry.wire.tensors import TensorBytes

__all__ = ["MAX_VALUES", "answer_line", "array_of"]

MAX_VALUES = 4096
_DIGITS = 6


def answer_line(
    pipeline: str,
    model: str,
    version: str,
    sample: Sample,
    outputs: Sequence[TensorBytes],
    *,
    labels: Sequence[str],
    top: int,
    latency_ms: float,
) -> bytes:
    """Return one answer, without a line end.

    Args:
        pipeline: Its name.
        model: The model's name.
        version: The version that answered.
        sample: What it was asked.
        outputs: Of the model, real where it is quantized.
        labels: Of the classes; empty where it has none.
        top: How many classes to tell.
        latency_ms: From the sample's arrival to the answer.
    """
    said: dict[str, Any] = {"ts": sample.taken_ms, "pipeline": pipeline, "model": model, "version": version}
    if sample.origin:
        said["origin"] = sample.origin
    said["latency_ms"] = round(latency_ms, 1)
    arrays = {output.name: array_of(output) for output in outputs}
    first = next(iter(arrays.values())).reshape(-1)
    if labels and first.size == len(labels):
        said["classes"] = _classes(first, labels, top)
    else:
        said["outputs"] = {name: _told(array) for name, array in arrays.items()}
    return json.dumps(said, ensure_ascii=False, allow_nan=False).encode()


def array_of(tensor: TensorBytes) -> np.ndarray:
    """Return the array that travels as ``tensor``."""
    return np.frombuffer(tensor.data, DTYPES[tensor.datatype]).reshape(tensor.shape)


def _classes(scores: np.ndarray, labels: Sequence[str], top: int) -> list[dict[str, Any]]:
    best = np.argsort(-scores, kind="stable")[:top]
    return [{"label": labels[index], "score": _number(float(scores[index]))} for index in best]


def _told(array: np.ndarray) -> dict[str, Any]:
    told: dict[str, Any] = {"shape": list(array.shape)}
    if array.size <= MAX_VALUES:
        told["values"] = [_number(value) for value in array.reshape(-1).tolist()]
    return told


def _number(value: float) -> float | None:
    """Return a number as JSON knows it: what is infinite or none at all is null (RFC 8259, section 6)."""
    return round(value, _DIGITS) if math.isfinite(value) else None
