"""Pictures of another size: Pillow's pixels along each axis, and the same ones everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeferry.inference.resampling import Method, resized

PILLOWS = {Method.BILINEAR: Image.Resampling.BILINEAR, Method.BICUBIC: Image.Resampling.BICUBIC}
SIZES = st.integers(1, 70)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def pillows(pixels: np.ndarray, height: int, width: int, method: Method) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), PILLOWS[method]))


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, st.sampled_from(sorted(PILLOWS)), st.booleans())
def test_along_one_axis_every_pixel_is_pillows(found, wanted, other, method, is_turned):
    pixels = noise(*((found, other) if is_turned else (other, found)), seed=found)
    size = (wanted, other) if is_turned else (other, wanted)

    made = resized(pixels, *size, method, antialias=True)

    np.testing.assert_array_equal(made, pillows(pixels, *size, method))


@pytest.mark.parametrize("size", [(31, 40), (90, 130), (31, 130)])
@pytest.mark.parametrize("method", list(PILLOWS))
def test_along_both_axes_a_picture_is_pillows_but_for_a_level(size, method):
    waves = np.sin(np.arange(60)[:, None] / 7) * np.cos(np.arange(80) / 5)
    pixels = np.repeat((waves * 100 + 128).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)

    made = resized(pixels, *size, method, antialias=True).astype(int)

    assert np.abs(made - pillows(pixels, *size, method)).max() <= 1


@pytest.mark.parametrize("method", list(Method))
def test_the_same_size_changes_nothing(method):
    pixels = noise(9, 7)

    np.testing.assert_array_equal(resized(pixels, 9, 7, method, antialias=True), pixels)


def test_without_antialiasing_only_the_nearest_pixels_count():
    pixels = np.zeros((1, 8, 1), np.uint8)
    pixels[0, [1, 2]] = 100
    pixels[0, [0, 3]] = 255  # between the two that count for each result

    made = resized(pixels, 1, 2, Method.BILINEAR, antialias=False)

    assert made.ravel().tolist() == [100, 0]


def test_nearest_takes_the_pixel_in_whose_middle_it_falls():
    pixels = np.arange(6, dtype=np.uint8).reshape(1, 6, 1)

    assert resized(pixels, 1, 3, Method.NEAREST, antialias=True).ravel().tolist() == [1, 3, 5]
    assert resized(pixels, 2, 12, Method.NEAREST, antialias=True)[1].ravel().tolist() == [n // 2 for n in range(12)]


def test_a_cubic_that_overshoots_is_cut_off():
    pixels = np.repeat(np.array([0, 0, 255, 255], np.uint8), 3).reshape(1, 4, 3)

    made = resized(pixels, 1, 16, Method.BICUBIC, antialias=True)

    assert (made.min(), made.max()) == (0, 255)
