"""Telling formats apart, and float .tflite files as sources."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeferry.converter.errors import Code, RequestError, SourceError
from edgeferry.converter.formats import tflite
from edgeferry.converter.formats.registry import FormatName, detect
from edgeferry.converter.formats.source import fixed_shapes
from edgeferry.inference.model import Model
from edgeferry.wire.desired import TensorSpec
from tests.converter.inspection.tflite_models import write_tflite
from tests.models import linear_model


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(*members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member in members:
            archive.writestr(member, "{}")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "head", "wanted"),
    [
        ("m.keras", zipped("metadata.json", "config.json"), FormatName.KERAS),
        ("m.h5", b"\x89HDF\r\n\x1a\nrest", FormatName.HDF5),
        ("m.HDF5", b"\x89HDF\r\n\x1a\nrest", FormatName.HDF5),
        ("m.tflite", b"\x1c\0\0\0TFL3rest", FormatName.TFLITE),
    ],
)
def test_a_format_is_told_by_name_and_first_bytes(tmp_path, name, head, wanted):
    assert detect(written(tmp_path / name, head)).name is wanted


def test_a_folder_with_a_saved_model_is_one(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")

    assert detect(tmp_path).name is FormatName.SAVED_MODEL


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.onnx", b"x", ".onnx suffix is not a known model; wanted .keras, .h5, .hdf5, .tflite"),
        ("m", b"x", "no suffix is not a known model"),
        ("m.keras", b"hello", "is not a Keras 3 model: it begins with b'hello'; it may be cut off"),
        (
            "m.keras",
            zipped("config.json")[:-1],
            "is a damaged Keras 3 model, probably cut off .*; copy or save it anew",
        ),
        (
            "m.keras",
            zipped("x.npy", "y.npy"),
            "is a zip file with x.npy, y.npy; wanted a Keras 3 model, which has config",
        ),
        ("m.keras", zipped(*"abcd"), "is a zip file with a, b, c; wanted"),
        ("m.tflite", b"", "is not a TensorFlow Lite model: it begins with b''"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    with pytest.raises(SourceError, match=message.replace("(", r"\(")):
        detect(written(tmp_path / name, content))


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"none\.keras: No such file or directory; wanted a model file"):
        detect(tmp_path / "none.keras")
    with pytest.raises(SourceError, match=r"a folder without saved_model\.pb"):
        detect(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "m.keras"
    path.symlink_to("/proc/self/mem")

    with pytest.raises(SourceError, match=r"cannot be read|is not a Keras 3 model"):
        detect(path)


def test_the_batch_is_one_and_open_dimensions_are_the_samples():
    inputs = (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "FP32", (1, -1, 2)))

    shapes = fixed_shapes(inputs, {"a": np.ones((9, 3)), "b": np.ones((9, 7, 2))})

    assert shapes == {"a": (1, 3), "b": (1, 7, 2)}


@pytest.mark.parametrize("shape", [(32, 3), ()])
def test_another_batch_than_one_is_refused(shape):
    with pytest.raises(SourceError, match="wanted a first dimension of 1 or an open one"):
        fixed_shapes((TensorSpec("a", "FP32", shape),), {"a": np.ones((9, 3))})


def test_a_float_tflite_is_taken_as_it_is(tmp_path):
    path = linear_model(tmp_path / "m.tflite")
    x = np.random.default_rng(1).random((1, 64), np.float32)
    source = tflite.load(path)

    converted = written(tmp_path / "c.tflite", source.to_tflite({"x": (1, 64)}, tmp_path))

    model = Model.load(converted)
    assert model.inputs == source.inputs
    np.testing.assert_array_equal(model.run({"x": x})["scores"], source.run({"x": x})["scores"])


def test_a_tflite_without_signature_gets_one_and_a_fixed_batch(tmp_path):
    source = tflite.load(linear_model(tmp_path / "m.tflite"))
    source._content.signatureDefs = None
    main = source._content.subgraphs[0]
    main.tensors[main.inputs[0]].shapeSignature = [-1, 64]
    path = written(
        tmp_path / "bare.tflite", bytes(tflite.flatbuffer_utils.convert_object_to_bytearray(source._content))
    )
    assert Model.load(path).inputs[0].shape == (-1, 64)

    bare = tflite.load(path)
    converted = bare.to_tflite({bare.inputs[0].name: (1, 64)}, tmp_path)

    model = Model.load(written(tmp_path / "c.tflite", converted))
    assert model.inputs[0].shape == (1, 64)
    assert model.outputs[0].name == "StatefulPartitionedCall:0"


def test_a_quantized_tflite_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"is quantized already .* give the float model"):
        tflite.load(linear_model(tmp_path / "m.tflite", quantized=True))


def test_a_tflite_with_several_signatures_is_refused(tmp_path):
    source = tflite.load(linear_model(tmp_path / "m.tflite"))
    source._content.signatureDefs *= 2
    path = written(tmp_path / "two.tflite", bytes(tflite.flatbuffer_utils.convert_object_to_bytearray(source._content)))

    with pytest.raises(SourceError, match="has the signatures serving_default, serving_default; convert the model"):
        tflite.load(path)


def test_a_damaged_tflite_is_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be loaded"):
        tflite.load(written(tmp_path / "m.tflite", b"\x1c\0\0\0TFL3" + bytes(100)))


OPEN = (TensorSpec("image", "FP32", (1, -1, -1, 3)), TensorSpec("level", "FP32", (-1, 4)))
SAMPLES = {"image": np.ones((5, 8, 6, 3)), "level": np.ones((5, 4))}


def test_open_dimensions_are_as_the_samples_have_them():
    assert fixed_shapes(OPEN, SAMPLES) == {"image": (1, 8, 6, 3), "level": (1, 4)}


def test_a_shape_that_the_samples_have_may_be_asked_for():
    assert fixed_shapes(OPEN, SAMPLES, {"image": (1, 8, 6, 3)}) == fixed_shapes(OPEN, SAMPLES)
    assert fixed_shapes(OPEN[:1], SAMPLES, {"": (1, 8, 6, 3)}) == {"image": (1, 8, 6, 3)}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"picture": (1, 8, 6, 3)}, "--shape names 'picture', but the model's inputs are image, level"),
        ({"image": (1, 8, 6, 4)}, "--shape 1,8,6,4: input 'image' has 1,-1,-1,3; wanted a batch of 1"),
        ({"image": (1, 8, 6)}, "--shape 1,8,6: input 'image' has 1,-1,-1,3"),
        ({"level": (2, 4)}, "--shape 2,4: input 'level' has -1,4; wanted a batch of 1"),
        ({"image": (1, 0, 6, 3)}, "--shape 1,0,6,3: input 'image'"),
        ({"image": (1, 9, 6, 3)}, "--shape 1,9,6,3: the samples for input 'image' have 1,8,6,3"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(wanted, message):
    with pytest.raises(RequestError, match=message):
        fixed_shapes(OPEN, SAMPLES, wanted)


def test_a_signature_that_a_file_does_not_have_is_refused_with_those_that_it_has(tmp_path):
    path = linear_model(tmp_path / "m.tflite")

    with pytest.raises(RequestError, match=r"--signature 'train': m\.tflite has serving_default"):
        tflite.load(path, "train")
    assert tflite.load(path, "serving_default").inputs == tflite.load(path).inputs


@pytest.mark.parametrize(
    ("operator", "sentence", "code"),
    [
        (
            "MyOwn",
            "m.tflite needs the custom operator 'MyOwn' (in 'net/mine'), which the runtime on this machine (",
            Code.CUSTOM_OPERATION,
        ),
        (
            "FlexErf",
            "m.tflite needs TensorFlow's own operation 'Erf' (in 'net/mine'), which the",
            Code.SELECT_TF_NOT_RUNNABLE,
        ),
    ],
)
def test_an_operator_that_the_runtime_lacks_is_named_with_its_layer(
    tmp_path: Path, operator: str, sentence: str, code: Code
) -> None:
    path = write_tflite(tmp_path / "m.tflite", [("RELU", "net/first/Relu"), (operator, "net/mine/Op")])

    with pytest.raises(SourceError) as caught:
        tflite.load(path)

    assert sentence in str(caught.value)
    assert str(caught.value).endswith("does not have; express it with built-in operations")
    assert caught.value.code is code
