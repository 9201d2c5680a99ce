"""Runs the float model and a variant with all their tensors kept, on a few samples, and compares layer by layer.

`compare_layers` is the parent's half; run as a module, this file is the child. Job: ``float_model``, ``model``,
``samples`` and ``inputs``, those of the float model, and ``is_rescaled``. Tensors are matched by name; what a tool has
renamed or fused is left out. Where the channels of the variant have been rescaled between layers, each is scaled back
before it is compared, by the factor that fits best.
"""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import ConverterError
from edgeferry.converter.measure import parse_specs
from edgeferry.converter.outliers import Layer, find_outliers, signal_to_noise_db
from edgeferry.converter.samples import Samples, encode_sample
from edgeferry.converter.stages import Stages
from edgeferry.inference.model import Model, ModelError
from edgeferry.wire.desired import TensorSpec

__all__ = ["compare_layers", "main"]

_SAMPLES = 4  # a layer's error differs little from sample to sample; all tensors of both models are in memory
_MAX_LAYERS = 400
_TAIL_PERCENT = 0.1


def compare_layers(
    stages: Stages,
    float_model: Path,
    model: Path,
    samples: Path,
    inputs: Sequence[TensorSpec],
    *,
    is_rescaled: bool,
    folder: Path,
    what: str,
    deadline_s: float,
) -> dict[str, Any]:
    """Return ``layers``, rows in the order of the model, and ``operations``, how many there are of each kind.

    Args:
        stages: Does the work, or has done it before.
        float_model: The float ``.tflite``.
        model: A variant of it.
        samples: Real samples.
        inputs: Of the float model.
        is_rescaled: Whether the variant's channels have been rescaled between layers.
        folder: For the child's files.
        what: What is being compared, for messages.
        deadline_s: How long it may take.

    Raises:
        ConverterError: One of them cannot be run.
    """
    job = {
        "float_model": float_model,
        "model": model,
        "samples": samples,
        "inputs": msgspec.to_builtins(tuple(inputs)),
        "is_rescaled": is_rescaled,
    }
    return stages.run("edgeferry.converter.layers", job, folder=folder, what=what, outputs=[], deadline_s=deadline_s)


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_compare)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An operation's output: where it is, and how its integers become real numbers."""

    name: str
    operation: str
    index: int
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int32]


class _Sink(Protocol):
    """Whoever adds up pairs of tensors."""

    def add(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        """Take one sample's tensors in."""
        ...


class _Factors:
    """By what each channel of a tensor has to be multiplied so that it comes nearest to the float model's."""

    def __init__(self, found: _Tensor) -> None:
        self._found = found
        self._sums: NDArray[np.float64] | None = None

    def add(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        """Take one sample's tensors in."""
        if reference.shape != found.shape or not reference.ndim or not reference.size:
            return
        rows = (-1, reference.shape[-1])
        wanted, real = reference.astype(np.float64).reshape(rows), _real(found, self._found).reshape(rows)
        products = np.stack([(wanted * real).sum(0), np.square(real).sum(0)])
        self._sums = products if self._sums is None else self._sums + products

    def result(self) -> NDArray[np.float64]:
        """Return a factor for each channel; 1 where there is nothing to go by."""
        if self._sums is None:
            return np.ones(1)
        both, own = self._sums
        is_known = (both > 0) & (own > 0)
        return np.where(is_known, both / np.where(is_known, own, 1.0), 1.0)


class _Channels:
    """Sums by channel: of the float values, their squares, and the squares of what is off."""

    def __init__(self, count: int) -> None:
        self._rows = 0
        self._sums = np.zeros((4, count))

    def add(self, wanted: NDArray[Any], off: NDArray[Any], own_off: NDArray[Any]) -> None:
        """Take one sample in, each an array of rows by channels."""
        self._rows += len(wanted)
        self._sums += [wanted.sum(0), np.square(wanted).sum(0), np.square(off).sum(0), np.square(own_off).sum(0)]

    def ratios_db(self) -> tuple[list[float], list[float]]:
        """Return the signal-to-noise ratios of the channels that vary: as found, and by their own rounding alone."""
        total, squares, noise, own = self._sums / self._rows
        variance = squares - np.square(total)
        varying = variance > np.finfo(np.float32).eps * squares
        found, alone = (
            [signal_to_noise_db(*pair) for pair in zip(variance[varying], one[varying], strict=True)]
            for one in (noise, own)
        )
        return found, alone


class _Sums:
    """What a layer's figures are made of, added up over the samples."""

    def __init__(self, wanted: _Tensor, found: _Tensor, factors: NDArray[np.float64]) -> None:
        self._wanted = wanted
        self._found = found
        self._factors = factors
        self._values: list[tuple[float, ...]] = []
        self._own: list[tuple[float, float]] = []
        self._range = 0.0
        self._channels: _Channels | None = None
        self._shape: tuple[int, ...] = ()

    def add(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        """Take one sample's tensors in."""
        if reference.shape != found.shape or not reference.size:
            return
        self._shape = reference.shape
        wanted, off = reference.astype(np.float64), _real(found, self._found) * self._factors - reference
        low, high = np.percentile(wanted, [_TAIL_PERCENT, 100 - _TAIL_PERCENT])
        noise = float(np.square(off).mean())
        self._values.append((float(wanted.var()), noise, low, high, float(wanted.min()), float(wanted.max())))
        own_off = np.zeros_like(wanted)
        if len(self._found.scales) == 1 and found.dtype.kind in "iu":
            own_off = self._own_error(wanted, found.dtype)
        if wanted.ndim > 2:  # a feature map: channels last, and positions before
            rows = (-1, wanted.shape[-1])
            self._channels = self._channels or _Channels(wanted.shape[-1])
            self._channels.add(wanted.reshape(rows), off.reshape(rows), own_off.reshape(rows))

    def layer(self) -> Layer | None:
        """Return the figures, or None when the tensors have nothing in common."""
        if not self._values:
            return None
        variance, noise, low, high = (float(n) for n in np.mean(self._values, axis=0)[:4])
        own_noise, clipped = np.mean(self._own, axis=0) if self._own else (0.0, 0.0)
        found, alone = self._channels.ratios_db() if self._channels else ([], [])
        return Layer(
            name=self._wanted.name,
            operation=self._wanted.operation,
            shape=self._shape,
            signal_db=round(signal_to_noise_db(variance, noise), 2),
            own_db=round(signal_to_noise_db(variance, float(own_noise)), 2) if self._own else None,
            channel_db=round(statistics.median(found), 2) if found else None,
            own_channel_db=round(statistics.median(alone), 2) if alone and self._own else None,
            clipped_share=float(clipped),
            used_range=min(1.0, max(0.0, (high - low) / self._range)) if self._range else 1.0,
            dead_channels=sum(ratio < 0 for ratio in alone),
            channels=self._shape[-1] if self._shape else 1,
            low=min(row[4] for row in self._values),
            high=max(row[5] for row in self._values),
        )

    def _own_error(self, wanted: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return by how much rounding to this tensor's steps alone would be off."""
        scale, zero_point = float(self._found.scales[0]), int(self._found.zero_points[0])
        limits = np.iinfo(dtype)
        self._range = scale * (limits.max - limits.min)
        steps = np.rint(wanted / self._factors / scale) + zero_point
        off: NDArray[Any] = (np.clip(steps, limits.min, limits.max) - zero_point) * scale * self._factors - wanted
        clipped = float(((steps < limits.min) | (steps > limits.max)).mean())
        self._own.append((float(np.square(off).mean()), clipped))
        return off


def _compare(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    paths = [Path(job["float_model"]), Path(job["model"])]
    report_step(folder, "loading both models to compare their layers")
    bound = Samples.load(Path(job["samples"])).bind(parse_specs(job["inputs"]))
    try:
        reference, candidate = (Model.load(path, keeps_tensors=True) for path in paths)
        pairs = _pairs(reference, candidate)
        runs = _Runs(reference, candidate, bound, pairs, folder)
        factors = [_Factors(found) for _, found in pairs]
        if job["is_rescaled"]:
            runs.feed(factors)
        sums = [_Sums(*pair, factor.result()) for pair, factor in zip(pairs, factors, strict=True)]
        runs.feed(sums)
    except ModelError as err:
        raise ConverterError(f"the layers of {paths[1].name} cannot be compared: {err}") from err
    layers = [layer for one in sums if (layer := one.layer()) is not None]
    causes = find_outliers(layers)
    rows = [asdict(layer) | {"cause": causes.get(index, "")} for index, layer in enumerate(layers)]
    return {"layers": rows, "operations": _operations(candidate), "samples": len(runs.chosen)}


class _Runs:
    """Runs both models on the same few samples, and hands each pair of tensors to whoever adds them up."""

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        bound: Mapping[str, NDArray[Any]],
        pairs: Sequence[tuple[_Tensor, _Tensor]],
        folder: Path,
    ) -> None:
        self._reference = reference
        self._candidate = candidate
        self._bound = bound
        self._pairs = pairs
        self._folder = folder
        self.chosen = _chosen(len(next(iter(bound.values()))))

    def feed(self, sinks: Sequence[_Sink]) -> None:
        """Add every sample's tensors to ``sinks``, one for each pair."""
        for done, index in enumerate(self.chosen):
            report_step(self._folder, "comparing layers", done=done, total=len(self.chosen))
            for model in (self._reference, self._candidate):
                model.reset()
                model.run(encode_sample(self._bound, model.inputs, index))
            for (wanted, found), sink in zip(self._pairs, sinks, strict=True):
                sink.add(_tensor(self._reference, wanted), _tensor(self._candidate, found))


def _chosen(count: int) -> list[int]:
    wanted = min(count, _SAMPLES)
    return [n * count // wanted for n in range(wanted)]


def _pairs(reference: Model, candidate: Model) -> list[tuple[_Tensor, _Tensor]]:
    found = {tensor.name: tensor for tensor in _outputs(candidate)}
    pairs = [(wanted, found[wanted.name]) for wanted in _outputs(reference) if wanted.name in found]
    return pairs[:_MAX_LAYERS]


def _outputs(model: Model) -> Iterator[_Tensor]:
    """Yield what each operation makes, in order."""
    tensors = {details["index"]: details for details in model.interpreter.get_tensor_details()}
    for operation in model.interpreter._get_ops_details():  # noqa: SLF001 - the runtime has no public way to its operators
        for index in operation["outputs"]:
            details = tensors.get(int(index))
            if details is not None and np.dtype(details["dtype"]).kind in "fiu":
                quantization = details["quantization_parameters"]
                scales, zero_points = quantization["scales"], quantization["zero_points"]
                yield _Tensor(details["name"], operation["op_name"], int(index), scales, zero_points)


def _operations(model: Model) -> dict[str, int]:
    names = [operation["op_name"] for operation in model.interpreter._get_ops_details()]  # noqa: SLF001 - see above
    return dict(Counter(names).most_common())


def _tensor(model: Model, tensor: _Tensor) -> NDArray[Any]:
    array: NDArray[Any] = model.interpreter.get_tensor(tensor.index)
    return array


def _real(array: NDArray[Any], tensor: _Tensor) -> NDArray[np.float64]:
    if len(tensor.scales) != 1 or array.dtype.kind == "f":
        return array.astype(np.float64)
    return (array.astype(np.float64) - int(tensor.zero_points[0])) * float(tensor.scales[0])


if __name__ == "__main__":
    main()
