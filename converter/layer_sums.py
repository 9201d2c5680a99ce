"""What a layer's figures are made of: sums over a few samples, so that no more than one sample's tensors are held.

Pure. `Factors` and `Sums` take pairs of tensors, the float model's and the variant's, sample by sample.
"""

import statistics
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.outliers import Layer, signal_to_noise_db

__all__ = ["Factors", "Sink", "Sums", "Tensor"]

_TAIL_PERCENT = 0.1


@dataclass(frozen=True, slots=True)
class Tensor:
    """An operation's output: where it is, and how its integers become real numbers."""

    name: str
    operation: str
    index: int
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int32]


class Sink(Protocol):
    """Whoever adds up pairs of tensors."""

    def add(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        """Take one sample's tensors in."""
        ...


class Factors:
    """By what each channel of a tensor has to be multiplied so that it comes nearest to the float model's."""

    def __init__(self, found: Tensor) -> None:
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


class Sums:
    """What a layer's figures are made of, added up over the samples."""

    def __init__(self, wanted: Tensor, found: Tensor, factors: NDArray[np.float64]) -> None:
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


def _real(array: NDArray[Any], tensor: Tensor) -> NDArray[np.float64]:
    if len(tensor.scales) != 1 or array.dtype.kind == "f":
        return array.astype(np.float64)
    return (array.astype(np.float64) - int(tensor.zero_points[0])) * float(tensor.scales[0])
