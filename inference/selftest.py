"""Golden inputs and outputs of an artifact, and whether a model reproduces them.

``selftest.npz`` holds the arrays ``input:{name}`` and ``output:{name}`` in the model's own dtypes: the first axis
counts the samples, the others are the tensor's whole shape. The model forgets its state before each sample.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgeferry.inference.model import InputError, Model
from edgeferry.inference.quantization import is_quantized
from edgeferry.wire.desired import SelfTestSpec, TensorSpec

__all__ = ["MAX_SELFTEST_BYTES", "Mismatch", "SelfTest", "SelfTestError", "record_selftest", "run_selftest"]

MAX_SELFTEST_BYTES = 64 * 1024 * 1024  # unpacked; some dozen samples of a large image model

_INPUT = "input:"
_OUTPUT = "output:"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time a zip file can hold: equal samples give equal bytes


class SelfTestError(Exception):
    """The self-test itself is not usable; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where a model first strayed from its golden outputs.

    Attributes:
        output: Name of the output.
        sample: Index of the sample.
        detail: A sentence: what was found and what was wanted.
    """

    output: str
    sample: int
    detail: str

    def __str__(self) -> str:
        return f"output {self.output!r} of self-test sample {self.sample}: {self.detail}"


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Golden inputs and outputs by name, each with samples on its first axis."""

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]

    @property
    def samples(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.inputs.values())))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the self-test in the file at ``path``; nothing in it is executed or unpacked beyond the limit.

        Raises:
            SelfTestError: The file cannot be read, is too large, or does not hold what it has to.
        """
        arrays = _read_arrays(path)
        inputs = {name.removeprefix(_INPUT): a for name, a in arrays.items() if name.startswith(_INPUT)}
        outputs = {name.removeprefix(_OUTPUT): a for name, a in arrays.items() if name.startswith(_OUTPUT)}
        counts = {len(array) if array.ndim else 0 for array in arrays.values()}
        if not inputs or not outputs or len(inputs) + len(outputs) != len(arrays) or len(counts) != 1 or 0 in counts:
            found = ", ".join(f"{name}{list(array.shape)}" for name, array in arrays.items()) or "nothing"
            raise SelfTestError(
                f"{path.name} holds {found[:500]}; wanted {_INPUT}NAME and {_OUTPUT}NAME with equally many samples"
            )
        return cls(inputs, outputs)

    def save(self, path: Path) -> None:
        """Write the self-test to ``path`` atomically; the same arrays always give the same bytes."""
        arrays = {_INPUT + name: array for name, array in self.inputs.items()}
        arrays |= {_OUTPUT + name: array for name, array in self.outputs.items()}
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in arrays.items():
                    _write_array(archive, name, array)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_directory(path.parent)


def record_selftest(model: Model, inputs: Mapping[str, NDArray[Any]]) -> SelfTest:
    """Return the self-test that ``model`` passes by definition: what it answers to ``inputs``.

    Args:
        model: The model of the artifact.
        inputs: By name, samples on the first axis, the tensor's whole shape on the others.

    Raises:
        ModelError: The model does not take the inputs or fails.
    """
    samples = len(next(iter(inputs.values())))
    runs = [_run_sample(model, inputs, index) for index in range(samples)]
    return SelfTest(dict(inputs), {spec.name: np.stack([run[spec.name] for run in runs]) for spec in model.outputs})


def run_selftest(model: Model, selftest: SelfTest, spec: SelfTestSpec) -> Mismatch | None:
    """Return where ``model`` first strays from ``selftest`` by more than ``spec`` allows, or None when it never does.

    Raises:
        SelfTestError: The self-test does not fit the model, or has fewer samples than promised.
        ModelError: The model failed to run.
    """
    outputs = {output.name: output for output in model.outputs}
    if not 0 < spec.samples <= selftest.samples or outputs.keys() != selftest.outputs.keys():
        raise SelfTestError(
            f"the self-test has {selftest.samples} samples of {sorted(selftest.outputs)}, "
            f"wanted {spec.samples} of {sorted(outputs)}"
        )
    for index in range(selftest.samples):
        try:
            found = _run_sample(model, selftest.inputs, index)
        except InputError as err:
            raise SelfTestError(f"the self-test does not fit the model: {err}") from err
        for name, output in outputs.items():
            detail = _difference(found[name], selftest.outputs[name][index], output, spec)
            if detail:
                return Mismatch(name, index, detail)
    return None


def _run_sample(model: Model, inputs: Mapping[str, NDArray[Any]], index: int) -> dict[str, NDArray[Any]]:
    model.reset()
    return model.run({name: samples[index] for name, samples in inputs.items()})


def _difference(found: NDArray[Any], wanted: NDArray[Any], output: TensorSpec, spec: SelfTestSpec) -> str:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"is {found.dtype}{list(found.shape)}, wanted {wanted.dtype}{list(wanted.shape)}"
    if found.dtype.kind == "f":
        return _float_difference(found.astype(np.float64), wanted.astype(np.float64), spec)
    allowed = spec.steps if is_quantized(output) else 0
    steps = np.abs(found.astype(np.int64) - wanted.astype(np.int64)).max(initial=0)
    return f"differs by {steps} steps, allowed are {allowed}" if steps > allowed else ""


def _float_difference(found: NDArray[np.float64], wanted: NDArray[np.float64], spec: SelfTestSpec) -> str:
    near = np.isclose(found, wanted, rtol=spec.rtol, atol=spec.atol)  # NaN is near nothing, and so refused
    if near.all():
        return ""
    at = tuple(int(i) for i in np.argwhere(~near)[0])
    return f"is {found[at]:.6g} at {list(at)}, wanted {wanted[at]:.6g} within {spec.atol:g} + {spec.rtol:g} of it"


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > MAX_SELFTEST_BYTES:
                raise SelfTestError(f"{path.name} unpacks to {unpacked} bytes, allowed are {MAX_SELFTEST_BYTES}")
            return {info.filename.removesuffix(".npy"): _read_array(archive, info) for info in archive.infolist()}
    # What zipfile and numpy raise on damaged files; RuntimeError for an encrypted entry, TypeError for an odd header.
    except (OSError, ValueError, EOFError, RuntimeError, TypeError, MemoryError, zlib.error, zipfile.BadZipFile) as err:
        raise SelfTestError(f"{path.name} is not a self-test: {err}") from err


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as entry:
        packed = io.BytesIO(entry.read(MAX_SELFTEST_BYTES))
    array: NDArray[Any] = np.lib.format.read_array(packed, allow_pickle=False)
    return array


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    unpacked = io.BytesIO()
    np.lib.format.write_array(unpacked, np.ascontiguousarray(array), allow_pickle=False)
    info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, unpacked.getvalue())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
