"""What people can say in a preprocessing file, and how their mistakes are told."""

import pytest

from edgeferry.converter.errors import RequestError
from edgeferry.converter.preprocessing_file import read_preprocessing
from edgeferry.inference.preprocessing import (
    AudioPreprocessing,
    Color,
    Crop,
    Fit,
    ImagePreprocessing,
    Layout,
    Resize,
    SeriesPreprocessing,
)
from edgeferry.inference.resampling import Method

IMAGE = """
kind: image
color: bgr
resize:
  height: 256
  width: 300
  fit: cover
  method: bicubic
  antialias: false
crop: {height: 224, width: 224}
scale: 1/255
mean: [0.485, 0.456, 0.406]
std: 0.2
layout: chw
"""


def read(tmp_path, text):
    (tmp_path / "p.yaml").write_text(text)
    return read_preprocessing(tmp_path / "p.yaml")


def test_pictures_can_be_declared_in_full(tmp_path):
    assert read(tmp_path, IMAGE) == ImagePreprocessing(
        color=Color.BGR,
        resize=Resize(height=256, width=300, fit=Fit.COVER, method=Method.BICUBIC, antialias=False),
        crop=Crop(height=224, width=224),
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.2,),
        layout=Layout.CHW,
    )


def test_what_is_left_out_is_as_it_is(tmp_path):
    assert read(tmp_path, "kind: image") == ImagePreprocessing()


def test_sound_and_tables_can_be_declared(tmp_path):
    assert read(tmp_path, "kind: audio\nsample_rate_hz: 16000\nwindow: 16_000\nhop: 8000") == AudioPreprocessing(
        sample_rate_hz=16_000, window=16_000, hop=8000
    )
    assert read(tmp_path, "kind: series\ncolumns: [x, y]\nwindow: 50\nlabel: activity") == SeriesPreprocessing(
        columns=("x", "y"), window=50, label="activity"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "p.yaml: wanted keys and values"),
        ("color: rgb", "p.yaml: kind is missing; wanted one of image, audio, series"),
        ("kind: imag", "p.yaml:1: kind: found 'imag'; did you mean \"image\"?"),
        ("kind: image\nresise: {height: 1}", 'p.yaml:2: resise is not a known key; did you mean "resize"?'),
        ("kind: image\nresize:\n  height: 1\n  widht: 2", "p.yaml:4: resize.widht is not a known key; did you mean"),
        ("kind: image\nresize:\n  height: 1", "p.yaml:2: resize.width is missing"),
        ("kind: image\nresize: 224", "p.yaml:2: resize: found '224', wanted keys and values"),
        (
            "kind: image\nresize: {height: 0, width: 1}",
            "resize.height: found '0', wanted a whole number from 1 to 4096",
        ),
        ("kind: image\nresize: {height: 1.5, width: 1}", "resize.height: found '1.5', wanted a whole number"),
        ("kind: image\nresize: {height: 1, width: 1, antialias: maybe}", "wanted true or false"),
        ("kind: image\ncolor: [rgb]", "color: found a list, wanted"),
        ("kind: image\ncolor: rbg", "color: found 'rbg'; did you mean \"rgb\"?"),
        ("kind: image\nscale: 1/0", "scale: found '1/0', wanted a number above 0, such as 0.5 or 1/255"),
        ("kind: image\nscale: nan", "scale: found 'nan', wanted a number above 0"),
        ("kind: image\nscale: -1", "scale: found '-1', wanted"),
        ("kind: image\nscale: 1e999", "scale: found '1e999', wanted"),
        ("kind: image\nmean: [1, two, 3]", "p.yaml:2: mean: found 'two', wanted a number, such as 127.5"),
        ("kind: image\nmean: [1, 2]", "mean has 2 numbers, wanted 1, or 3: one per channel"),
        ("kind: image\nkind: audio", "p.yaml:2: kind stands twice, first on line 1"),
        ("kind: audio\nsample_rate_hz: 16000", "window is missing"),
        ("kind: series\ncolumns: x\nwindow: 5\ndelimiter: ab", "delimiter: found 'ab', wanted one character"),
        ("kind: &a image", "anchors and aliases"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path, text, message):
    with pytest.raises(RequestError) as caught:
        read(tmp_path, text)

    assert str(caught.value).startswith("--preprocessing ")
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"--preprocessing .*none\.yaml: No such file or directory; wanted a YAML"):
        read_preprocessing(tmp_path / "none.yaml")
