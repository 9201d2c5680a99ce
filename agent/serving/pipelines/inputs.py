"""From a sample, as its source spells it, to the array that the model takes.

What a sample is follows from the model: a window of as many rows or sound samples as its input has, a frame, an image.
How raw data becomes the input says the artifact's preprocessing, the same as when the model was converted.
"""

import json
import math
from abc import ABC, abstractmethod

import numpy as np

from edgeferry.agent.pipeline_config import SampleFormat, SourceConfig
from edgeferry.agent.serving.pipelines.facts import ModelFacts
from edgeferry.agent.serving.pipelines.framing import FrameFramer, Framer, LineFramer
from edgeferry.inference.quantization import DTYPES

__all__ = ["InputError", "Preparer", "make_preparer"]


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

    def __init__(self, source: SourceConfig, facts: ModelFacts) -> None:
        self._source = source
        self._facts = facts

    @abstractmethod
    def framer(self) -> Framer:
        """Return what cuts a stream into rows or samples."""

    @abstractmethod
    def prepare(self, data: bytes) -> np.ndarray:
        """Return the model's input, the batch first: real numbers as float32, or the input's own type.

        Raises:
            InputError: It is not such a sample.
        """


def make_preparer(source: SourceConfig, facts: ModelFacts) -> Preparer:
    """Return what prepares samples of ``source`` for a model.

    Raises:
        InputError: The model's input is not made for such samples.
    """
    return _PREPARERS[source.format](source, facts)


class _NumbersPreparer(Preparer):
    """Rows of numbers: a whole input a row, or as many rows as the input's second dimension says."""

    def __init__(self, source: SourceConfig, facts: ModelFacts) -> None:
        super().__init__(source, facts)
        series = facts.shape[1:]
        self._columns = math.prod(series)
        if len(series) == 2 and series[0] > 1:
            self.rows, self._columns = series
        self.hop = min(int(facts.preprocessing.get("hop", self.rows)), self.rows)

    def framer(self) -> Framer:
        return LineFramer()

    def prepare(self, data: bytes) -> np.ndarray:
        rows = [self._row(line) for line in data.splitlines() if line.strip()]
        if len(rows) != self.rows or any(len(row) != self._columns for row in rows):
            found = f"{len(rows)} rows of {', '.join(map(str, sorted({len(row) for row in rows})))} numbers"
            raise InputError(f"a sample has {found}, the model wants {self.rows} of {self._columns}")
        return _typed(np.array(rows, np.float64).reshape(self._facts.shape), self._facts)

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
    """Sound: as many samples of one channel as the input has values, scaled to -1 to 1."""

    def __init__(self, source: SourceConfig, facts: ModelFacts) -> None:
        super().__init__(source, facts)
        self._samples = math.prod(facts.shape)
        self._hop = min(int(facts.preprocessing.get("hop", self._samples)), self._samples)

    def framer(self) -> Framer:
        return FrameFramer(2 * self._samples, 2 * self._hop)

    def prepare(self, data: bytes) -> np.ndarray:
        if len(data) != 2 * self._samples:
            raise InputError(f"a sample has {len(data) / 2:g} values of sound, the model wants {self._samples}")
        real = np.frombuffer(data, "<i2").astype(np.float64) / 32768
        return _typed(real.reshape(self._facts.shape), self._facts)


class _RawPreparer(Preparer):
    """The bytes of the input itself."""

    def __init__(self, source: SourceConfig, facts: ModelFacts) -> None:
        super().__init__(source, facts)
        self._dtype = DTYPES[facts.datatype]
        self._size_bytes = math.prod(facts.shape) * self._dtype.itemsize

    def framer(self) -> Framer:
        return FrameFramer(self._size_bytes)

    def prepare(self, data: bytes) -> np.ndarray:
        if len(data) != self._size_bytes:
            raise InputError(f"a sample has {len(data)} bytes, the model's input {self._size_bytes}")
        return np.frombuffer(data, self._dtype).reshape(self._facts.shape)


def _typed(real: np.ndarray, facts: ModelFacts) -> np.ndarray:
    if not np.isfinite(real).all():
        raise InputError("a sample holds numbers that are infinite or none at all")
    if facts.datatype in ("INT32", "INT64"):  # counted things, not quantized ones
        return real.astype(DTYPES[facts.datatype])
    return real.astype(np.float32)


_PREPARERS: dict[SampleFormat, type[Preparer]] = {
    SampleFormat.LINES: _NumbersPreparer,
    SampleFormat.JSON: _JsonPreparer,
    SampleFormat.PCM: _PcmPreparer,
    SampleFormat.RAW: _RawPreparer,
}
