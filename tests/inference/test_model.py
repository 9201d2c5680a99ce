from pathlib import Path

import numpy as np
import pytest
from tests.models import countdown_model, hungry_model, linear_model

from edgeferry.inference.model import InputError, Model, ModelError, check_tensor, fits
from edgeferry.inference.quantization import dequantize
from edgeferry.inference.runtime import PACKAGE, runtime_version
from edgeferry.wire.desired import TensorSpec


def test_tensors_are_named_by_the_signature(tmp_path: Path) -> None:
    model = Model.load(linear_model(tmp_path / "m.tflite", features=4, classes=3))

    assert model.inputs == (TensorSpec("x", "FP32", (1, 4)),)
    assert model.outputs == (TensorSpec("scores", "FP32", (1, 3)),)


def test_tensors_without_a_signature_have_their_own_names(tmp_path: Path) -> None:
    model = Model.load(linear_model(tmp_path / "m.tflite", features=4, classes=3, signature=False))

    assert [spec.name for spec in model.inputs] == ["serving_default_x:0"]
    assert [spec.name for spec in model.outputs] == ["StatefulPartitionedCall:0"]


def test_a_quantized_model_tells_scale_and_zero_point(tmp_path: Path) -> None:
    model = Model.load(linear_model(tmp_path / "m.tflite", quantized=True))

    assert model.inputs[0].datatype == "INT8"
    assert model.inputs[0].scale == pytest.approx(1 / 255)
    assert model.inputs[0].zero_point == -128


def test_int8_and_float32_agree(tmp_path: Path) -> None:
    real = Model.load(linear_model(tmp_path / "f.tflite", features=8, classes=4, seed=3))
    quantized = Model.load(linear_model(tmp_path / "q.tflite", features=8, classes=4, seed=3, quantized=True))

    scores = real.run({"x": np.ones((1, 8), np.float32)})["scores"]
    steps = quantized.run({"x": np.full((1, 8), 127, np.int8)})["scores"]

    np.testing.assert_allclose(dequantize(steps, quantized.outputs[0]), scores, atol=3 * quantized.outputs[0].scale)


def test_outputs_are_copies(tmp_path: Path) -> None:
    model = Model.load(linear_model(tmp_path / "m.tflite", features=4, classes=3))
    first = model.run({"x": np.zeros((1, 4), np.float32)})["scores"]
    kept = first.copy()

    model.run({"x": np.ones((1, 4), np.float32)})

    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "got inputs none, wanted 'x'"),
        ({"x": np.zeros((1, 4), np.float32), "y": np.zeros(1, np.float32)}, "got inputs 'x', 'y', wanted 'x'"),
        ({"x": np.zeros((1, 4), np.float64)}, "input 'x' is FP64, wanted FP32"),
        ({"x": np.array([["a"]])}, "input 'x' is <U1, wanted FP32"),
        ({"x": np.zeros((4,), np.float32)}, r"input 'x' has shape \[4\], wanted \[1, 4\]"),
    ],
)
def test_wrong_inputs_are_refused_with_a_sentence(tmp_path: Path, inputs: dict[str, np.ndarray], message: str) -> None:
    model = Model.load(linear_model(tmp_path / "m.tflite", features=4, classes=3))

    with pytest.raises(InputError, match=message):
        model.run(inputs)


def test_a_free_dimension_takes_any_size_and_again_another(tmp_path: Path) -> None:
    model = Model.load(linear_model(tmp_path / "m.tflite", features=4, classes=3, free_batch=True))
    one = model.run({"x": np.ones((1, 4), np.float32)})["scores"]

    three = model.run({"x": np.ones((3, 4), np.float32)})["scores"]
    again = model.run({"x": np.ones((1, 4), np.float32)})["scores"]

    assert model.inputs[0].shape == (-1, 4)
    np.testing.assert_allclose(three, np.repeat(one, 3, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(again, one)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.tflite").write_bytes(content)

    with pytest.raises(ModelError, match=r"m\.tflite cannot be loaded"):
        Model.load(tmp_path / "m.tflite")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Model.load(tmp_path / "m.tflite")


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    data = linear_model(tmp_path / "whole.tflite").read_bytes()
    (tmp_path / "m.tflite").write_bytes(data[: len(data) // 2])

    with pytest.raises(ModelError):
        Model.load(tmp_path / "m.tflite")


def test_a_model_that_takes_strings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only numbers and booleans can be served"):
        Model.load(linear_model(tmp_path / "m.tflite", string_input=True))


def test_a_run_that_the_runtime_refuses_is_a_model_error(tmp_path: Path) -> None:
    model = Model.load(hungry_model(tmp_path / "m.tflite", size_bytes=64, free=True))

    with pytest.raises(ModelError, match="the model failed to run"):
        model.run({"x": np.zeros(3, np.float32)})
    assert model.run({"x": np.zeros(1, np.float32)})["scores"].shape == (16,)


def test_a_loop_counts_down(tmp_path: Path) -> None:
    model = Model.load(countdown_model(tmp_path / "m.tflite"))

    model.reset()

    assert model.run({"x": np.array([5], np.float32)})["scores"].tolist() == [0.0]


def test_a_tensor_that_fits_passes_silently() -> None:
    check_tensor(np.zeros((2, 3), np.int8), TensorSpec("x", "INT8", (-1, 3)))


@pytest.mark.parametrize(
    ("shape", "wanted", "result"),
    [((1, 2), (1, 2), True), ((5, 2), (-1, 2), True), ((0, 2), (-1, 2), False), ((2,), (1, 2), False), ((), (), True)],
)
def test_shapes_fit_where_a_dimension_is_free(shape: tuple[int, ...], wanted: tuple[int, ...], result: bool) -> None:
    assert fits(shape, wanted) is result


def test_the_runtime_tells_its_version() -> None:
    assert PACKAGE in {"ai-edge-litert", "tflite-runtime"}
    assert runtime_version()[0].isdigit()
