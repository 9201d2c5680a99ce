"""Sound of every width, and files that are none."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.preparing.audio import read_windows
from edgeferry.converter.preparing.gathering import gather
from edgeferry.converter.samples import Samples
from edgeferry.inference.preprocessing import AudioPreprocessing

RATE = 8000


def saved(path: Path, values: np.ndarray, *, width: int = 2, rate: int = RATE) -> Path:
    """Save ``values``, parts of full scale, [samples] or [samples, channels]."""
    whole = np.rint(np.asarray(values) * 2 ** (8 * width - 1)).astype(np.int64)
    if width == 1:
        whole += 128
    data = b"".join(int(one).to_bytes(width, "little", signed=width > 1) for one in whole.ravel())
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if whole.ndim == 1 else whole.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(data)
    return path


def declared(window: int = 4, **more) -> AudioPreprocessing:
    return AudioPreprocessing(sample_rate_hz=RATE, window=window, **more)


def windows(path: Path, **more) -> list:
    return [window[0].tolist() for window in read_windows(path, declared(**more))]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_full_scale_of_every_width_is_one(tmp_path, width):
    path = saved(tmp_path / "s.wav", [0, 0.5, -1, -0.25], width=width)

    assert windows(path) == [[0, 0.5, -1, -0.25]]


def test_windows_begin_a_hop_apart_and_the_rest_is_left_out(tmp_path):
    path = saved(tmp_path / "s.wav", np.arange(11) / 16)

    assert [window[0] * 16 for window in windows(path, hop=3)] == [0, 3, 6]
    assert [window[0] * 16 for window in windows(path)] == [0, 4]


def test_a_file_that_is_shorter_than_a_window_ends_in_silence(tmp_path):
    assert windows(saved(tmp_path / "s.wav", [0.5, 0.25])) == [[0.5, 0.25, 0, 0]]


def test_channels_are_mixed(tmp_path):
    assert windows(saved(tmp_path / "s.wav", [[0.5, 0.0], [0.25, 0.75]]), window=2) == [[0.25, 0.5]]


def complaint(path: Path) -> str:
    with pytest.raises(SamplesError) as caught:
        windows(path)
    return str(caught.value)


def test_another_rate_is_refused_with_the_way_to_the_right_one(tmp_path):
    said = complaint(saved(tmp_path / "s.wav", [0.5] * 9, rate=44_100))

    assert "has 44100 samples a second, wanted 8000; save it anew, such as with `ffmpeg" in said
    assert "-ar 8000" in said


def test_a_file_without_sound_is_refused(tmp_path):
    assert "has 1 channels of 0 samples, in which there is no sound" in complaint(saved(tmp_path / "s.wav", []))


def test_a_file_that_is_cut_off_is_told(tmp_path):
    path = saved(tmp_path / "s.wav", [0.5] * 100)
    path.write_bytes(path.read_bytes()[:-31])

    assert "s.wav: is " in complaint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"OggS" + bytes(60),
        b"RIFF\x24\0\0\0WAVELIST\xff\xff\xff\xff" + bytes(60),
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 3, 1, RATE, RATE * 4, 4, 32) + b"data\0\0\0\0",
        b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 0, RATE, 0, 0, 16) + b"data\xff\xff\xff\xff",
    ],
)
def test_what_is_no_sound_of_whole_numbers_is_told(tmp_path, content):
    (tmp_path / "s.wav").write_bytes(content)

    assert str(tmp_path / "s.wav") in complaint(tmp_path / "s.wav")


def test_folders_of_sound_are_classes(tmp_path):
    for name, values in (("yes", [0.5] * 8), ("no", [0.25] * 5)):
        (tmp_path / "data" / name).mkdir(parents=True)
        saved(tmp_path / "data" / name / "1.wav", values)
    (tmp_path / "made").mkdir()

    gather(tmp_path / "data", declared(scale=2.0, channel_axis=True), (), tmp_path / "made", tmp_path)

    samples = Samples.load(tmp_path / "made")
    assert (samples.classes, samples.labels.tolist()) == (("no", "yes"), [0, 1, 1])
    assert samples.arrays["x"].shape == (3, 4, 1)
    assert samples.arrays["x"][0:3][:, 0, 0].tolist() == [0.5, 1.0, 1.0]
