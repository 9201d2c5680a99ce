"""What a model says of itself is believed where it speaks of the tensors that the model has."""

from pathlib import Path

from tests.models import linear_model, say_what_it_is

from edgeferry.inference.description import describe, same_tensors
from edgeferry.inference.model import Model
from edgeferry.wire.desired import TensorSpec


def test_a_model_moved_alone_still_says_what_it_is(tmp_path: Path) -> None:
    metadata = say_what_it_is(linear_model(tmp_path / "m.tflite", quantized=True))
    moved = (tmp_path / "m.tflite").rename(tmp_path / "unnamed.tflite")

    model = Model.load(moved)

    assert model.description.metadata == metadata
    assert model.description.doubt == ""
    assert model.inputs[0].scale > 0


def test_a_model_without_metadata_says_nothing_and_raises_no_doubt(tmp_path: Path) -> None:
    description = Model.load(linear_model(tmp_path / "m.tflite")).description

    assert (description.metadata, description.doubt) == (None, "")


def test_metadata_of_another_model_is_not_believed(tmp_path: Path) -> None:
    path = linear_model(tmp_path / "m.tflite", quantized=True)
    before = Model.load(path)
    say_what_it_is(path, outputs=(TensorSpec("scores", "INT8", (1, 10), 0.5, 3),))

    after = Model.load(path)

    assert after.description.metadata is None
    assert after.description.doubt == "m.tflite: its metadata, of digits 3, speaks of other tensors than it has"
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)


def test_quantization_that_a_tensor_does_not_tell_is_what_the_metadata_says(tmp_path: Path) -> None:
    path = linear_model(tmp_path / "m.tflite", features=4, classes=3)
    told = TensorSpec("x", "UINT8", (1, 4), 0.25, 7)
    scores = TensorSpec("scores", "FP32", (1, 3))
    say_what_it_is(path, inputs=(told,), outputs=(scores,))

    description = describe(path, (TensorSpec("x", "UINT8", (1, 4)),), (scores,))

    assert description.inputs == (told,)
    assert description.metadata is not None


def test_damaged_metadata_is_a_doubt_and_no_failure(tmp_path: Path) -> None:
    path = linear_model(tmp_path / "m.tflite")
    say_what_it_is(path)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":?'))

    model = Model.load(path)

    assert model.description.metadata is None
    assert "metadata is damaged" in model.description.doubt


def test_tensors_are_the_same_in_any_order_and_but_for_a_decimals_rounding() -> None:
    a, b = TensorSpec("a", "INT8", (1,), 0.1, 1), TensorSpec("b", "FP32", (1, 2))

    assert same_tensors([a, b], [b, TensorSpec("a", "INT8", (1,), 0.10000000149011612, 1)])
    assert not same_tensors([a], [a, b])
    assert not same_tensors([a], [TensorSpec("a", "INT8", (1,), 0.1, 2)])
    assert not same_tensors([a], [TensorSpec("c", "INT8", (1,), 0.1, 1)])
