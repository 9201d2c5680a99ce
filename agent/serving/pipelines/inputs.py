"""From a sample, as its source spells it, to the array that the model takes.

What a sample is follows from the model: a window of as many rows or sound samples as its input has, a frame, an image.
How raw data becomes the input says the artifact's preprocessing, the same as when the model was converted.
"""

import io
import json
import math
from abc import ABC, abstractmethod

import numpy as np

from edgeferry.agent.pipeline_config import SampleFormat, SourceConfig
from edgeferry.agent.serving.pipelines.facts import ModelFacts
from edgeferry.agent.serving.pipelines.framing import FrameFramer, Framer, JpegFramer, LineFramer
from edgeferry.inference.preprocessing import (
    AudioPreprocessing,
    ImagePreprocessing,
    Preprocessing,
    PreprocessingError,
    SeriesPreprocessing,
    parse_preprocessing,
)
from edgeferry.inference.quantization import DTYPES

__all__ = ["InputError", "Preparer", "make_preparer"]

MAX_PIXELS = 64_000_000  # 8,000 x 8,000; 192 MB decoded

_IMAGE_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


class InputError(Exception):
    """A sample does not become an input of this model; the text says why."""


class Preparer(ABC):
    """Knows one model's input and one format of samples.

    Attributes:
        rows: Rows that make a sample together; 1 where each is one.
        hop: Rows from the beginning of one sample to that of the next.
    """

    rows = 1
    hop = 1

    def __init__(self, source: SourceConfig, facts: ModelFacts, declared: Preprocessing | None) -> None:
        self._source = source
        self._facts = facts
        self._declared = declared

    @abstractmethod
    def framer(self) -> Framer:
        """Return what cuts a stream into rows or samples."""

    def prepare(self, data: bytes) -> np.ndarray:
        """Return the model's input, the batch first: real numbers as float32, or the input's own type.

        Raises:
            InputError: It is not such a sample.
        """
        array = self._read(data)
        if array.shape != self._facts.shape:
            raise InputError(f"a sample becomes {list(array.shape)}, the model wants {list(self._facts.shape)}")
        return array

    @abstractmethod
    def _read(self, data: bytes) -> np.ndarray:
        """Return what ``data`` holds, as `prepare` wants it but for its shape."""

    def _refuse_other_kinds(self, kind: type[Preprocessing]) -> None:
        if self._declared is not None and not isinstance(self._declared, kind):
            found = type(self._declared).__name__.removesuffix("Preprocessing").lower()
            raise InputError(f"the model wants its input made from {found}, source.format is {self._source.format}")


def make_preparer(source: SourceConfig, facts: ModelFacts) -> Preparer:
    """Return what prepares samples of ``source`` for a model.

    Raises:
        InputError: The model's input is not made for such samples, or its preprocessing cannot be understood.
    """
    try:
        declared = parse_preprocessing(facts.preprocessing) if facts.preprocessing else None
    except PreprocessingError as err:
        raise InputError(str(err)) from err
    return _PREPARERS[source.format](source, facts, declared)


class _NumbersPreparer(Preparer):
    """Rows of numbers: a whole input a row, or as many rows as the input's second dimension says."""

    def __init__(self, source: SourceConfig, facts: ModelFacts, declared: Preprocessing | None) -> None:
        super().__init__(source, facts, declared)
        self._refuse_other_kinds(SeriesPreprocessing)
        series = facts.shape[1:]
        self._columns = math.prod(series)
        if isinstance(declared, SeriesPreprocessing):
            self.rows, self._columns = declared.window or 1, len(declared.columns)
            self.hop = declared.hop or self.rows
        elif len(series) == 2 and series[0] > 1:
            self.rows, self.hop, self._columns = series[0], series[0], series[1]

    def framer(self) -> Framer:
        return LineFramer()

    def _read(self, data: bytes) -> np.ndarray:
        rows = [self._row(line) for line in data.splitlines() if line.strip()]
        if len(rows) != self.rows or any(len(row) != self._columns for row in rows):
            found = f"{len(rows)} rows of {', '.join(map(str, sorted({len(row) for row in rows})))} numbers"
            raise InputError(f"a sample has {found}, the model wants {self.rows} of {self._columns}")
        window = np.array(rows, np.float32)
        if not np.isfinite(window).all():
            raise InputError("a sample holds numbers that are infinite or none at all")
        if isinstance(self._declared, SeriesPreprocessing):
            window = self._declared.finished(window[np.newaxis])
        return _typed(window.reshape(self._facts.shape), self._facts)

    def _row(self, line: bytes) -> list[float]:
        try:
            return [float(word) for word in line.replace(b",", b" ").split()]
        except ValueError as err:
            raise InputError(f"{line[:60].decode(errors='replace')!r} is no row of numbers: {err}") from err


class _JsonPreparer(_NumbersPreparer):
    """The same, each row a JSON array, nested ones flattened, or an object of which some fields are taken."""

    def _row(self, line: bytes) -> list[float]:
        fields = self._source.fields
        try:
            said = json.loads(line)
            found = [said[name] for name in fields] if fields else said
            return np.array(found, np.float64).reshape(-1).tolist()
        except (ValueError, TypeError, LookupError, RecursionError) as err:
            wanted = f"object with the numbers {', '.join(fields)}" if fields else "array of numbers"
            raise InputError(f"{line[:60].decode(errors='replace')!r} is no JSON {wanted}: {err!r}") from err


class _PcmPreparer(Preparer):
    """Sound of one channel, 16 bits a sample: a window of as many samples as the input has values."""

    def __init__(self, source: SourceConfig, facts: ModelFacts, declared: Preprocessing | None) -> None:
        super().__init__(source, facts, declared)
        self._refuse_other_kinds(AudioPreprocessing)
        values = math.prod(facts.shape)
        whole = AudioPreprocessing(sample_rate_hz=1, window=values)  # of what rate, its owner has to know
        self._audio = declared if isinstance(declared, AudioPreprocessing) else whole

    def framer(self) -> Framer:
        return FrameFramer(2 * self._audio.window, 2 * (self._audio.hop or self._audio.window))

    def _read(self, data: bytes) -> np.ndarray:
        if len(data) != 2 * self._audio.window:
            raise InputError(f"a sample has {len(data) / 2:g} values of sound, the model wants {self._audio.window}")
        values = self._audio.finished(np.frombuffer(data, "<i2")[np.newaxis])
        return _typed(values.reshape(self._facts.shape), self._facts)


class _RawPreparer(Preparer):
    """The bytes of the input itself."""

    def __init__(self, source: SourceConfig, facts: ModelFacts, declared: Preprocessing | None) -> None:
        super().__init__(source, facts, declared)
        self._dtype = DTYPES[facts.datatype]
        self._size_bytes = math.prod(facts.shape) * self._dtype.itemsize

    def framer(self) -> Framer:
        return FrameFramer(self._size_bytes)

    def _read(self, data: bytes) -> np.ndarray:
        if len(data) != self._size_bytes:
            raise InputError(f"a sample has {len(data)} bytes, the model's input {self._size_bytes}")
        return np.frombuffer(data, self._dtype).reshape(self._facts.shape)


class _PicturePreparer(Preparer):
    """Pictures, brought to the declared size and colours as when the model was converted."""

    def __init__(self, source: SourceConfig, facts: ModelFacts, declared: Preprocessing | None) -> None:
        super().__init__(source, facts, declared)
        self._refuse_other_kinds(ImagePreprocessing)
        if not isinstance(declared, ImagePreprocessing):
            raise InputError(
                "the model does not say how a picture becomes its input; convert it with --preprocessing, or let the"
                " source give raw input"
            )
        self._image = declared

    def framer(self) -> Framer:
        return JpegFramer()

    def _read(self, data: bytes) -> np.ndarray:
        try:
            return _typed(self._image.finished(self._image.fitted(self._pixels(data))[np.newaxis]), self._facts)
        except PreprocessingError as err:
            raise InputError(f"a picture {err}") from err

    def _pixels(self, data: bytes) -> np.ndarray:
        """Return [height, width, 3], red, green and blue."""
        try:
            from PIL import Image  # noqa: PLC0415 - only pipelines of pictures need it
        except ModuleNotFoundError as err:
            raise InputError("pictures need Pillow: pip install 'edgeferry[images]', or take format rgb") from err
        try:
            with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as picture:
                if picture.width * picture.height <= MAX_PIXELS:
                    return np.asarray(picture.convert("RGB"))
                size = f"{picture.width} x {picture.height}"
        except Exception as err:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more for damage
            reason = " ".join(str(err).split())[:120] or type(err).__name__
            raise InputError(f"a sample of {len(data)} bytes is no picture: {reason}") from err
        raise InputError(f"a picture has {size} pixels, wanted {MAX_PIXELS} at most")


class _FramePreparer(_PicturePreparer):
    """Frames as a video program writes them: three bytes a pixel, row after row."""

    def framer(self) -> Framer:
        return FrameFramer(3 * self._source.width * self._source.height)

    def _pixels(self, data: bytes) -> np.ndarray:
        width, height = self._source.width, self._source.height
        if len(data) != 3 * width * height:
            raise InputError(f"a frame has {len(data)} bytes, wanted {width} x {height} pixels of 3")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)


def _typed(values: np.ndarray, facts: ModelFacts) -> np.ndarray:
    """Return values as they travel: real ones as float32, which the serving process quantizes where the model wants it.

    Counted things stay what they are.
    """
    if facts.datatype in ("INT32", "INT64"):
        return values.astype(DTYPES[facts.datatype])
    return np.ascontiguousarray(values, np.float32)


_PREPARERS: dict[SampleFormat, type[Preparer]] = {
    SampleFormat.JPEG: _PicturePreparer,
    SampleFormat.IMAGE: _PicturePreparer,
    SampleFormat.RGB: _FramePreparer,
    SampleFormat.LINES: _NumbersPreparer,
    SampleFormat.JSON: _JsonPreparer,
    SampleFormat.PCM: _PcmPreparer,
    SampleFormat.RAW: _RawPreparer,
}
