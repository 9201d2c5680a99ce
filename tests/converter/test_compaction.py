"""A compacted model is the same model in fewer bytes."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from litert_quantizer import quantizer

from edgeferry.converter.compaction import compacted
from edgeferry.converter.schemes import Variant, recipe
from edgeferry.device_profiles import Scheme
from edgeferry.inference.model import Model
from tests.models import convolutional_model, countdown_model, two_signature_model


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model whose weights have a scale for each channel."""
    path = convolutional_model(tmp_path_factory.mktemp("compaction") / "net.tflite")
    tool = quantizer.Quantizer(path.read_bytes(), recipe(Variant(Scheme.INT8)))
    ranges = tool.calibrate({"serving_default": [{"x": np.linspace(0, 1, 192, dtype=np.float32).reshape(1, 8, 8, 3)}]})
    return bytes(tool.quantize(ranges, enable_progress_report=False).quantized_model)


def told(content: object) -> object:
    """Return everything that a model holds, as plain data."""
    if isinstance(content, np.ndarray):
        return content.tolist()
    if isinstance(content, list):
        return [told(one) for one in content]
    return {key: told(value) for key, value in vars(content).items()} if hasattr(content, "__dict__") else content


def parts(model: bytes) -> object:
    return told(flatbuffer_utils.read_model_from_bytearray(bytearray(model)))


def test_it_has_the_same_parts_in_fewer_bytes(quantized: bytes) -> None:
    smaller = compacted(quantized)

    zero_points = 2 * (8 + 8 + 12 + 6) * 8  # of weights and biases, of which three lengths remain
    assert len(smaller) < len(quantized) - zero_points / 2
    assert parts(smaller) == parts(quantized)


def test_it_answers_the_same(quantized: bytes, tmp_path: Path) -> None:
    answers = []
    for name, content in (("before", quantized), ("after", compacted(quantized))):
        (tmp_path / name).write_bytes(content)
        answers.append(
            Model.load(tmp_path / name).run({"x": np.arange(192, dtype=np.int8).reshape(1, 8, 8, 3)})["scores"]
        )

    np.testing.assert_array_equal(*answers)


def test_once_is_enough(quantized: bytes) -> None:
    once = compacted(quantized)

    assert compacted(once) == once


def test_the_content_of_every_buffer_is_aligned(quantized: bytes) -> None:
    model = schema.Model.GetRootAs(compacted(quantized), 0)

    buffers = [model.Buffers(at) for at in range(model.BuffersLength())]
    starts = [one._tab.Vector(one._tab.Offset(4)) for one in buffers if one.DataLength()]
    assert len(starts) > 8
    assert {start % 16 for start in starts} == {0}


@pytest.mark.parametrize("write", [countdown_model, two_signature_model])
def test_subgraphs_and_signatures_stay(tmp_path: Path, write) -> None:
    model = write(tmp_path / "m.tflite").read_bytes()

    assert parts(compacted(model)) == parts(model)
