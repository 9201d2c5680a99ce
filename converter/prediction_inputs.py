"""The arrays that ``edgeferry predict`` is given: read from a file, and cut into what a model takes in one run."""

import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.inference.quantization import DTYPES, is_quantized, quantize
from edgeferry.wire.desired import TensorSpec

__all__ = ["MAX_INPUT_BYTES", "Inputs", "bind", "read_arrays_file"]

MAX_INPUT_BYTES = 8 * 1024 * 1024 * 1024  # unpacked; what is larger than that is no handful of samples
_LABELS = "y"
_SINGLE = "x"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Samples as a model takes them.

    Attributes:
        arrays: By input, the first axis counts the runs; in the model's own types or as real values.
        labels: Class of each sample, where the file has ``y`` and the model takes no such input.
        specs: Of the model's inputs.
    """

    arrays: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None
    specs: tuple[TensorSpec, ...]

    @property
    def runs(self) -> int:
        """Return how often the model is to be run."""
        return len(next(iter(self.arrays.values())))

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the inputs of one run after the other, quantized where the model is."""
        for at in range(self.runs):
            yield {spec.name: _encoded(self.arrays[spec.name][at], spec) for spec in self.specs}


def read_arrays_file(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in a ``.npz`` by name, or the one in a ``.npy`` as ``x``; objects in it are never loaded.

    Raises:
        RequestError: There is no such file.
        SamplesError: It is damaged, too large, or holds something else than numbers.
    """
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise RequestError(f"{path}: is a folder; wanted a .npz or .npy file")
    except OSError as err:
        raise RequestError(f"{path}: {err.strerror}; wanted a .npz or .npy file") from err
    try:
        _check_size(path)
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        arrays = {name: loaded[name] for name in loaded.files} if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except SamplesError:
        raise
    except Exception as err:  # of a damaged file numpy, zipfile and the decompressors raise a dozen kinds
        hint = "numbers, not Python objects" if "pickle" in str(err) else "a .npy or .npz file as numpy writes it"
        raise SamplesError(f"{path}: cannot be read ({' '.join(str(err).split())[:120]}); wanted {hint}") from err
    found = arrays if isinstance(arrays, dict) else {_SINGLE: arrays}
    for name, array in found.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise SamplesError(f"{path}: {name!r} holds {getattr(array, 'dtype', 'no array')}; wanted numbers")
    return found


def bind(path: Path, arrays: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec]) -> Inputs:
    """Return ``arrays`` as the inputs of a model.

    Args:
        path: Where they were read, for messages.
        arrays: ``x`` or the only array for a model with one input, else an array for each input by its name. Each has
            the samples on its first axis, or is one sample.
        specs: What the model takes.

    Raises:
        SamplesError: A name, shape or type does not fit.
    """
    arrays = dict(arrays)
    names = [spec.name for spec in specs]
    labels = arrays.pop(_LABELS) if _LABELS in arrays and _LABELS not in names and len(arrays) > 1 else None
    if len(names) == 1 and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    if set(arrays) != set(names):
        raise SamplesError(f"{path}: holds {_listed(arrays)}, but the model's inputs are {_listed(names)}")
    bound = {spec.name: _runs(path, spec, arrays[spec.name]) for spec in specs}
    counts = {name: len(array) for name, array in bound.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SamplesError(f"{path}: wanted the same number of samples for each input, at least one; found {told}")
    samples = next(iter(counts.values())) * max(1, specs[0].shape[0] if specs[0].shape else 1)
    return Inputs(bound, labels if labels is not None and labels.shape == (samples,) else None, tuple(specs))


def _check_size(path: Path) -> None:
    """Do nothing when the arrays unpack to a sane size.

    Raises:
        SamplesError: They do not.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > MAX_INPUT_BYTES:
        raise SamplesError(f"{path}: unpacks to {unpacked} bytes, wanted {MAX_INPUT_BYTES} at most; give fewer samples")


def _runs(path: Path, spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` with an axis for the runs in front of the shape that the model takes."""
    wanted = spec.shape
    _check_type(path, spec, array)
    if _fits(array.shape, wanted[1:]) and wanted:
        array = array[np.newaxis]  # one sample alone
    batch = wanted[0] if wanted and wanted[0] > 0 else 1
    inner = wanted[1:]
    if not wanted:
        if array.ndim > 1:
            raise _misfit(path, spec, array)
        return np.atleast_1d(array)
    if not _fits(array.shape[1:], inner) or array.ndim != len(wanted) or len(array) % batch:
        raise _misfit(path, spec, array)
    return array.reshape(-1, batch, *array.shape[1:])


def _misfit(path: Path, spec: TensorSpec, array: NDArray[Any]) -> SamplesError:
    samples = "samples" if not spec.shape or spec.shape[0] in (-1, 1) else f"a multiple of {spec.shape[0]}"
    wanted = [samples, *("any" if size == -1 else str(size) for size in spec.shape[1:])]
    return SamplesError(
        f"{path}: the array for input {spec.name!r} has shape {list(array.shape)}, wanted [{', '.join(wanted)}]"
    )


def _check_type(path: Path, spec: TensorSpec, array: NDArray[Any]) -> None:
    own = DTYPES[spec.datatype]
    taken = "fiub" if is_quantized(spec) or own.kind == "f" else "iub" if own.kind in "iu" else own.kind
    if array.dtype.kind in taken:
        return
    raise SamplesError(f"{path}: the array for input {spec.name!r} holds {array.dtype}; the model takes {own} there")


def _encoded(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    own = DTYPES[spec.datatype]
    if array.dtype == own:
        return np.ascontiguousarray(array)
    if is_quantized(spec):
        try:
            return quantize(np.asarray(array), spec)
        except ValueError as err:
            raise SamplesError(str(err)) from err
    cast = array.astype(own)
    if own.kind in "iu" and not np.array_equal(cast, array):
        raise SamplesError(f"input {spec.name!r} has numbers that do not fit into {own}")
    return cast


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def _listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "nothing"
