"""Real samples in a ``.npz`` file: what the file must hold, and how its arrays become a model's inputs.

``x``, or one array per input of the model under the input's name, the first axis counting the samples; and ``y``,
labels, where there are any.
"""

import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.inference.quantization import DTYPES, is_quantized, quantize
from edgeferry.wire.desired import TensorSpec

__all__ = ["Samples", "encode_sample"]

_SINGLE = "x"
_LABELS = "y"
_REMEDY = "write one with numpy.savez(path, x=samples, y=labels)"


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one file.

    Attributes:
        path: The file.
        arrays: By name; finite numbers, the first axis counts the samples.
        labels: Of each sample: a class (0 or more), a map of classes, or real numbers; None where there is no ``y``.
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.arrays.values())))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the samples in the file at ``path``; pickled objects in it are refused, never loaded.

        Raises:
            RequestError: There is no file at ``path``.
            SamplesError: It cannot be read, or what it holds is not usable as samples of anything.
        """
        arrays = _read(path)
        labels = arrays.pop(_LABELS, None)
        if not arrays:
            raise SamplesError(f"{path}: holds no samples; wanted an array {_SINGLE!r}, or one per input of the model")
        for name, array in arrays.items():
            _check_numbers(path, name, array)
        _check_counts(path, {**arrays, **({_LABELS: labels} if labels is not None else {})})
        for name, array in arrays.items():
            _check_finite(path, name, array)
        return cls(path, arrays, None if labels is None else _labels(path, labels))

    def bind(self, inputs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
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

    def _by_input(self, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        if len(names) == 1 and set(self.arrays) == {_SINGLE}:
            return {names[0]: self.arrays[_SINGLE]}
        if set(self.arrays) == set(names):
            return dict(self.arrays)
        alternative = f"{_SINGLE!r} or {names[0]!r}" if len(names) == 1 else _listed(names)
        raise SamplesError(f"{self.path}: holds {_listed(self.arrays)}, but the model's inputs want {alternative}")

    def _check_shape(self, spec: TensorSpec, array: NDArray[Any]) -> None:
        wanted = spec.shape[1:]
        found = array.shape[1:]
        if len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True)):
            return
        spelled = ", ".join(["samples", *("any" if size == -1 else str(size) for size in wanted)])
        raise SamplesError(
            f"{self.path}: array for input {spec.name!r} has shape {_shape(array.shape)}, wanted ({spelled})"
        )


def encode_sample(
    inputs: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec], index: int
) -> dict[str, NDArray[Any]]:
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


def _read(path: Path) -> dict[str, NDArray[Any]]:
    _check_file(path)
    if not zipfile.is_zipfile(path):
        raise SamplesError(f"{path}: is not a .npz file; {_REMEDY}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            members = {name: archive[name] for name in archive.files}
    except Exception as err:  # of a damaged file numpy, zipfile and the decompressors raise a dozen kinds
        if "pickle" in str(err):
            raise SamplesError(f"{path}: holds Python objects; wanted arrays of numbers of equal shapes") from err
        raise SamplesError(f"{path}: is damaged: {err or type(err).__name__}") from err
    others = [name for name, member in members.items() if not isinstance(member, np.ndarray)]
    if others:  # numpy gives the bytes of what is no array
        raise SamplesError(f"{path}: is no .npz file but a zip file with {_listed(others)}; {_REMEDY}")
    return members


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as err:
        raise RequestError(f"{path}: {err.strerror}; wanted samples in a .npz file") from err
    if stat.S_ISDIR(mode):
        raise RequestError(f"{path}: is a folder; wanted samples in a .npz file")


def _check_numbers(path: Path, name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind not in "fiub":
        raise SamplesError(f"{path}: array {name!r} holds {array.dtype}; wanted integers or floats")
    if array.ndim == 0:
        raise SamplesError(f"{path}: array {name!r} is a single number; wanted the samples on its first axis")


def _check_finite(path: Path, name: str, array: NDArray[Any]) -> None:
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise SamplesError(
            f"{path}: array {name!r} has NaN or infinity in {bad.sum()} of {len(array)} samples, "
            f"first in sample {int(np.argmax(bad))}; remove or repair them"
        )


def _check_counts(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SamplesError(f"{path}: the arrays differ in their number of samples ({found}); wanted equal lengths")
    if 0 in counts.values():
        raise SamplesError(f"{path}: holds no samples: its arrays have length 0")


def _labels(path: Path, labels: NDArray[Any]) -> NDArray[Any]:
    if labels.dtype.kind not in "iuf":
        raise SamplesError(f"{path}: y holds {labels.dtype}; wanted classes as integers, or real numbers")
    if labels.dtype.kind == "f":
        _check_finite(path, _LABELS, labels)
        return labels.astype(np.float64)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.min() < 0:
        sample = int(np.unravel_index(labels.argmin(), labels.shape)[0])
        raise SamplesError(f"{path}: y has label {labels.min()} at sample {sample}; wanted 0 or more")
    return labels.astype(np.int64)


def _cast(path: Path, spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    wanted = DTYPES[spec.datatype]
    if array.dtype == wanted:
        return array
    if wanted.kind != "f" and array.dtype.kind == "f":
        raise SamplesError(f"{path}: array for input {spec.name!r} holds {array.dtype}; the model takes {wanted} there")
    with np.errstate(over="ignore"):  # the next lines tell it better
        cast = array.astype(wanted)
    kept = np.isfinite(cast).all() if wanted.kind == "f" else np.array_equal(cast, array)
    if not kept:
        raise SamplesError(f"{path}: array for input {spec.name!r} has numbers that do not fit into {wanted}")
    return cast


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
