"""What a declaration does to data, and how it is carried."""

import msgspec
import numpy as np
import pytest

from edgeferry.inference.preprocessing import (
    AudioPreprocessing,
    Color,
    Crop,
    Fit,
    ImagePreprocessing,
    Layout,
    PreprocessingError,
    Resize,
    SeriesPreprocessing,
    as_data,
    parse_preprocessing,
)

RED = np.zeros((4, 6, 3), np.uint8)
RED[:, :, 0] = 200


def test_values_are_recorded_numbers_scaled_less_the_mean_over_the_deviation():
    declared = ImagePreprocessing(scale=0.5, mean=(100.0, 0.0, 1.0), std=(2.0,))

    values = declared.finished(RED[np.newaxis])

    assert values.dtype == np.float32
    assert values[0, 3, 5].tolist() == [0.0, 0.0, -0.5]


def test_without_scaling_numbers_stay_as_they_were_recorded():
    assert ImagePreprocessing().finished(RED[np.newaxis]).dtype == np.uint8
    assert not ImagePreprocessing().is_scaled


@pytest.mark.parametrize(("color", "pixel"), [(Color.RGB, [200, 0, 0]), (Color.BGR, [0, 0, 200]), (Color.GRAY, [60])])
def test_channels_are_as_declared(color, pixel):
    declared = ImagePreprocessing(color=color)

    assert declared.fitted(RED)[0, 0].tolist() == pixel
    assert declared.channels_of_input() == len(pixel)


def test_channels_stand_in_front_where_that_is_declared():
    values = ImagePreprocessing(layout=Layout.CHW).finished(np.zeros((5, 4, 6, 3), np.uint8))

    assert values.shape == (5, 3, 4, 6)


def test_cover_cuts_from_the_middle_what_overhangs():
    wide = np.zeros((2, 6, 3), np.uint8)
    wide[:, 2:4] = 9

    made = Resize(height=2, width=2, fit=Fit.COVER).apply(wide)

    assert made.tolist() == np.full((2, 2, 3), 9).tolist()


def test_contain_pads_on_both_sides():
    made = Resize(height=6, width=6, fit=Fit.CONTAIN, pad=7).apply(np.full((2, 6, 3), 9, np.uint8))

    assert made[:, 0, 0].tolist() == [7, 7, 9, 9, 7, 7]


@pytest.mark.parametrize("shape", [(3, 6), (6, 3), (1, 50), (50, 1), (4, 4)])
@pytest.mark.parametrize("fit", list(Fit))
def test_a_picture_of_any_proportion_gets_the_declared_size(shape, fit):
    assert Resize(height=4, width=5, fit=fit).apply(np.zeros((*shape, 3), np.uint8)).shape == (4, 5, 3)


def test_a_crop_is_the_middle_of_what_was_resized():
    declared = ImagePreprocessing(resize=Resize(height=4, width=6), crop=Crop(height=2, width=2))
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[1:3, 2:4] = 9

    assert declared.fitted(pixels).tolist() == np.full((2, 2, 3), 9).tolist()


def test_what_is_too_small_to_be_cut_is_told():
    with pytest.raises(PreprocessingError, match="has 4 x 6 pixels, and crop wants 5 x 2; resize it before"):
        ImagePreprocessing(crop=Crop(height=5, width=2)).fitted(RED)


def test_full_scale_of_sound_is_one():
    declared = AudioPreprocessing(sample_rate_hz=16_000, window=3)

    assert declared.finished(np.array([[-32768, 0, 16384]], np.int16)).tolist() == [[-1.0, 0.0, 0.5]]
    assert declared.finished(np.array([[0.25, 0, 1]], np.float32)).tolist() == [[0.25, 0.0, 1.0]]


def test_a_channel_axis_is_added_where_it_is_declared():
    declared = AudioPreprocessing(sample_rate_hz=16_000, window=3, hop=1, channel_axis=True, scale=2.0)

    assert declared.finished(np.ones((4, 3), np.float32)).shape == (4, 3, 1)
    assert (declared.hop, declared.channels_of_input()) == (1, 1)


def test_series_are_scaled_column_by_column():
    declared = SeriesPreprocessing(columns=("a", "b"), window=2, mean=(1.0, 2.0), std=(1.0, 4.0))

    assert declared.finished(np.array([[[1.0, 2.0], [3.0, 10.0]]])).tolist() == [[[0.0, 0.0], [2.0, 2.0]]]
    assert (declared.hop, declared.channels_of_input()) == (2, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImagePreprocessing(mean=(1.0, 2.0)), "mean has 2 numbers, wanted 1, or 3: one per channel"),
        (lambda: ImagePreprocessing(color=Color.GRAY, std=(1.0, 2.0, 3.0)), "std has 3 numbers, wanted 1, or 1"),
        (lambda: SeriesPreprocessing(columns=(), window=1), "columns names nothing"),
        (lambda: SeriesPreprocessing(columns=("a", "a"), window=1), "or one column twice"),
        (lambda: SeriesPreprocessing(columns=("a",), window=2, hop=3), "hop is 3, wanted at most 2"),
    ],
)
def test_what_contradicts_itself_is_refused(make, message):
    with pytest.raises(PreprocessingError, match=message):
        make()


@pytest.mark.parametrize(
    "declared",
    [
        ImagePreprocessing(resize=Resize(height=4, width=5, fit=Fit.COVER), crop=Crop(height=1, width=1), mean=(1.0,)),
        AudioPreprocessing(sample_rate_hz=8000, window=100),
        SeriesPreprocessing(columns=("x",), window=9, label="what"),
    ],
)
def test_a_declaration_survives_being_carried(declared):
    data = msgspec.json.decode(msgspec.json.encode(as_data(declared)))

    assert parse_preprocessing(data) == declared


def test_everything_is_said_when_it_is_carried():
    data = as_data(ImagePreprocessing(resize=Resize(height=4, width=5)))

    assert data == {
        "kind": "image",
        "color": "rgb",
        "resize": {"height": 4, "width": 5, "fit": "stretch", "method": "bilinear", "antialias": True, "pad": 0},
        "crop": None,
        "layout": "hwc",
        "scale": 1.0,
        "mean": [],
        "std": [],
    }


@pytest.mark.parametrize(
    "data", [{}, {"kind": "smell"}, {"kind": "image", "shear": 1}, {"kind": "image", "scale": -1}, {"kind": "audio"}]
)
def test_what_is_not_understood_is_refused_and_not_guessed(data):
    with pytest.raises(PreprocessingError, match=r"preprocessing cannot be understood: .*a newer edgeferry"):
        parse_preprocessing(data)
