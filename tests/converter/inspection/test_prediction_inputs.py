"""How arrays in a file become what a model takes in one run."""

import zipfile

import numpy as np
import pytest

from edgeferry.converter import prediction_inputs
from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.prediction_inputs import bind, read_arrays_file
from edgeferry.wire.desired import TensorSpec


def bound(path, arrays, *specs):
    return bind(path, arrays, [TensorSpec(name, kind, shape, **more) for name, kind, shape, more in specs])


X = ("x", "FP32", (1, 4), {})


def test_samples_are_cut_into_runs_of_the_models_batch(tmp_path):
    inputs = bound(tmp_path, {"x": np.arange(24).reshape(6, 4)}, ("x", "FP32", (2, 4), {}))

    assert next(run["x"].tolist() for run in inputs) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (inputs.runs, next(iter(inputs))["x"].dtype) == (3, np.float32)


def test_a_model_without_a_batch_takes_a_number_at_a_time(tmp_path):
    inputs = bound(tmp_path, {"x": np.array([3, 4])}, ("x", "INT32", (), {}))

    assert [int(run["x"]) for run in inputs] == [3, 4]


def test_inputs_go_by_name_and_the_single_one_by_any(tmp_path):
    two = (("a", "FP32", (1, 2), {}), ("b", "INT32", (-1, -1), {}))

    inputs = bound(tmp_path, {"b": np.ones((3, 5), np.int64), "a": np.ones((3, 2))}, *two)
    alone = bound(tmp_path, {"anything": np.ones((3, 4))}, X)

    assert {name: array.shape for name, array in next(iter(inputs)).items()} == {"a": (1, 2), "b": (1, 5)}
    assert alone.runs == 3


def test_y_is_the_truth_unless_the_model_takes_it(tmp_path):
    arrays = {"x": np.ones((3, 4)), "y": np.array([0, 1, 2])}

    assert bound(tmp_path, arrays, X).labels.tolist() == [0, 1, 2]
    assert bound(tmp_path, {**arrays, "y": np.array([0])}, X).labels is None
    assert bound(tmp_path, arrays, X, ("y", "INT64", (-1,), {})).labels is None


def test_real_values_are_quantized_and_the_models_own_integers_are_not(tmp_path):
    quantized = ("x", "INT8", (1, 2), {"scale": 0.5, "zero_point": 1})

    real = bound(tmp_path, {"x": np.array([[1.0, -1.0]])}, quantized)
    own = bound(tmp_path, {"x": np.array([[7, 8]], np.int8)}, quantized)

    assert next(iter(real))["x"].tolist() == [[3, -1]]
    assert next(iter(own))["x"].tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("arrays", "spec", "message"),
    [
        ({"x": np.ones((3, 7))}, X, r"has shape \[3, 7\], wanted \[samples, 4\]"),
        ({"x": np.ones((3, 4))}, ("x", "FP32", (2, 4), {}), r"wanted \[a multiple of 2, 4\]"),
        ({"x": np.ones((3, 4))}, ("x", "FP32", (), {}), r"has shape \[3, 4\]"),
        ({"x": np.ones((2, 3, 4))}, ("x", "FP32", (1, -1), {}), r"wanted \[samples, any\]"),
        ({"a": np.ones(1), "b": np.ones(1)}, X, "holds 'a', 'b', but the model's inputs are 'x'"),
        ({}, X, "holds nothing, but the model's inputs are 'x'"),
        ({"x": np.ones((0, 4))}, X, "at least one; found x 0"),
        ({"x": np.ones((3, 4))}, ("x", "INT32", (1, 4), {}), "holds float64; the model takes int32 there"),
        ({"x": np.ones((3, 4))}, ("x", "BOOL", (1, 4), {}), "holds float64; the model takes bool there"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, arrays, spec, message):
    with pytest.raises(SamplesError, match=message):
        bound(tmp_path, arrays, spec)


@pytest.mark.parametrize(
    ("array", "spec", "message"),
    [
        (np.array([[2**40]]), ("x", "INT32", (1, 1), {}), "has numbers that do not fit into int32"),
        (np.array([[np.nan]]), ("x", "INT8", (1, 1), {"scale": 0.5}), "cannot hold NaN"),
    ],
)
def test_values_that_do_not_fit_are_told_when_it_is_their_turn(tmp_path, array, spec, message):
    inputs = bound(tmp_path, {"x": array}, spec)

    with pytest.raises(SamplesError, match=message):
        next(iter(inputs))


def test_a_npy_file_is_the_only_input(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 4)))

    assert list(read_arrays_file(tmp_path / "x.npy")) == ["x"]


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x93NUMPY\x01\x00junk"])
def test_a_file_that_is_no_array_is_told(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)

    with pytest.raises(SamplesError, match=r"x\.npz: cannot be read"):
        read_arrays_file(tmp_path / "x.npz")


def test_texts_objects_and_other_members_are_refused(tmp_path):
    np.savez(tmp_path / "text.npz", x=np.array(["a"]))
    np.savez(tmp_path / "object.npz", x=np.array([{}]))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as file:
        file.writestr("notes.txt", "hello")

    for name, message in {"text": "'x' holds <U1", "object": "not Python objects", "other": "wanted numbers"}.items():
        with pytest.raises(SamplesError, match=message):
            read_arrays_file(tmp_path / f"{name}.npz")


def test_what_is_not_there_or_no_file_is_a_mistake_of_usage(tmp_path):
    for path in (tmp_path / "missing.npz", tmp_path):
        with pytest.raises(RequestError, match=r"wanted a \.npz or \.npy file"):
            read_arrays_file(path)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_inputs, "MAX_INPUT_BYTES", 1000)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(10_000))

    with pytest.raises(SamplesError, match="unpacks to 80128 bytes, wanted 1000 at most"):
        read_arrays_file(tmp_path / "x.npz")
