"""How raw data becomes a model's input: declared once, carried inside of the model, the same on host and device. Pure.

Decides the words of the declaration and the arithmetic on arrays. Where the data comes from (a file, a camera, a
microphone) is no matter here. What is done in two steps can be kept in between: whole numbers of few bits as they were
recorded, cut and resized (`ImagePreprocessing.fitted`), and from them the input's values (`finished`).

    value = (recorded x scale - mean) / std
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgeferry.inference.resampling import Method, Pixels, resized

__all__ = [
    "AudioPreprocessing",
    "Color",
    "Crop",
    "Fit",
    "ImagePreprocessing",
    "Layout",
    "Preprocessing",
    "PreprocessingError",
    "Resize",
    "SeriesPreprocessing",
    "as_data",
    "parse_preprocessing",
]

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # ITU-R BT.601 in 2^-16, as Pillow rounds it


class PreprocessingError(ValueError):
    """A declaration says what cannot be done, or data does not fit it; the message says which and why."""


Side = Annotated[int, Meta(ge=1, le=4096, description="a whole number from 1 to 4096")]
Level = Annotated[int, Meta(ge=0, le=255, description="a whole number from 0 to 255")]
Count = Annotated[int, Meta(ge=1, le=10_000_000, description="a whole number from 1 to 10000000")]
Factor = Annotated[float, Meta(gt=0, le=1e9, description="a number above 0, such as 0.5 or 1/255")]
Value = Annotated[float, Meta(ge=-1e9, le=1e9, description="a number, such as 127.5")]
Rate = Annotated[int, Meta(ge=1, le=768_000, description="a whole number of hertz from 1 to 768000")]
Column = Annotated[str, Meta(min_length=1, max_length=200, description="the name of a column")]


class Color(StrEnum):
    """What the channels of a picture are."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"


class Fit(StrEnum):
    """What is done when a picture has other proportions than it shall have."""

    STRETCH = "stretch"
    COVER = "cover"
    CONTAIN = "contain"


class Layout(StrEnum):
    """In which order height, width and channels stand."""

    HWC = "hwc"
    CHW = "chw"


class _Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything is said, defaults too, so that another tool need not know them."""


class Resize(_Declaration, frozen=True, kw_only=True):
    """To which size a picture is brought.

    Attributes:
        height: In pixels.
        width: In pixels.
        fit: ``stretch`` both sides as they need; ``cover``: cut from the middle what overhangs; ``contain``: pad.
        method: How pixels between pixels are found.
        antialias: Whether every pixel of a picture that shrinks counts, as Pillow has it.
        pad: What ``contain`` pads with.
    """

    height: Side
    width: Side
    fit: Fit = Fit.STRETCH
    method: Method = Method.BILINEAR
    antialias: bool = True
    pad: Level = 0

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the picture with the declared size."""
        if self.fit is Fit.CONTAIN:
            return self._padded(pixels)
        if self.fit is Fit.COVER:
            height, width = _inner(pixels.shape[0], pixels.shape[1], self.height, self.width)
            pixels = _middle(pixels, height, width)
        return resized(pixels, self.height, self.width, self.method, antialias=self.antialias)

    def _padded(self, pixels: Pixels) -> Pixels:
        height, width = _inner(self.height, self.width, pixels.shape[0], pixels.shape[1])
        inner = resized(pixels, height, width, self.method, antialias=self.antialias)
        made = np.full((self.height, self.width, pixels.shape[2]), self.pad, np.uint8)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        made[top : top + height, left : left + width] = inner
        return made


class Crop(_Declaration, frozen=True, kw_only=True):
    """What is kept of a picture, from its middle, after it was resized."""

    height: Side
    width: Side

    def apply(self, pixels: Pixels) -> Pixels:
        """Return the middle of the picture.

        Raises:
            PreprocessingError: It is smaller than that.
        """
        height, width = pixels.shape[:2]
        if height < self.height or width < self.width:
            raise PreprocessingError(
                f"has {height} x {width} pixels, and crop wants {self.height} x {self.width}; resize it before"
            )
        return _middle(pixels, self.height, self.width)


class _Scaled(_Declaration, frozen=True, kw_only=True):
    """What every kind has: ``(recorded x scale - mean) / std``, mean and std one for all or one for each channel."""

    scale: Factor = 1.0
    mean: tuple[Value, ...] = ()
    std: tuple[Factor, ...] = ()

    def __post_init__(self) -> None:
        channels = self.channels_of_input()
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) > 1 and len(values) != channels:
                raise PreprocessingError(f"{name} has {len(values)} numbers, wanted 1, or {channels}: one per channel")

    def channels_of_input(self) -> int:
        """Return how many channels there are on the last axis of what is recorded."""
        raise NotImplementedError

    @property
    def is_scaled(self) -> bool:
        """Return whether values are other numbers than those that were recorded."""
        return self.scale != 1.0 or bool(self.mean) or bool(self.std)

    def _valued(self, recorded: NDArray[Any]) -> NDArray[Any]:
        """Return the values, as float32 where they are scaled; the channels are on the last axis."""
        if not self.is_scaled:
            return recorded
        values = recorded.astype(np.float32)
        values *= np.float32(self.scale)
        if self.mean:
            values -= np.asarray(self.mean, np.float32)
        if self.std:
            values /= np.asarray(self.std, np.float32)
        return values


class ImagePreprocessing(_Scaled, frozen=True, kw_only=True, tag_field="kind", tag="image"):
    """How a picture becomes an input.

    Attributes:
        color: What its channels shall be.
        resize: To which size; None where pictures have the right one.
        crop: What is kept of its middle afterwards; None for all.
        layout: Of the input.
    """

    color: Color = Color.RGB
    resize: Resize | None = None
    crop: Crop | None = None
    layout: Layout = Layout.HWC

    def channels_of_input(self) -> int:
        """Return how many channels there are."""
        return 1 if self.color is Color.GRAY else 3

    def fitted(self, pixels: Pixels) -> Pixels:
        """Return a picture in the declared size and colours.

        Args:
            pixels: [height, width, 3], red, green and blue; the result has the channels last, too.

        Raises:
            PreprocessingError: It is too small to be cut.
        """
        if self.resize is not None:
            pixels = self.resize.apply(pixels)
        if self.crop is not None:
            pixels = self.crop.apply(pixels)
        if self.color is Color.GRAY:
            return ((pixels @ _LUMA + 0x8000) >> 16).astype(np.uint8)[:, :, np.newaxis]
        return pixels[:, :, ::-1] if self.color is Color.BGR else pixels

    def finished(self, fitted: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the values of pictures.

        Args:
            fitted: [pictures, height, width, channels], as `fitted` gives each.
        """
        values = self._valued(fitted)
        return values if self.layout is Layout.HWC else np.moveaxis(values, -1, 1)


class _Windowed(_Scaled, frozen=True, kw_only=True):
    """What is cut out of something that goes on.

    Attributes:
        window: Length of an input, in samples of sound or rows.
        hop: From the beginning of one window to that of the next; as long as a window unless given.
    """

    window: Count | None = None
    hop: Count | None = None

    def __post_init__(self) -> None:
        _Scaled.__post_init__(self)
        length = self.window or 1
        if self.hop is None:  # it is carried as what it is, so that nobody has to know
            msgspec.structs.force_setattr(self, "hop", length)
        elif self.hop > length:
            raise PreprocessingError(f"hop is {self.hop}, wanted at most {length}, the window: nothing is left out")


class AudioPreprocessing(_Windowed, frozen=True, kw_only=True, tag_field="kind", tag="audio"):
    """How sound becomes inputs: windows of one channel, in which full scale is -1 to 1 before it is scaled.

    Attributes:
        sample_rate_hz: That the sound has to have.
        channel_axis: Whether an input is [window, 1] and not [window].
    """

    sample_rate_hz: Rate
    window: Count
    channel_axis: bool = False

    def channels_of_input(self) -> int:
        """Return how many channels there are."""
        return 1

    def finished(self, recorded: NDArray[Any]) -> NDArray[Any]:
        """Return the values of windows.

        Args:
            recorded: [windows, window]; whole numbers, of which the type's greatest is full scale, or floats.
        """
        limit = np.float32(1.0)
        if recorded.dtype.kind == "i":
            limit = np.float32(-float(np.iinfo(recorded.dtype).min))
        values = self._valued(recorded.astype(np.float32) / limit)
        return values[..., np.newaxis] if self.channel_axis else values


class SeriesPreprocessing(_Windowed, frozen=True, kw_only=True, tag_field="kind", tag="series"):
    """How rows of measurements become inputs: windows of some columns, [window, columns]; without a window [columns].

    Attributes:
        columns: Names of those that are inputs, in this order.
        label: Name of the column that says what a row belongs to; empty where there is none.
        group: Name of the column whose change ends a window; empty where there is none.
        delimiter: Between two values.
    """

    columns: tuple[Column, ...]
    label: str = ""
    group: str = ""
    delimiter: Annotated[str, Meta(min_length=1, max_length=1, description="one character")] = ","

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise PreprocessingError("columns names nothing, or one column twice; wanted the names of the inputs")
        _Windowed.__post_init__(self)

    def channels_of_input(self) -> int:
        """Return how many columns there are."""
        return len(self.columns)

    def finished(self, recorded: NDArray[Any]) -> NDArray[Any]:
        """Return the values of windows, [windows, window, columns]."""
        return self._valued(recorded)


Preprocessing: TypeAlias = ImagePreprocessing | AudioPreprocessing | SeriesPreprocessing


def as_data(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return it as a manifest and a model's metadata hold it."""
    return msgspec.json.decode(msgspec.json.encode(preprocessing), type=dict[str, Any])


def parse_preprocessing(data: Mapping[str, Any]) -> Preprocessing:
    """Return what `as_data` has told.

    Raises:
        PreprocessingError: It is nothing that this version knows.
    """
    try:
        return msgspec.convert(dict(data), Preprocessing)  # type: ignore[no-any-return] # of a union it knows nothing
    except (msgspec.ValidationError, RecursionError) as err:
        raise PreprocessingError(
            f"preprocessing cannot be understood: {err}; a newer edgeferry may have said it"
        ) from err


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _inner(height: int, width: int, like_height: int, like_width: int) -> tuple[int, int]:
    """Return the greatest size within ``height`` x ``width`` that has the proportions of the other.

    Rounded down, as Keras does (`crop_to_aspect_ratio`).
    """
    if height * like_width > width * like_height:  # too high for its width
        return max(1, width * like_height // like_width), width
    return height, max(1, height * like_width // like_height)
