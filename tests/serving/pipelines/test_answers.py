"""The line that a sink gets."""

import json
from typing import Any

import numpy as np

from edgeferry.agent.serving.pipelines.answers import MAX_VALUES, answer_line
from edgeferry.agent.serving.pipelines.slot import Sample
from edgeferry.wire.tensors import TensorBytes


def said(*arrays: np.ndarray, labels: tuple[str, ...] = (), top: int = 2, origin: str = "") -> dict[str, Any]:
    words = {np.dtype(np.float32): "FP32", np.dtype(np.int32): "INT32"}
    outputs = [TensorBytes(f"y{i}", words[a.dtype], a.shape, a.tobytes()) for i, a in enumerate(arrays)]
    sample = Sample(b"", 1_767_225_600_123, origin)
    line = answer_line("porch", "dogs", "7", sample, outputs, labels=labels, top=top, latency_ms=31.249)
    assert b"\n" not in line
    return json.loads(line)  # type: ignore[no-any-return]


def test_a_classifier_tells_its_best_classes() -> None:
    answer = said(np.array([[0.25, 0.5, 0.125]], np.float32), labels=("cat", "dög", "cow"), origin="a.jpg")

    assert answer == {
        "ts": 1_767_225_600_123,
        "pipeline": "porch",
        "model": "dogs",
        "version": "7",
        "origin": "a.jpg",
        "latency_ms": 31.2,
        "classes": [{"label": "dög", "score": 0.5}, {"label": "cat", "score": 0.25}],
    }


def test_without_labels_outputs_are_told_by_name_with_shape_and_values() -> None:
    answer = said(np.array([[1.5, np.nan, np.inf]], np.float32), np.array([7], np.int32))

    assert answer["outputs"] == {
        "y0": {"shape": [1, 3], "values": [1.5, None, None]},
        "y1": {"shape": [1], "values": [7]},
    }


def test_labels_of_another_number_are_not_believed() -> None:
    assert "classes" not in said(np.zeros((1, 3), np.float32), labels=("a", "b"))


def test_an_output_that_is_too_large_tells_its_shape_alone() -> None:
    assert said(np.zeros(MAX_VALUES + 1, np.float32))["outputs"] == {"y0": {"shape": [MAX_VALUES + 1]}}
