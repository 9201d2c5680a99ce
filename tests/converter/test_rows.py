"""Where arrays lie in files, and that a few rows of them can be read."""

import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.rows import Computed, Stored, blocks, npy_place, npz_places


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "<f2", "<f4", ">f4", "<i8", "?"])
@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 0), (1, 5, 4, 3)])
def test_rows_of_a_npz_are_those_of_numpy(tmp_path, dtype, shape):
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    np.savez(tmp_path / "s.npz", first=np.ones(3), x=x)

    rows = Stored(npz_places(tmp_path / "s.npz")["x"])

    assert (rows.shape, rows.dtype, len(rows)) == (x.shape, x.dtype, len(x))
    np.testing.assert_array_equal(rows[0:9], x)
    np.testing.assert_array_equal(rows[2:5], x[2:5])
    np.testing.assert_array_equal(rows[5:2], x[5:2])


def test_only_neighbours_can_be_read_at_once(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(9))

    with pytest.raises(ValueError, match="one after the other"):
        Stored(npy_place(tmp_path / "x.npy"))[0:9:2]


def test_all_rows_come_in_blocks_of_some_megabytes(tmp_path):
    x = np.arange(3 * 1024 * 1024, dtype=np.int64).reshape(-1, 1024)
    np.save(tmp_path / "x.npy", x)

    found = list(blocks(Stored(npy_place(tmp_path / "x.npy"))))

    assert [first for first, _ in found] == [0, 1024, 2048]
    np.testing.assert_array_equal(np.concatenate([block for _, block in found]), x)


def test_computed_rows_are_made_of_those_that_are_read():
    rows = Computed(np.arange(6), lambda block: block * 2.0, (6,), np.dtype(float))

    assert (rows[1:3].tolist(), len(rows)) == ([2.0, 4.0], 6)


def test_an_array_in_fortrans_order_is_told_from_one_in_cs(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(np.ones((3, 2))))
    np.save(tmp_path / "c.npy", np.ones((3, 2)))

    assert [npy_place(tmp_path / name).is_by_columns for name in ("f.npy", "c.npy")] == [True, False]


def test_a_compressed_npz_has_no_places(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", x=np.ones(3))

    assert npz_places(tmp_path / "s.npz") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY\x01\x00", "is damaged, or no array as numpy writes it"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "is damaged, or no array"),
        (b"\x93NUMPY\x01\x00\x20\x00" + b"(" * 32, "is damaged, or no array"),
        (npy(np.ones((9, 9)))[:-1], r"an array of float64\[9, 9\] does not fill its 775 bytes"),
        (npy(np.ones((9, 9))) + b"x", "does not fill"),
        (npy(np.ones(9)).replace(b"(9,)", b"(-9,)"), "is damaged"),
        (npy(np.ones(9)).replace(b"(9,), }" + b" " * 18, b"(9" + b"0" * 18 + b",), }"), "does not fill"),
        (npy(np.array([{}], object)), "holds Python objects"),
    ],
)
def test_what_is_no_whole_array_is_refused(tmp_path, content, message):
    (tmp_path / "x.npy").write_bytes(content)

    with pytest.raises(SamplesError, match=message):
        npy_place(tmp_path / "x.npy")


def zipped(member: bytes) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", member)
    return bytearray(buffer.getvalue())


def test_a_member_that_is_not_where_the_file_says_is_refused(tmp_path):
    content = zipped(npy(np.ones(3)))
    content[0:4] = bytes(4)
    (tmp_path / "s.npz").write_bytes(content)

    with pytest.raises(SamplesError, match=r"'x\.npy' is not where the file says"):
        npz_places(tmp_path / "s.npz")


def test_an_encrypted_member_is_refused(tmp_path):
    content = zipped(npy(np.ones(3)))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "s.npz").write_bytes(content)

    with pytest.raises(SamplesError, match="a member is encrypted"):
        npz_places(tmp_path / "s.npz")


@pytest.mark.parametrize(("field", "value"), [(24, 10**6), (42, 10**6), (42, 2**32 - 2)])
def test_a_member_outside_of_its_file_is_refused(tmp_path, field, value):
    content = zipped(npy(np.ones(3)))
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + field, value)
    (tmp_path / "s.npz").write_bytes(content)

    with pytest.raises(SamplesError, match=r"is damaged: 'x\.npy' "):
        npz_places(tmp_path / "s.npz")


@settings(max_examples=300)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_garbage_is_an_error_and_nothing_else(tmp_path_factory, garbage, at):
    whole = zipped(npy(np.arange(12.0).reshape(4, 3)))
    path = tmp_path_factory.mktemp("garbage") / "s.npz"
    path.write_bytes(whole[:at] + garbage + whole[at + len(garbage) :])

    with contextlib.suppress(SamplesError):
        for place in npz_places(path).values():
            list(blocks(Stored(place)))
