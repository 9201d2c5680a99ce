"""Pictures of every kind that is read, and of many that are not."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.preparing.gathering import gather
from edgeferry.converter.preparing.images import fitted_picture, read_picture
from edgeferry.converter.samples import Samples
from edgeferry.inference.preprocessing import Crop, ImagePreprocessing, Resize


def gradient(height=20, width=30):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 8, columns * 8, rows + columns], axis=-1).astype(np.uint8)


def saved(path, *, mode="RGB", **options):
    Image.fromarray(gradient()).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpg", "jpeg"])
def test_every_kind_gives_the_same_picture(tmp_path, suffix):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    pixels = read_picture(saved(tmp_path / f"p.{suffix}", **options.get(suffix, {})))

    assert (pixels.dtype, pixels.shape) == (np.uint8, (20, 30, 3))
    assert np.abs(pixels.astype(int) - gradient()).max() <= (12 if suffix == "jpeg" else 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_any_colours_of_8_bits_become_red_green_and_blue(tmp_path, mode):
    assert read_picture(saved(tmp_path / "p.png", mode=mode)).shape == (20, 30, 3)


def test_orientation_that_a_camera_noted_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn

    assert read_picture(saved(tmp_path / "p.jpg", exif=exif)).shape == (20, 30, 3)


def complaint(path):
    with pytest.raises(SamplesError) as caught:
        read_picture(path)
    return str(caught.value)


def test_a_picture_that_is_cut_off_is_told(tmp_path):
    path = saved(tmp_path / "p.png")
    path.write_bytes(path.read_bytes()[:-40])

    assert complaint(path).startswith(f"{path}: is damaged: ")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe\n", b"not a picture"])
def test_what_is_no_picture_is_told(tmp_path, content):
    (tmp_path / "p.png").write_bytes(content)

    assert "is no picture of a kind that is read (BMP, JPEG, PNG, WEBP)" in complaint(tmp_path / "p.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000)))
    (tmp_path / "bomb.png").write_bytes(bomb + chunk(b"IEND", b""))

    assert "has 50000 x 50000 pixels, wanted 64000000 at most" in complaint(tmp_path / "bomb.png")


def test_more_than_8_bits_are_refused_and_not_cut_off(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "p.png")

    assert "has pixels of the kind I;16; wanted 8 bits for each channel" in complaint(tmp_path / "p.png")


def test_a_picture_that_is_too_small_is_named(tmp_path):
    with pytest.raises(SamplesError, match=r"p\.png: has 20 x 30 pixels, and crop wants 64 x 64"):
        fitted_picture(saved(tmp_path / "p.png"), ImagePreprocessing(crop=Crop(height=64, width=64)))


def gathered(tmp_path, declared):
    made = tmp_path / "made"
    made.mkdir()
    gather(tmp_path / "data", declared, (), made, tmp_path)
    return Samples.load(made)


def test_a_folder_of_classes_becomes_inputs_labels_and_names(tmp_path):
    for name, level in (("night", 10), ("day", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for at in range(3):
            Image.new("RGB", (9, 7), (level + at, 0, 0)).save(tmp_path / "data" / name / f"{at}.png")

    samples = gathered(tmp_path, ImagePreprocessing(resize=Resize(height=2, width=3), scale=1 / 255, mean=(0.5,)))

    assert (samples.count, samples.classes, samples.labels.tolist()) == (6, ("day", "night"), [0, 0, 0, 1, 1, 1])
    assert samples.arrays["x"].shape == (6, 2, 3, 3)
    np.testing.assert_allclose(samples.arrays["x"][4:5][0, 1, 2], [11 / 255 - 0.5, -0.5, -0.5], atol=1e-6)


def test_pictures_are_kept_as_whole_numbers_and_scaled_when_they_are_read(tmp_path):
    (tmp_path / "data").mkdir()
    saved(tmp_path / "data" / "p.png")

    samples = gathered(tmp_path, ImagePreprocessing(scale=1 / 255))

    assert np.load(tmp_path / "made" / "x.npy").dtype == np.uint8
    assert (samples.arrays["x"].dtype, samples.labels) == (np.float32, None)


def test_pictures_of_several_sizes_have_to_be_resized(tmp_path):
    (tmp_path / "data").mkdir()
    saved(tmp_path / "data" / "a.png")
    Image.new("RGB", (9, 7)).save(tmp_path / "data" / "b.png")

    with pytest.raises(SamplesError, match=r"b\.png: has shape \[7, 9, 3\], but a\.png has \[20, 30, 3\]; .*resize"):
        gathered(tmp_path, ImagePreprocessing())


@pytest.mark.acceptance
def test_pictures_are_keras_own_but_for_a_level_where_that_is_declared(tmp_path):
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate([(50, 70), (70, 50), (33, 91), (24, 30), (10, 12)]):
        pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    script = Path(__file__).with_name("keras_pictures.py")

    told = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=True)

    differences = json.loads(told.stdout.splitlines()[-1])
    assert len(differences) == 4
    assert max(differences["bilinear"], differences["bilinear, cropped"]) <= 1.01
    assert max(differences["nearest"], differences["nearest, cropped"]) == 0
