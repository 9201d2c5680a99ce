"""Pictures of another size, with the arithmetic of Pillow's ``Image.resize``, in numpy. Pure.

Weights are whole numbers of 2^-22 and sums are exact, so that every machine gets the same pixels, in whatever order it
adds. A picture is resampled along its width, rounded, and then along its height; each of the two is Pillow's to the
last bit. (Pillow 13 sometimes begins with the height, which moves single pixels by a level.) Without antialiasing the
filter is as narrow when it shrinks a picture as when it enlarges one, as in ``tf.image.resize`` unless told otherwise.

Source: Pillow, src/libImaging/Resample.c (the algorithm); the cubic is Keys' with a = -0.5.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Method", "Pixels", "resized"]

Pixels = NDArray[np.uint8]  # [height, width, channels]

_BITS = 22  # of a weight behind the point: 8 of a pixel and 2 for sums beyond 255 leave them in 32
_Filter = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Method(StrEnum):
    """How pixels between pixels are found."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


def resized(pixels: Pixels, height: int, width: int, method: Method, *, antialias: bool) -> Pixels:
    """Return the picture with another size.

    Args:
        pixels: [height, width, channels].
        height: Wanted, > 0.
        width: Wanted, > 0.
        method: How pixels between pixels are found.
        antialias: Whether every pixel of a picture that shrinks counts.
    """
    if method is Method.NEAREST:
        return pixels[_nearest(pixels.shape[0], height)][:, _nearest(pixels.shape[1], width)]
    across = pixels if pixels.shape[1] == width else _along_width(pixels, width, method, antialias=antialias)
    return across if across.shape[0] == height else _along_height(across, height, method, antialias=antialias)


def _nearest(found: int, wanted: int) -> NDArray[np.intp]:
    return (2 * np.arange(wanted) + 1) * found // (2 * wanted)


def _along_width(pixels: Pixels, width: int, method: Method, *, antialias: bool) -> Pixels:
    turned = np.ascontiguousarray(pixels.swapaxes(0, 1))
    return _along_height(turned, width, method, antialias=antialias).swapaxes(0, 1)


def _along_height(pixels: Pixels, height: int, method: Method, *, antialias: bool) -> Pixels:
    rows = pixels.reshape(len(pixels), -1)
    made = np.empty((height, rows.shape[1]), np.uint8)
    scale = len(rows) / height
    for at in range(height):
        first, weights = _weights((at + 0.5) * scale, scale if antialias else 1.0, len(rows), method)
        sums = weights @ rows[first : first + len(weights)].astype(np.float64)  # of whole numbers below 2^53: exact
        made[at] = np.clip(np.floor(sums / (1 << _BITS) + 0.5), 0, 255)
    return made.reshape(height, *pixels.shape[1:])


def _weights(center: float, scale: float, size: int, method: Method) -> tuple[int, NDArray[np.float64]]:
    """Return the first of the pixels that count at ``center``, and the weight of each, times 2^22."""
    support, shape = _FILTERS[method]
    stretch = max(scale, 1.0)
    first = max(0, int(center - support * stretch + 0.5))
    last = min(size, int(center + support * stretch + 0.5))
    found = shape((np.arange(first, last, dtype=np.float64) - center + 0.5) / stretch)
    shares = found / _sum_in_order(found) * (1 << _BITS)
    return first, np.trunc(shares + np.where(shares < 0, -0.5, 0.5))


def _sum_in_order(values: NDArray[np.float64]) -> float:
    total = 0.0
    for value in values.tolist():  # numpy adds in pairs, which rounds otherwise
        total += value
    return total


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_FILTERS: dict[Method, tuple[float, _Filter]] = {Method.BILINEAR: (1.0, _triangle), Method.BICUBIC: (2.0, _cubic)}
