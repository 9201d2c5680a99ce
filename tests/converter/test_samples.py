"""What a samples file must hold, and how its arrays become inputs."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.samples import EncodedSamples, Samples, encode_sample, is_in_place
from edgeferry.wire.desired import TensorSpec

IMAGE = TensorSpec("image", "FP32", (-1, 2, 2))
WORDS = TensorSpec("words", "INT32", (-1, 3))
QUANTIZED = TensorSpec("image", "INT8", (1, 2, 2), scale=0.5, zero_point=-10)


def saved(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "s.npz", **arrays)
    return folder / "s.npz"


def complaint(path: Path, *inputs: TensorSpec) -> str:
    with pytest.raises(SamplesError) as caught:
        Samples.load(path).bind(inputs)
    return str(caught.value).removeprefix(f"{path}: ")


def test_x_is_the_input_of_a_model_with_one_input(tmp_path):
    path = saved(tmp_path, x=np.ones((5, 2, 2)), y=np.arange(5))

    samples = Samples.load(path)

    assert samples.count == 5
    assert samples.labels.tolist() == [0, 1, 2, 3, 4]
    assert samples.bind([IMAGE])["image"].dtype == np.float32


def test_arrays_are_found_by_the_names_of_the_inputs(tmp_path):
    path = saved(tmp_path, words=np.ones((4, 3), np.int64), image=np.zeros((4, 2, 2), np.uint8))

    bound = Samples.load(path).bind([IMAGE, WORDS])

    assert {name: array.dtype.name for name, array in bound.items()} == {"image": "float32", "words": "int32"}
    assert Samples.load(path).labels is None


def test_labels_may_be_a_column(tmp_path):
    path = saved(tmp_path, x=np.ones((3, 2)), y=np.array([[2], [0], [1]], np.uint8))

    assert Samples.load(path).labels.tolist() == [2, 0, 1]


def test_an_open_dimension_takes_any_size(tmp_path):
    path = saved(tmp_path, x=np.ones((3, 7, 2)))

    assert Samples.load(path).bind([TensorSpec("sound", "FP32", (-1, -1, 2))])["sound"].shape == (3, 7, 2)


def test_a_sample_is_encoded_as_the_model_takes_it():
    encoded = encode_sample({"image": np.full((3, 2, 2), 4.0, np.float32)}, [QUANTIZED], 1)

    assert encoded["image"].dtype == np.int8
    assert encoded["image"].tolist() == [[[-2, -2], [-2, -2]]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.arange(3)}, "holds no samples; wanted an array 'x'"),
        ({"x": np.ones((3, 2, 2)), "y": np.arange(2)}, "differ in their number of samples (x 3, y 2)"),
        ({"x": np.ones((0, 2, 2))}, "holds no samples: its arrays have length 0"),
        ({"x": np.ones((3, 0, 2))}, "array 'x' has shape (3, 0, 2), in which there is no number"),
        ({"x": np.float32(3)}, "array 'x' is a single number"),
        ({"x": np.array([["a", "b"]])}, "array 'x' holds <U1; wanted integers or floats"),
        ({"x": np.ones((3, 2, 2), complex)}, "array 'x' holds complex128"),
        ({"x": np.ones((3, 2, 2)), "y": np.array(["a", "b", "c"])}, "y holds <U1; wanted classes as integers"),
        ({"x": np.ones((3, 2, 2)), "y": np.array([1, np.nan, 1])}, "array 'y' has NaN or infinity in 1 of 3 samples"),
        ({"x": np.ones((3, 2, 2)), "y": np.array([0, -2, 1])}, "y has label -2 at sample 1; wanted 0 or more"),
        ({"x": np.ones((3, 2))}, "array for input 'image' has shape (3, 2), wanted (samples, 2, 2)"),
        ({"x": np.ones((3, 4, 2))}, "has shape (3, 4, 2), wanted (samples, 2, 2)"),
        ({"z": np.ones((3, 2, 2))}, "holds 'z', but the model's inputs want 'x' or 'image'"),
        ({"x": np.ones((3, 2, 2)), "z": np.ones(3)}, "holds 'x', 'z', but the model's inputs want 'x' or 'image'"),
        ({"x": np.full((3, 2, 2), 1e300)}, "numbers that do not fit into float32"),
    ],
)
def test_unusable_samples_are_refused_with_a_sentence(tmp_path, arrays, message):
    assert message in complaint(saved(tmp_path, **arrays), IMAGE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_their_sample(tmp_path, bad):
    x = np.ones((9, 2, 2))
    x[4, 1, 1] = x[7, 0, 0] = bad

    assert "NaN or infinity in 2 of 9 samples, first in sample 4" in complaint(saved(tmp_path, x=x), IMAGE)


def test_fractions_are_refused_for_an_integer_input(tmp_path):
    path = saved(tmp_path, image=np.ones((3, 2, 2)), words=np.full((3, 3), 0.5))

    assert complaint(path, IMAGE, WORDS) == "array for input 'words' holds float64; the model takes int32 there"


def test_integers_too_large_for_the_input_are_refused(tmp_path):
    path = saved(tmp_path, x=np.full((3, 3), 2**40))

    assert "do not fit into int32" in complaint(path, WORDS)


def test_all_inputs_are_named_when_one_is_missing(tmp_path):
    assert "want 'image', 'words'" in complaint(saved(tmp_path, x=np.ones((3, 3))), IMAGE, WORDS)


@pytest.mark.parametrize(
    ("y", "kind"), [(np.ones(3), "f"), (np.ones((3, 2), np.float32), "f"), (np.eye(3, dtype=np.uint8), "u")]
)
def test_labels_may_be_real_numbers_or_maps(tmp_path, y, kind):
    labels = Samples.load(saved(tmp_path, x=np.ones((3, 2)), y=y)).labels

    assert (labels.shape, labels.dtype.kind) == (y.shape, kind)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"none\.npz: No such file or directory; wanted samples in a \.npz or \.npy"):
        Samples.load(tmp_path / "none.npz")


def test_a_folder_of_arrays_is_read_as_a_npz_file_is(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 2, 2)))
    np.save(tmp_path / "y.npy", np.arange(5))

    samples = Samples.load(tmp_path)

    assert (samples.count, samples.labels.tolist()) == (5, [0, 1, 2, 3, 4])
    assert samples.bind([IMAGE])["image"][1:3].shape == (2, 2, 2)


def test_a_npy_file_is_x_without_labels(tmp_path):
    np.save(tmp_path / "pictures.npy", np.ones((5, 2, 2)))

    samples = Samples.load(tmp_path / "pictures.npy")

    assert (set(samples.arrays), samples.count, samples.labels) == ({"x"}, 5, None)


def test_a_folder_without_arrays_is_told(tmp_path):
    with pytest.raises(RequestError, match=r": is a folder without \.npy files; wanted x\.npy, and y\.npy"):
        Samples.load(tmp_path)


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_zip_file_of_something_else_is_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr(member, "{}")

    said = complaint(tmp_path / "m.keras")

    assert said.startswith(f"is no .npz file but a zip file with '{member}'; write one with numpy.savez")


def test_a_compressed_file_has_to_be_unpacked_before(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", x=np.ones((5, 2)))

    assert not is_in_place(tmp_path / "s.npz")
    assert complaint(tmp_path / "s.npz") == "is compressed, and was not unpacked"


def test_another_kind_of_file_is_refused_with_a_way_to_write_the_right_one(tmp_path):
    (tmp_path / "x.csv").write_text("1,2")

    assert "is not a .npz file; write one with numpy.savez" in complaint(tmp_path / "x.csv")


def test_pickled_objects_are_refused(tmp_path):
    path = saved(tmp_path, x=np.array([np.ones(2), np.ones(3)], dtype=object))

    assert "holds Python objects" in complaint(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = saved(tmp_path, x=np.ones((50, 2)))
    content = bytearray(path.read_bytes())
    content[200:240] = bytes(40)
    path.write_bytes(content)

    assert "is damaged" in complaint(path)


def test_a_byte_that_was_changed_is_found_by_its_checksum(tmp_path):
    path = saved(tmp_path, x=np.arange(100).reshape(50, 2))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)

    assert complaint(path) == "is damaged: the bytes of 'x' do not have their checksum"


def test_rows_are_read_when_they_are_wanted(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2, 2), np.float32))
    rows = Samples.load(tmp_path / "x.npy").bind([IMAGE])["image"]

    with (tmp_path / "x.npy").open("r+b") as file:
        file.seek(-4, 2)
        file.write(np.float32(7).tobytes())

    assert rows[3:4].tolist() == [[[0, 0], [0, 7]]]


def test_a_file_that_becomes_shorter_is_told(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2, 2), np.float32))
    rows = Samples.load(tmp_path / "x.npy").bind([IMAGE])["image"]

    os.truncate(tmp_path / "x.npy", 150)

    with pytest.raises(SamplesError, match="ends early; it was changed while it was read"):
        rows[3:4]


def test_another_file_in_its_place_changes_nothing(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2, 2), np.float32))
    rows = Samples.load(tmp_path / "x.npy").bind([IMAGE])["image"]

    np.save(tmp_path / "new.npy", np.ones((4, 2, 2), np.float32))
    (tmp_path / "new.npy").replace(tmp_path / "x.npy")

    assert not rows[0:4].any()


def test_encoded_samples_are_a_sequence_that_is_made_when_it_is_read(tmp_path):
    bound = Samples.load(saved(tmp_path, x=np.arange(20).reshape(5, 2, 2))).bind([IMAGE])

    chosen = EncodedSamples(bound, [IMAGE], [4, 0, 2])

    assert [one["image"][0, 0, 0] for one in chosen] == [16, 0, 8]
    assert [one["image"][0, 0, 0] for one in chosen[1:]] == [0, 8]
    assert (len(chosen), len(chosen[:2]), chosen[-1]["image"].shape) == (3, 2, (1, 2, 2))


def test_maps_of_labels_stay_on_disk(tmp_path):
    labels = Samples.load(saved(tmp_path, x=np.ones((3, 2)), y=np.ones((3, 4, 4), np.int16))).labels

    assert isinstance(labels, np.memmap)
    assert labels.tolist() == np.ones((3, 4, 4)).tolist()
