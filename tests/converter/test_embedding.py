"""Metadata in a model: it is found again, and the model is what it was."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeferry.converter.embedding import embed
from edgeferry.inference.flatbuffer import FlatbufferError, root
from edgeferry.inference.metadata import MetadataError, ModelMetadata, find_metadata, read_metadata
from edgeferry.inference.model import Model
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import TensorSpec
from tests.models import countdown_model, linear_model

METADATA = ModelMetadata(
    format=1,
    name="cats",
    version=7,
    scheme="int8",
    inputs=(TensorSpec("x", "INT8", (1, 64), 0.5, -3),),
    outputs=(TensorSpec("scores", "INT8", (1, 10), 0.25, 4),),
    labels=("Mieze", "Katze <b>", "猫"),
    preprocessing={"scale": 255},
    evaluation={"metric": "accuracy", "drop": 0.01},
    calibration_sha256="0" * 64,
)


@pytest.fixture(scope="module", params=["float", "quantized", "without signature", "with subgraphs"])
def model(request, tmp_path_factory):
    """Return the file of a model."""
    path = tmp_path_factory.mktemp("models") / "model.tflite"
    match request.param:
        case "float":
            return linear_model(path)
        case "quantized":
            return linear_model(path, quantized=True)
        case "without signature":
            return linear_model(path, signature=False)
        case _:
            return countdown_model(path)


def test_what_a_model_says_of_itself_is_read_again(model, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(embed(model.read_bytes(), encode(METADATA)))

    assert read_metadata(path) == METADATA
    assert read_metadata(model) is None


def test_the_old_file_stands_in_the_new_one_as_it_was_and_as_aligned(model):
    old = model.read_bytes()

    new = embed(old, encode(METADATA))

    assert new.endswith(old)
    assert (len(new) - len(old)) % 16 == 0
    assert len(new) - len(old) - len(encode(METADATA)) < 250


def test_the_model_has_the_same_parts_signatures_and_answers(model, tmp_path):
    old = model.read_bytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(embed(old, encode(METADATA)))
    before, after = Model.load(model), Model.load(path)
    inputs = {
        spec.name: np.ones([max(1, size) for size in spec.shape], before.interpreter.get_input_details()[0]["dtype"])
        for spec in before.inputs
    }

    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert after.interpreter.get_signature_list() == before.interpreter.get_signature_list()
    assert repr(after.run(inputs)) == repr(before.run(inputs))


def test_the_runtimes_own_reader_agrees(model):
    old = flatbuffer_utils.read_model_from_bytearray(bytearray(model.read_bytes()))

    new = flatbuffer_utils.read_model_from_bytearray(bytearray(embed(model.read_bytes(), b"said")))

    assert [entry.name for entry in new.metadata][-1] == b"edgeferry"
    assert bytes(new.buffers[new.metadata[-1].buffer].data) == b"said"
    assert len(new.operatorCodes) == len(old.operatorCodes)
    for ours, theirs in zip(new.subgraphs, old.subgraphs, strict=True):
        assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]


def test_metadata_that_was_there_is_replaced(model):
    once = embed(model.read_bytes(), b"once")

    assert find_metadata(embed(once, b"twice")) == b"twice"


def test_metadata_of_others_is_kept(tmp_path):
    path = linear_model(tmp_path / "model.tflite")
    content = flatbuffer_utils.read_model(str(path))
    content.buffers.append(type(content.buffers[0])(data=list(b"theirs")))
    entry = flatbuffer_utils.read_model_from_bytearray(bytearray(embed(path.read_bytes(), b"x"))).metadata[0]
    entry.name, entry.buffer = b"others", len(content.buffers) - 1
    content.metadata = [entry]
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(content))

    both = flatbuffer_utils.read_model_from_bytearray(bytearray(embed(path.read_bytes(), b"ours")))

    assert {one.name: bytes(both.buffers[one.buffer].data) for one in both.metadata} == {
        b"others": b"theirs",
        b"edgeferry": b"ours",
    }


def outside(path: Path) -> bytes:
    """Return the model at ``path`` with the bytes of its buffers behind the flatbuffer, as litert-quantizer does."""
    content = flatbuffer_utils.read_model(str(path))
    weights = {}
    for index, buffer in enumerate(content.buffers):
        if buffer.data is not None:
            weights[index] = bytes(buffer.data)
            buffer.data, buffer.offset, buffer.size = None, 1, 1
    data = bytearray(flatbuffer_utils.convert_object_to_bytearray(content))
    for index, weight in weights.items():
        data += bytes(-len(data) % 16)
        buffer = schema.Model.GetRootAs(data).Buffers(index)
        flatbuffer_utils.update_packed_buffer(buffer, offset=len(data), size=len(weight))
        data += weight
    return bytes(data)


def test_weights_that_lie_behind_the_flatbuffer_are_found_again(tmp_path):
    plain = linear_model(tmp_path / "plain.tflite")
    path = tmp_path / "model.tflite"
    path.write_bytes(embed(outside(plain), encode(METADATA)))
    x = {"x": np.ones((1, 64), np.float32)}

    assert np.array_equal(Model.load(path).run(x)["scores"], Model.load(plain).run(x)["scores"])
    assert read_metadata(path) == METADATA


def test_options_of_custom_operators_move_too(tmp_path):
    path = linear_model(tmp_path / "model.tflite")
    content = flatbuffer_utils.read_model(str(path))
    content.subgraphs[0].operators[0].largeCustomOptionsOffset = 2**33
    data = bytes(flatbuffer_utils.convert_object_to_bytearray(content))

    moved = embed(data, b"x")

    found = schema.ModelT.InitFromPackedBuf(moved).subgraphs[0].operators[0].largeCustomOptionsOffset
    assert found == 2**33 + len(moved) - len(data)


def test_a_position_outside_of_any_file_is_damage(tmp_path):
    path = linear_model(tmp_path / "model.tflite")
    content = flatbuffer_utils.read_model(str(path))
    content.buffers[1].offset = 2**64 - 1

    with pytest.raises(FlatbufferError, match="outside of any file"):
        embed(bytes(flatbuffer_utils.convert_object_to_bytearray(content)), b"x")


def test_metadata_that_names_no_buffer_is_damaged(tmp_path):
    path = linear_model(tmp_path / "model.tflite")
    content = flatbuffer_utils.read_model_from_bytearray(bytearray(embed(path.read_bytes(), b"x")))
    content.metadata[0].buffer = 99
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(content))

    with pytest.raises(MetadataError, match="there is no buffer 99"):
        read_metadata(path)


def test_fields_that_a_table_does_not_have_are_empty():
    table = root(b"\x0c\0\0\0TFL3\x04\0\x04\0\x04\0\0\0", b"TFL3")

    assert (table.u32(0), table.u64(1), list(table.tables(2)), table.content(3)) == (0, 0, [], b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 a zip file of some kind", "wanted b'TFL3'"),
        (b"\xff\xff\xff\xffTFL3", "position 4294967295 is outside"),
        (b"\x08\0\0\0TFL3", "is outside of the file's 8 bytes"),
    ],
)
def test_what_is_no_model_is_said_to_be_none(tmp_path, content, message):
    (tmp_path / "model.tflite").write_bytes(content)

    with pytest.raises(MetadataError, match=message):
        read_metadata(tmp_path / "model.tflite")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(MetadataError, match="No such file"):
        read_metadata(tmp_path / "none.tflite")


@pytest.mark.parametrize("said", [b"{", b'{"format":1}', b"\xff", b"[" * 100_000, b" " * (1024 * 1024 + 1)])
def test_metadata_that_is_none_is_said_to_be_damaged(tmp_path, said):
    path = linear_model(tmp_path / "model.tflite")
    path.write_bytes(embed(path.read_bytes(), said))

    with pytest.raises(MetadataError, match="metadata is damaged"):
        read_metadata(path)


def test_an_offset_that_leaves_the_file_is_damage(tmp_path):
    content = bytearray(embed(linear_model(tmp_path / "plain.tflite").read_bytes(), encode(METADATA)))
    content[60] = 208  # of an offset in the root table, as a fuzzer found it

    with pytest.raises(FlatbufferError, match="is outside of any file"):
        embed(bytes(content), b"x")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_models_give_one_kind_of_error(tmp_path, data):
    path = tmp_path / "model.tflite"
    if not path.exists():
        path.write_bytes(embed(linear_model(tmp_path / "plain.tflite").read_bytes(), encode(METADATA)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 700))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(8, len(content))) :]

    for read in (find_metadata, lambda model: embed(bytes(model), b"x")):
        with contextlib.suppress(FlatbufferError):
            read(memoryview(content))


def test_bytes_of_any_kind_give_one_kind_of_error():
    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def check(content: bytes) -> None:
        with contextlib.suppress(FlatbufferError):
            find_metadata(b"\x10\0\0\0TFL3" + content)

    check()
