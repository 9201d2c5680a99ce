"""The Keras layers that a model is trained with: weights and activations as they will be stored on the device.

A weighted layer computes with ``fakequant(cluster(mask * w))``, of which each part can be switched on by itself; a
`FakeQuant` stands behind whatever gives values of a range of its own. Rounding is passed by the gradient as if it were
not there (the straight-through estimator: Y. Bengio, N. Léonard and A. Courville, arXiv:1308.3432, section 4).

Each channel of a kernel, or a Dense one as a whole, is kept in units of its greatest weight. One learning rate then
suits all channels, however batch normalization or a rescaling has stretched them; and magnitudes can be compared
between channels.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.training.kinds import TRANSPOSED, channel_axes

__all__ = ["LEVELS", "CompressedLayer", "FakeQuant", "Rounding", "channel_units"]

LEVELS = (
    127  # of a weight's magnitude; the lowest integer, -128, is not used (TensorFlow Lite quantization specification)
)
_LEAST_SPREAD = 1e-6


def channel_units(kernel: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the greatest magnitude of each channel, in a shape that ``kernel`` can be divided by; 1 where all is 0."""
    others = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
    greatest = np.abs(kernel).max(axis=others, keepdims=True)
    return np.where(greatest > 0, greatest, 1).astype(np.float32)


class CompressedLayer(keras.layers.Layer):  # type: ignore[misc] # Keras tells mypy no types
    """A layer that computes with compressed weights.

    Args:
        inner: A built layer with a kernel and a bias, without activation; it is left as it is.
        has_one_unit: Whether all channels are kept in one unit, so that centroids mean the same in each.

    Attributes:
        kind: Of the inner layer.
        original: Its name in the model that was given.
        mask: 0 where a weight is pruned.
        centroids: What clustered weights can be, in ascending order and in units of their channel; None before.
        is_quantized: Whether weights are rounded to integers.
    """

    def __init__(self, inner: Any, *, has_one_unit: bool = False) -> None:
        super().__init__(name=f"{inner.name}_compressed", dtype="float32")
        kernel, bias = inner.get_weights()
        self.kind = type(inner).__name__
        self.original = inner.name.removesuffix("_linear")
        self.inner = inner
        self.inner.trainable = False
        axes = channel_axes(self.kind, kernel.ndim)
        units = channel_units(kernel, axes if self.is_per_channel and not has_one_unit else ())
        self._others = tuple(axis for axis in range(kernel.ndim) if axis not in axes)
        self.weights_in_units = self.add_weight(kernel.shape, _constant(kernel / units), name="weights")
        self.bias_in_units = self.add_weight(bias.shape, _constant(bias / units.ravel()), name="bias")
        self.units = self.add_weight(units.shape, _constant(units), trainable=False, name="units")
        self.mask = self.add_weight(kernel.shape, "ones", trainable=False, name="mask")
        self.centroids: Any = None
        self.is_quantized = False
        self.built = True

    @property
    def incoming_axis(self) -> int:
        """Return the axis of the kernel that counts the channels that come in."""
        return -1 if self.kind in TRANSPOSED else -2

    @property
    def is_per_channel(self) -> bool:
        """Return whether each channel has a scale of its own; older runtimes have one for a whole Dense layer."""
        return self.kind != "Dense"

    def cluster_to(self, centroids: NDArray[np.float32]) -> None:
        """Let weights be one of ``centroids`` from now on; 0 stays 0 where a weight is pruned."""
        self.centroids = self.add_weight(centroids.shape, _constant(np.sort(centroids)), name="centroids")

    def kernel(self) -> Any:
        """Return the kernel as it is computed with, [of the inner layer's shape]."""
        weights = self.weights_in_units * self.mask
        if self.centroids is not None:
            weights = self._clustered(weights)
        kernel = weights * self.units
        return self._rounded(kernel) if self.is_quantized else kernel

    def integers(self) -> NDArray[np.int8]:
        """Return the kernel as a quantized model stores it."""
        kernel = keras.ops.convert_to_numpy(self.kernel())
        integers: NDArray[np.int8] = np.rint(kernel / keras.ops.convert_to_numpy(self._scale(kernel))).astype(np.int8)
        return integers

    def bias(self) -> Any:
        """Return the bias, [channels]."""
        return self.bias_in_units * tf.reshape(self.units, [-1])

    def call(self, inputs: Any) -> Any:
        """Return what the inner layer would give with the compressed weights."""
        values = [self.kernel(), self.bias()]
        outputs, _ = self.inner.stateless_call([], values, inputs)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the inner layer's."""
        return self.inner.compute_output_shape(input_shape)

    def _clustered(self, weights: Any) -> Any:
        """Return for each weight the nearest centroid; both it and the weight get the gradient."""
        centroids = _with_equal_ends(tf.sort(tf.convert_to_tensor(self.centroids)))
        borders = tf.stop_gradient((centroids[1:] + centroids[:-1]) / 2)
        nearest = tf.searchsorted(borders, tf.reshape(tf.stop_gradient(weights), [-1]))
        chosen = tf.reshape(tf.gather(centroids, nearest), tf.shape(weights)) * self.mask
        return chosen + _gradient_of(weights)

    def _rounded(self, kernel: Any) -> Any:
        """Return the kernel on the grid that the device will have: symmetric, as fine as its greatest weight allows."""
        scale = tf.stop_gradient(self._scale(kernel))
        return tf.stop_gradient(tf.round(kernel / scale) * scale) + _gradient_of(kernel)

    def _scale(self, kernel: Any) -> Any:
        reduced = self._others if self.is_per_channel else None
        greatest = tf.reduce_max(tf.abs(kernel), axis=reduced, keepdims=True)
        return tf.where(greatest > 0, greatest, 1.0) / LEVELS


class FakeQuant(keras.layers.Layer):  # type: ignore[misc] # Keras tells mypy no types
    """Rounds what goes through to 256 levels between two bounds, and lets nothing beyond them pass.

    Bounds are kept in units of the first range, and learned: values beyond a bound give it its gradient
    (tf.quantization.fake_quant_with_min_max_vars).

    Args:
        name: Of the layer.
        fixed: Bounds that the device's kernels prescribe.

    Attributes:
        is_active: Whether it rounds; before, it does nothing.
    """

    def __init__(self, name: str, fixed: tuple[float, float] | None = None) -> None:
        super().__init__(name=name, dtype="float32")
        self.is_fixed = fixed is not None
        low, high = fixed or (0.0, 1.0)
        self.unit = self.add_weight((), _constant(np.float32(high - low)), trainable=False, name="unit")
        bounds = np.array([low, high], np.float32) / (high - low)
        self.bounds = self.add_weight((2,), _constant(bounds), trainable=not self.is_fixed, name="bounds")
        self.is_active = False
        self.built = True

    def learns(self, does_learn: bool) -> None:
        """Let the bounds be trained, or not."""
        self.bounds.trainable = does_learn and not self.is_fixed

    def set_range(self, low: float, high: float) -> None:
        """Begin with the bounds ``low`` and ``high``; 0 is always between them."""
        low, high = min(low, 0.0), max(high, 0.0)
        unit = max(high - low, _LEAST_SPREAD)
        self.unit.assign(unit)
        self.bounds.assign([low / unit, high / unit])

    def range(self) -> tuple[Any, Any]:
        """Return both bounds as they are now."""
        low = tf.minimum(self.bounds[0], 0.0) * self.unit
        high = tf.maximum(self.bounds[1], 0.0) * self.unit
        return low, tf.maximum(high, low + _LEAST_SPREAD)

    def call(self, inputs: Any) -> Any:
        """Return ``inputs``, rounded when it is active."""
        if not self.is_active:
            return inputs
        return tf.quantization.fake_quant_with_min_max_vars(inputs, *self.range(), num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


class Rounding(keras.layers.Layer):  # type: ignore[misc] # Keras tells mypy no types
    """What a `FakeQuant` has become: the bounds are numbers that TensorFlow Lite's converter can read."""

    def __init__(self, low: float, high: float, *, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self._bounds = low, high

    def call(self, inputs: Any) -> Any:
        """Return ``inputs``, rounded."""
        return tf.quantization.fake_quant_with_min_max_vars(inputs, *self._bounds, num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return ``input_shape``."""
        return input_shape


def _gradient_of(values: Any) -> Any:
    """Return 0, exactly, with the gradient of ``values``."""
    return values - tf.stop_gradient(values)


def _with_equal_ends(centroids: Any) -> Any:
    """Return ``centroids`` with ends of one magnitude, so that all channels get the same integers of them."""
    end = tf.reduce_max(tf.abs(centroids))
    return tf.concat([[-end], centroids[1:-1], [end]], axis=0)


def _constant(value: Any) -> Any:
    return lambda shape, dtype=None: tf.cast(tf.reshape(value, shape), dtype or tf.float32)
