"""Sound in WAV files, cut into windows of one channel; full scale is -1 to 1.

Read by the standard library, which knows whole numbers (PCM) alone. Nothing is resampled: another rate is an error,
because how it is done changes what a model hears.
"""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError
from edgeferry.inference.preprocessing import AudioPreprocessing

__all__ = ["read_windows"]

_REMEDY = "save it anew, such as with `ffmpeg -i OLD -ac 1 -ar {rate} -c:a pcm_s16le NEW.wav`"
_MAX_CHANNELS = 64
_DAMAGE = (wave.Error, EOFError, ValueError, OverflowError, RuntimeError, ZeroDivisionError)  # as `wave` tells of it


def read_windows(path: Path, declared: AudioPreprocessing) -> Iterator[NDArray[np.float32]]:
    """Yield the windows of a file, each [1, window]; of one that is shorter than a window, all of it and silence.

    Raises:
        SamplesError: It is damaged, has another rate, or no sound.
    """
    remedy = _REMEDY.format(rate=declared.sample_rate_hz)
    try:
        with wave.open(str(path), "rb") as sound:
            yield from _windows(path, sound, declared, remedy)
    except _DAMAGE as err:
        reason = " ".join(str(err).split())[:120] or "it ends early"
        raise SamplesError(f"{path}: is no WAV file of whole numbers, or is damaged: {reason}; {remedy}") from err


def _windows(
    path: Path, sound: wave.Wave_read, declared: AudioPreprocessing, remedy: str
) -> Iterator[NDArray[np.float32]]:
    if sound.getframerate() != declared.sample_rate_hz:
        found = f"{path}: has {sound.getframerate()} samples a second, wanted {declared.sample_rate_hz}"
        raise SamplesError(f"{found}; {remedy}")
    if not 0 < sound.getnchannels() <= _MAX_CHANNELS or not sound.getnframes():
        found = f"{sound.getnchannels()} channels of {sound.getnframes()} samples"
        raise SamplesError(f"{path}: has {found}, in which there is no sound; remove it")
    for start in range(0, max(1, sound.getnframes() - declared.window + 1), declared.hop or declared.window):
        sound.setpos(start)
        yield _mono(path, sound, min(declared.window, sound.getnframes() - start), declared.window)


def _mono(path: Path, sound: wave.Wave_read, count: int, window: int) -> NDArray[np.float32]:
    """Return the next ``count`` samples, the mean of all channels, and silence up to ``window``."""
    width, channels = sound.getsampwidth(), sound.getnchannels()
    data = sound.readframes(count)
    if len(data) != count * width * channels:
        raise SamplesError(f"{path}: is cut off: its header tells of more sound than there is; save it anew")
    made = np.zeros((1, window), np.float32)
    made[0, :count] = _values(data, width).reshape(count, channels).mean(axis=1)
    return made


def _values(data: bytes, width: int) -> NDArray[np.float64]:
    """Return samples of ``width`` bytes, little-endian, as parts of full scale (RIFF WAVE: of 8 bits without sign)."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    wide = np.zeros((len(data) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return wide.view("<i4")[:, 0] / 2.0**31
