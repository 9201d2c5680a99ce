"""Samples that become a model's input."""

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeferry.agent.pipeline_config import SampleFormat, SourceConfig
from edgeferry.agent.serving.pipelines import inputs
from edgeferry.agent.serving.pipelines.facts import FactsError, ModelFacts, parse_config
from edgeferry.agent.serving.pipelines.inputs import InputError, Preparer, make_preparer
from edgeferry.inference.preprocessing import (
    AudioPreprocessing,
    Crop,
    ImagePreprocessing,
    Preprocessing,
    Resize,
    SeriesPreprocessing,
    as_data,
)


def preparer(
    sample_format: str, *shape: int, datatype: str = "FP32", declared: Preprocessing | None = None, **source: Any
) -> Preparer:
    preprocessing = as_data(declared) if declared else {}
    facts = ModelFacts("1", "x", datatype, (1, *shape), preprocessing=preprocessing)
    return make_preparer(SourceConfig(SampleFormat(sample_format), topic="t", **source), facts)


class TestNumbers:
    def test_a_row_is_a_whole_input(self) -> None:
        made = preparer("lines", 4)

        array = made.prepare(b"1, -2 3.5,4e0")

        assert (array.shape, array.dtype, made.rows) == ((1, 4), np.float32, 1)
        np.testing.assert_array_equal(array, [[1, -2, 3.5, 4]])

    def test_rows_together_are_a_window(self) -> None:
        made = preparer("lines", 3, 2)

        assert (made.rows, made.hop) == (3, 3)
        np.testing.assert_array_equal(made.prepare(b"1,2\n3,4\n5,6"), [[[1, 2], [3, 4], [5, 6]]])

    def test_windows_overlap_and_are_scaled_as_the_artifact_says(self) -> None:
        declared = SeriesPreprocessing(columns=("a", "b"), window=2, hop=1, mean=(1.0, 2.0), std=(2.0,))
        made = preparer("lines", 2, 2, declared=declared)

        assert (made.rows, made.hop) == (2, 1)
        np.testing.assert_array_equal(made.prepare(b"1,2\n3,4"), [[[0, 0], [1, 1]]])

    def test_a_stream_is_cut_into_lines(self) -> None:
        assert list(preparer("lines", 2).framer().feed(b"1,2\n3,4\n")) == [b"1,2", b"3,4"]

    def test_json_arrays_may_be_nested(self) -> None:
        np.testing.assert_array_equal(preparer("json", 2, 2).prepare(b"[1, 2]\n[[3], [4]]"), [[[1, 2], [3, 4]]])

    def test_fields_of_json_objects_make_a_row(self) -> None:
        made = preparer("json", 2, fields=("y", "x"))

        np.testing.assert_array_equal(made.prepare(b'{"x": 1, "y": 2, "unit": "g"}'), [[2, 1]])

    def test_counted_things_stay_whole_numbers(self) -> None:
        assert preparer("lines", 2, datatype="INT32").prepare(b"7 8").dtype == np.int32

    @pytest.mark.parametrize(
        ("made", "data", "words"),
        [
            (preparer("lines", 2), b"1,2,3", "1 rows of 3 numbers, the model wants 1 of 2"),
            (preparer("lines", 2, 2), b"1,2", "the model wants 2 of 2"),
            (preparer("lines", 2), b"1,two", "is no row of numbers"),
            (preparer("lines", 2), b"1,nan", "infinite or none at all"),
            (preparer("json", 2), b'{"x": 1}', "is no JSON array of numbers"),
            (preparer("json", 2), b"[1, [2, 3]]", "is no JSON array of numbers"),
            (preparer("json", 1, fields=("x",)), b'{"y": 1}', "object with the numbers x"),
            (preparer("json", 2), b"[" * 100_000, "is no JSON array of numbers"),
            (preparer("pcm", 4), b"1234567", "3.5 values of sound, the model wants 4"),
            (preparer("raw", 4, datatype="UINT8"), b"123", "3 bytes, the model's input 4"),
        ],
    )
    def test_what_is_no_sample_is_told_with_what_was_wanted(self, made: Preparer, data: bytes, words: str) -> None:
        with pytest.raises(InputError, match=words):
            made.prepare(data)


class TestSound:
    def test_it_is_scaled_to_one(self) -> None:
        array = preparer("pcm", 3).prepare(np.array([-32768, 0, 16384], "<i2").tobytes())

        np.testing.assert_array_equal(array, [[-1, 0, 0.5]])

    def test_windows_overlap_as_the_artifact_says(self) -> None:
        made = preparer("pcm", 2, declared=AudioPreprocessing(sample_rate_hz=16_000, window=2, hop=1))

        assert list(made.framer().feed(b"aabbcc")) == [b"aabb", b"bbcc"]

    def test_a_channel_axis_is_made_where_the_model_wants_one(self) -> None:
        declared = AudioPreprocessing(sample_rate_hz=16_000, window=2, channel_axis=True)

        assert preparer("pcm", 2, 1, declared=declared).prepare(b"\0" * 4).shape == (1, 2, 1)


def picture(height: int, width: int, file_format: str = "PNG") -> tuple[np.ndarray, bytes]:
    """Return pixels, and the file that holds them."""
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return pixels, file.getvalue()


class TestPictures:
    DECLARED = ImagePreprocessing(resize=Resize(height=4, width=6), scale=1 / 255, mean=(0.5,))

    def test_they_become_what_they_became_when_the_model_was_converted(self) -> None:
        pixels, file = picture(20, 30)

        array = preparer("image", 4, 6, 3, declared=self.DECLARED).prepare(file)

        wanted = self.DECLARED.finished(self.DECLARED.fitted(pixels)[np.newaxis])
        np.testing.assert_array_equal(array, wanted)
        assert array.dtype == np.float32

    def test_a_stream_is_cut_into_jpeg_pictures(self) -> None:
        _, file = picture(16, 16, "JPEG")
        made = preparer("jpeg", 4, 6, 3, declared=self.DECLARED)

        assert [made.prepare(one).shape for one in made.framer().feed(file + file)] == [(1, 4, 6, 3)] * 2

    def test_raw_frames_need_no_decoder(self) -> None:
        pixels, _ = picture(8, 10)
        made = preparer("rgb", 4, 6, 3, declared=self.DECLARED, width=10, height=8)

        (frame,) = made.framer().feed(pixels.tobytes())

        wanted = self.DECLARED.finished(self.DECLARED.fitted(pixels)[np.newaxis])
        np.testing.assert_array_equal(made.prepare(frame), wanted)

    def test_a_picture_that_is_too_small_to_cut_is_told(self) -> None:
        declared = ImagePreprocessing(crop=Crop(height=100, width=100))

        with pytest.raises(InputError, match="a picture has 20 x 30 pixels, and crop wants 100 x 100"):
            preparer("image", 100, 100, 3, declared=declared).prepare(picture(20, 30)[1])

    def test_one_with_more_pixels_than_anybody_has_is_not_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inputs, "MAX_PIXELS", 599)

        with pytest.raises(InputError, match="30 x 20 pixels, wanted 599 at most"):
            preparer("image", 4, 6, 3, declared=self.DECLARED).prepare(picture(20, 30)[1])

    @pytest.mark.parametrize("cut", [0, 1, 20, 200])
    def test_a_damaged_one_is_told(self, cut: int) -> None:
        with pytest.raises(InputError, match="is no picture"):
            preparer("image", 4, 6, 3, declared=self.DECLARED).prepare(picture(20, 30)[1][:cut])

    def test_a_model_that_does_not_say_what_becomes_of_a_picture_is_told_before_the_first_one(self) -> None:
        with pytest.raises(InputError, match="convert it with --preprocessing"):
            preparer("jpeg", 4, 6, 3)

    def test_a_model_of_sound_takes_no_pictures(self) -> None:
        with pytest.raises(InputError, match=r"made from audio, source\.format is jpeg"):
            preparer("jpeg", 4, declared=AudioPreprocessing(sample_rate_hz=1, window=4))

    def test_preprocessing_of_a_later_version_is_told(self) -> None:
        facts = ModelFacts("1", "x", "FP32", (1, 4), preprocessing={"kind": "smell"})

        with pytest.raises(InputError, match="a newer edgeferry may have said it"):
            make_preparer(SourceConfig(SampleFormat.RAW, topic="t"), facts)


class TestRaw:
    def test_it_is_the_input_itself(self) -> None:
        made = preparer("raw", 2, 2, datatype="UINT8")

        np.testing.assert_array_equal(made.prepare(bytes([1, 2, 3, 4])), [[[1, 2], [3, 4]]])
        assert list(made.framer().feed(b"abcdefgh")) == [b"abcd", b"efgh"]


@pytest.mark.parametrize("made", [preparer("lines", 2, 2), preparer("json", 2), preparer("pcm", 2), preparer("raw", 2)])
@given(data=st.binary(max_size=64))
def test_no_bytes_are_more_than_refused(made: Preparer, data: bytes) -> None:
    with suppress(InputError):
        assert np.isfinite(made.prepare(data)).all()


CONFIG: dict[str, Any] = {
    "name": "cats",
    "version_policy": {"specific": {"versions": [7]}},
    "input": [{"name": "x", "data_type": "TYPE_INT8", "dims": [-1, 8]}],
    "parameters": {"labels": {"string_value": '["a","b"]'}, "preprocessing": {"string_value": '{"hop":2}'}},
}


class TestFacts:
    def test_a_configuration_tells_all_that_is_needed(self) -> None:
        assert parse_config(CONFIG) == ModelFacts("7", "x", "INT8", (1, 8), ("a", "b"), {"hop": 2})

    def test_another_version_that_takes_the_same_is_fed_alike(self) -> None:
        facts = parse_config(CONFIG)

        assert facts.is_fed_like(ModelFacts("8", "x", "INT8", (1, 8), ("a", "b"), {"hop": 2}))
        assert not facts.is_fed_like(ModelFacts("7", "x", "INT8", (1, 8), ("b", "a"), {"hop": 2}))

    def test_a_model_with_several_inputs_is_refused_by_their_names(self) -> None:
        several = CONFIG | {"input": [*CONFIG["input"], {"name": "y", "data_type": "TYPE_FP32", "dims": [1]}]}

        with pytest.raises(FactsError, match=r"2 inputs \(x, y\)"):
            parse_config(several)
