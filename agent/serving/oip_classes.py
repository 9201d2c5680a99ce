"""The classification extension of the Open Inference Protocol: the best classes of an output as text.

Each is ``score:index`` or ``score:index:label``. Source: triton-inference-server/server,
docs/protocol/extension_classification.md.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError

__all__ = ["best_classes", "bytes_tensor", "class_count"]


def class_count(parameters: dict[str, Any], output: str) -> int:
    """Return how many classes are asked for; 0 when the scores themselves are.

    Raises:
        RequestError: It is not a positive number.
    """
    count = parameters.get("classification", 0)
    if type(count) is not int or (count < 1 and "classification" in parameters):
        raise RequestError.bad(f"output {output[:64]!r}: classification is {str(count)[:40]}, wanted a positive number")
    return count


def best_classes(scores: NDArray[Any], count: int, labels: Sequence[str]) -> list[str]:
    """Return the best ``count`` classes, the best one first, equal ones in order.

    Args:
        scores: One for each class, any shape.
        count: How many are wanted; there may be fewer.
        labels: Of the classes, in order; none are given out where there are not as many as classes.
    """
    flat = scores.ravel()
    keys = -flat.astype(np.float64)  # NaN sorts last
    best = np.argsort(keys, kind="stable")[:count]
    has_labels = len(labels) == flat.size
    return [f"{_spelled(flat[i])}:{i}{':' + labels[i] if has_labels else ''}" for i in best]


def _spelled(score: np.generic) -> str:
    return f"{score:f}" if score.dtype.kind == "f" else str(score)


def bytes_tensor(texts: Sequence[str], *, is_binary: bool) -> bytes:
    """Return a BYTES tensor: each element behind its length in 4 bytes, little-endian; or a JSON list."""
    if not is_binary:
        return json.dumps(texts).encode()
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in encoded)
