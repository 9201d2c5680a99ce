"""Arrays that cannot be read where they lie are unpacked, and put in order."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.preparing import packed
from edgeferry.converter.preparing.packed import unpack
from edgeferry.converter.samples import Samples, is_in_place


def unpacked(source: Path, folder: Path) -> Samples:
    made = folder / "samples"
    made.mkdir()
    unpack(source, made, folder)
    return Samples.load(made)


def complaint(source: Path, folder: Path) -> str:
    with pytest.raises(SamplesError) as caught:
        unpacked(source, folder)
    return str(caught.value)


def test_compressed_arrays_are_those_that_were_packed(tmp_path):
    x = np.random.default_rng(0).random((7, 3, 2), np.float32)
    np.savez_compressed(tmp_path / "s.npz", **{"a:0": x, "b/c": np.arange(7), "y": np.arange(7) % 3})

    found = unpacked(tmp_path / "s.npz", tmp_path)

    np.testing.assert_array_equal(found.arrays["a:0"][0:7], x)
    assert found.arrays["b/c"][0:7].tolist() == list(range(7))
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"0.npy", "1.npy", "2.npy", "samples.json"}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_in_fortrans_order_are_put_into_cs(tmp_path, save):
    x = np.arange(60.0).reshape(5, 4, 3)
    save(tmp_path / "s.npz", x=np.asfortranarray(x), y=np.arange(5))

    assert not is_in_place(tmp_path / "s.npz")
    found = unpacked(tmp_path / "s.npz", tmp_path)

    np.testing.assert_array_equal(found.arrays["x"][0:5], x)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]


def test_what_unpacks_to_more_than_the_limit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", 10**6)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1000, 1000), np.uint8))

    assert "unpacks to 1000128 bytes, wanted 1000000 at most" in complaint(tmp_path / "bomb.npz", tmp_path)
    assert not list((tmp_path / "samples").iterdir())


def test_what_the_disk_has_no_room_for_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "_ROOM_LEFT_BYTES", 2**62)
    np.savez_compressed(tmp_path / "s.npz", x=np.zeros((100, 100)))

    assert "has room for 0; give fewer samples, save them with numpy.savez" in complaint(tmp_path / "s.npz", tmp_path)


def test_a_member_that_says_it_is_smaller_than_it_is_is_not_unpacked_further(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", x=np.zeros((1000, 1000)))
    content = bytearray((tmp_path / "s.npz").read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = (1000).to_bytes(4, "little")
    (tmp_path / "s.npz").write_bytes(content)

    assert "is damaged" in complaint(tmp_path / "s.npz", tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_whose_decoders_have_no_bound_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "s.npz", "w", method) as archive:
        np.save(tmp_path / "x.npy", np.ones((100, 10)))
        archive.write(tmp_path / "x.npy", "x.npy")

    assert "compressed in a way that numpy does not write" in complaint(tmp_path / "s.npz", tmp_path)


def test_damage_inside_of_compressed_arrays_is_told(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", x=np.random.default_rng(0).random((100, 10)))
    content = bytearray((tmp_path / "s.npz").read_bytes())
    content[300:340] = bytes(40)
    (tmp_path / "s.npz").write_bytes(content)

    assert "is damaged" in complaint(tmp_path / "s.npz", tmp_path)


def test_an_unknown_compression_is_refused(tmp_path):
    np.savez(tmp_path / "s.npz", x=np.ones((5, 2)))
    content = bytearray((tmp_path / "s.npz").read_bytes())
    for header, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(header) + offset] = 99
    (tmp_path / "s.npz").write_bytes(content)

    assert "is damaged, or compressed in a way" in complaint(tmp_path / "s.npz", tmp_path)


def test_packed_objects_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", x=np.array([np.ones(2), np.ones(3)], dtype=object))

    assert complaint(tmp_path / "s.npz", tmp_path).startswith(f"{tmp_path}/s.npz: member 'x.npy' holds Python objects")
