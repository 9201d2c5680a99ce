"""Real samples on disk: what a file or folder of arrays must hold, and how its arrays become a model's inputs.

``x``, or one array per input of the model under the input's name, the first axis counting the samples; and ``y``,
labels, where there are any. They are members of a ``.npz``, files in a folder (see `sample_folder`), or one ``.npy``,
which is ``x``. Nothing but labels is held in memory.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.rows import REMEDY, Computed, Place, Rows, Stored, blocks, npy_place, npz_places
from edgeferry.converter.sample_folder import Contents, folder_places, read_contents
from edgeferry.inference.preprocessing import PreprocessingError, parse_preprocessing
from edgeferry.inference.quantization import DTYPES, is_quantized, quantize
from edgeferry.wire.desired import TensorSpec

__all__ = ["EncodedSamples", "Samples", "count_of", "encode_sample", "is_in_place", "places_in"]

_SINGLE = "x"
_LABELS = "y"
_WANTED = "wanted samples in a .npz or .npy file, or a folder of them"


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one file or folder.

    Attributes:
        path: Of the file or folder.
        arrays: By name; numbers, the first axis counts the samples.
        labels: Of each sample: a class (0 or more), a map of classes, or real numbers; None where there is no ``y``.
            Maps are memory-mapped.
        classes: Names of the classes that labels count, where the source tells them.
    """

    path: Path
    arrays: Mapping[str, Rows]
    labels: NDArray[Any] | None
    classes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return count_of(self.arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the samples at ``path``, every number of which has been looked at.

        Raises:
            RequestError: There is nothing at ``path``.
            SamplesError: It cannot be read, or what it holds is not usable as samples of anything.
        """
        samples = cls.open(path)
        for name, rows in samples.arrays.items():
            _check_values(path, name, rows)
        return samples

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the samples at ``path``, of which only labels have been looked at; pickled objects are never loaded.

        Raises:
            RequestError: There is nothing at ``path``.
            SamplesError: It cannot be read, or what it holds cannot be samples of anything.
        """
        places = places_in(path)
        _check_layout(path, places)
        arrays = {name: _stored(place) for name, place in places.items()}
        labels = arrays.pop(_LABELS, None)
        if not arrays:
            raise SamplesError(f"{path}: holds no samples; wanted an array {_SINGLE!r}, or one per input of the model")
        for name, array in arrays.items():
            _check_numbers(path, name, array)
        _check_counts(path, {**arrays, **({_LABELS: labels} if labels is not None else {})})
        contents = read_contents(path) or Contents({})
        inputs = {name: _finished(path, rows, contents) for name, rows in arrays.items()}
        return cls(path, inputs, None if labels is None else _labels(path, labels), contents.classes)

    def bind(self, inputs: Sequence[TensorSpec]) -> dict[str, Rows]:
        """Return the samples as the model's inputs: by input name, in its datatype, without the batch of 1.

        Args:
            inputs: Of the float model; their first dimension counts the samples, -1 accepts any size.

        Raises:
            SamplesError: A name, shape, type or range is not what the model takes.
        """
        named = self._by_input([spec.name for spec in inputs])
        for spec in inputs:
            self._check_shape(spec, named[spec.name])
        return {spec.name: _cast(self.path, spec, named[spec.name]) for spec in inputs}

    def _by_input(self, names: Sequence[str]) -> dict[str, Rows]:
        if len(names) == 1 and set(self.arrays) == {_SINGLE}:
            return {names[0]: self.arrays[_SINGLE]}
        if set(self.arrays) == set(names):
            return dict(self.arrays)
        alternative = f"{_SINGLE!r} or {names[0]!r}" if len(names) == 1 else _listed(names)
        raise SamplesError(f"{self.path}: holds {_listed(self.arrays)}, but the model's inputs want {alternative}")

    def _check_shape(self, spec: TensorSpec, array: Rows) -> None:
        wanted = spec.shape[1:]
        found = array.shape[1:]
        if len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True)):
            return
        spelled = ", ".join(["samples", *("any" if size == -1 else str(size) for size in wanted)])
        raise SamplesError(
            f"{self.path}: array for input {spec.name!r} has shape {_shape(array.shape)}, wanted ({spelled})"
        )


class EncodedSamples(Sequence[dict[str, NDArray[Any]]]):
    """Samples as a model takes them, each made when it is asked for.

    Args:
        inputs: As `Samples.bind` returns them.
        specs: Of the model to be run, which may be quantized.
        chosen: Which samples, in this order; all of them unless given.
    """

    def __init__(
        self, inputs: Mapping[str, Rows], specs: Sequence[TensorSpec], chosen: Sequence[int] | None = None
    ) -> None:
        self._inputs = inputs
        self._specs = specs
        self._chosen = range(count_of(inputs)) if chosen is None else chosen

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._chosen)

    def __getitem__(self, at: Any) -> Any:
        """Return one sample, or for a slice some of them, which again are made when they are asked for."""
        if isinstance(at, slice):
            return EncodedSamples(self._inputs, self._specs, self._chosen[at])
        return encode_sample(self._inputs, self._specs, self._chosen[at])

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield one sample after the other."""
        for index in self._chosen:
            yield encode_sample(self._inputs, self._specs, index)


def count_of(inputs: Mapping[str, Rows]) -> int:
    """Return the number of samples in ``inputs``."""
    return len(next(iter(inputs.values())))


def encode_sample(inputs: Mapping[str, Rows], specs: Sequence[TensorSpec], index: int) -> dict[str, NDArray[Any]]:
    """Return one sample as a model with ``specs`` takes it, with its batch of 1.

    Args:
        inputs: As `Samples.bind` returns them.
        specs: Of the model to be run, which may be quantized.
        index: Which sample.
    """
    encoded = {}
    for spec in specs:
        real = inputs[spec.name][index : index + 1]
        encoded[spec.name] = quantize(real, spec) if is_quantized(spec) else real.astype(DTYPES[spec.datatype])
    return encoded


def is_in_place(path: Path) -> bool:
    """Return whether the arrays at ``path`` can be read where they lie: none is packed, or in Fortran's order.

    Raises:
        RequestError: There is nothing at ``path``.
        SamplesError: It is damaged, or no array.
    """
    places = places_in(path)
    return bool(places) and not any(place.is_by_columns for place in places.values())


def places_in(path: Path) -> dict[str, Place]:
    """Return where the arrays at ``path`` lie, by name; empty where they are compressed.

    Raises:
        RequestError: There is nothing at ``path``.
        SamplesError: It is damaged, or no array.
    """
    try:
        if path.is_dir():
            return folder_places(path)
        with path.open("rb") as file:
            is_array = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        if is_array:
            return {_SINGLE: npy_place(path)}
        if not zipfile.is_zipfile(path):
            raise SamplesError(f"{path}: is not a .npz file; {REMEDY}")
        return npz_places(path)
    except OSError as err:
        raise RequestError(f"{path}: {err.strerror}; {_WANTED}") from err


def _check_layout(path: Path, places: Mapping[str, Place]) -> None:
    if not places and path.is_file() and zipfile.ZipFile(path).namelist():
        raise SamplesError(f"{path}: is compressed, and was not unpacked")
    for name, place in places.items():
        if place.is_by_columns:
            raise SamplesError(f"{path}: array {name!r} lies in Fortran's order, and was not put into C's")


def _stored(place: Place) -> Stored:
    try:
        return Stored(place)
    except OSError as err:
        raise RequestError(f"{place.path}: {err.strerror}") from err


def _finished(path: Path, rows: Rows, contents: Contents) -> Rows:
    """Return the values of what was recorded, which are computed when they are read."""
    if not contents.preprocessing:
        return rows
    try:
        finish = parse_preprocessing(contents.preprocessing).finished
    except PreprocessingError as err:
        raise SamplesError(f"{path}: {err}") from err
    made = finish(rows[0:0])
    return Computed(rows, finish, (len(rows), *made.shape[1:]), made.dtype)


def _check_numbers(path: Path, name: str, array: Rows) -> None:
    if array.dtype.kind not in "fiub":
        raise SamplesError(f"{path}: array {name!r} holds {array.dtype}; wanted integers or floats")
    if not array.shape:
        raise SamplesError(f"{path}: array {name!r} is a single number; wanted the samples on its first axis")


def _check_values(path: Path, name: str, rows: Rows) -> None:
    """Do nothing when all numbers that were recorded are finite, and the bytes are those that were written."""
    while isinstance(rows, Computed):
        rows = rows.source
    place = rows.place if isinstance(rows, Stored) else None
    crc32 = zlib.crc32(rows.read(place.start, place.offset - place.start)) if isinstance(rows, Stored) and place else 0
    bad, first_bad = 0, 0
    for first, block in blocks(rows):
        crc32 = zlib.crc32(block.data, crc32) if place else 0
        is_bad = ~np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if is_bad.any():
            first_bad = first_bad if bad else first + int(np.argmax(is_bad))
            bad += int(is_bad.sum())
    if place is not None and place.crc32 not in (None, crc32):
        raise SamplesError(f"{path}: is damaged: the bytes of {name!r} do not have their checksum")
    if bad:
        raise SamplesError(
            f"{path}: array {name!r} has NaN or infinity in {bad} of {len(rows)} samples, "
            f"first in sample {first_bad}; remove or repair them"
        )


def _check_counts(path: Path, arrays: Mapping[str, Rows]) -> None:
    counts = {name: array.shape[0] if array.shape else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SamplesError(f"{path}: the arrays differ in their number of samples ({found}); wanted equal lengths")
    if 0 in counts.values():
        raise SamplesError(f"{path}: holds no samples: its arrays have length 0")
    for name, array in arrays.items():
        if 0 in array.shape:
            raise SamplesError(f"{path}: array {name!r} has shape {_shape(array.shape)}, in which there is no number")


def _labels(path: Path, labels: Stored) -> NDArray[Any]:
    if labels.dtype.kind not in "iuf":
        raise SamplesError(f"{path}: y holds {labels.dtype}; wanted classes as integers, or real numbers")
    _check_values(path, _LABELS, labels)
    if labels.dtype.kind in "iu":
        _check_classes(path, labels)
    if len(labels.shape) > 1 and labels.shape[1:] != (1,):
        place = labels.place
        return np.memmap(place.path, place.dtype, "r", place.offset, place.shape)
    whole = labels[:]
    if whole.dtype.kind == "f":
        return whole.astype(np.float64)
    return whole.reshape(len(labels)).astype(np.int64)


def _check_classes(path: Path, labels: Rows) -> None:
    for first, block in blocks(labels):
        if block.min(initial=0) < 0:
            sample = first + int(np.unravel_index(block.argmin(), block.shape)[0])
            raise SamplesError(f"{path}: y has label {block.min()} at sample {sample}; wanted 0 or more")


def _cast(path: Path, spec: TensorSpec, array: Rows) -> Rows:
    wanted = DTYPES[spec.datatype]
    if array.dtype == wanted:
        return array
    if wanted.kind != "f" and array.dtype.kind == "f":
        raise SamplesError(f"{path}: array for input {spec.name!r} holds {array.dtype}; the model takes {wanted} there")

    def cast(block: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # the next lines tell it better
            made = block.astype(wanted)
        kept = np.isfinite(made).all() if wanted.kind == "f" else np.array_equal(made, block)
        if not kept:
            raise SamplesError(f"{path}: array for input {spec.name!r} has numbers that do not fit into {wanted}")
        return made

    made = Computed(array, cast, array.shape, wanted)
    if not _always_fits(array.dtype, wanted):
        for _ in blocks(made):  # said now, not in the middle of the work
            pass
    return made


def _always_fits(found: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    is_whole_in_float = found.kind in "iub" and wanted.kind == "f" and wanted.itemsize >= 4  # rounded, never infinite
    return is_whole_in_float or np.can_cast(found, wanted, "safe")


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
