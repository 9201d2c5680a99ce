"""Why a layer of a quantized model errs: from figures of its output to a cause. Pure.

The signal-to-noise ratio of a layer is the variance of the float model's output over the mean square of what the
quantized model's output is off, in decibels: 40 dB is 1 % of the signal, 20 dB is 10 %, at 0 dB nothing is left. In a
feature map it is told of the median channel, too: large channels hide what small ones lose to their common step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Cause", "Layer", "cause_of", "find_outliers", "signal_to_noise_db"]

MAX_DB = 120.0  # single precision; equal outputs shall have a number, too
_BAD_DB = 20.0
_FAR_BELOW_DB = 12.0  # a quarter of the amplitude
_CLIPPED_SHARE = 0.001
_DEAD_SHARE = 0.05
_USED_RANGE = 0.25  # two of eight bits are wasted below
_UNEVEN_DB = 10.0  # the median channel has a third of the whole tensor's precision
_EXPLAINED_DB = 3.0  # half of the noise


class Cause(StrEnum):
    """Why a layer errs more than it should."""

    SATURATION = "saturation"
    DEAD_CHANNELS = "dead channels"
    RANGE_OUTLIER = "range outlier"
    INHERITED = "inherited"
    ROUNDING = "rounding"


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation's output in both models, over some samples.

    Attributes:
        name: Of the tensor.
        operation: What makes it: CONV_2D.
        shape: Of the tensor.
        signal_db: Signal-to-noise ratio; at most `MAX_DB`.
        own_db: The same if only this tensor were quantized; None where it is not.
        channel_db: Signal-to-noise ratio of the median channel; None where the tensor is no feature map.
        own_channel_db: The same if only this tensor were quantized; None where there is no ``own_db``.
        clipped_share: Share of the float values that lie outside of its range, 0 to 1.
        used_range: Share of its range that 99.8 % of the values need, 0 to 1.
        dead_channels: How many channels vary in the float model by less than what their rounding adds.
        channels: Size of the last axis.
        low: Least float value.
        high: Greatest float value.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    signal_db: float
    own_db: float | None
    channel_db: float | None
    own_channel_db: float | None
    clipped_share: float
    used_range: float
    dead_channels: int
    channels: int
    low: float
    high: float


def signal_to_noise_db(signal: float, noise: float) -> float:
    """Return the ratio of two mean squares in decibels, between 0 less and more `MAX_DB`."""
    if noise <= 0:
        return MAX_DB
    if signal <= 0 or not math.isfinite(noise):
        return -MAX_DB
    return min(MAX_DB, max(-MAX_DB, 10 * math.log10(signal / noise)))


def find_outliers(layers: Sequence[Layer]) -> dict[int, Cause]:
    """Return the layers that err much, by index, with the cause.

    Much is less than 20 dB, or less than 30 dB and 12 dB below the median of all; of the whole tensor or of its median
    channel.
    """
    if not layers:
        return {}
    ordered = sorted(layer.signal_db for layer in layers)
    median = ordered[len(ordered) // 2]
    limit = max(_BAD_DB, min(median - _FAR_BELOW_DB, _BAD_DB + 10))
    found: dict[int, Cause] = {}
    for index, layer in enumerate(layers):
        if _ratio_db(layer) < limit:
            cause = cause_of(layer)
            # Nothing before it errs: then it is what happens inside, to weights or to ranges found at each inference.
            found[index] = Cause.ROUNDING if cause is Cause.INHERITED and not found else cause
    return found


def cause_of(layer: Layer) -> Cause:
    """Return why ``layer`` errs: its own quantization where that explains half of the noise, else what it was given."""
    if not _is_its_own(layer):
        return Cause.INHERITED
    if layer.dead_channels > _DEAD_SHARE * layer.channels:
        return Cause.DEAD_CHANNELS
    if layer.clipped_share > _CLIPPED_SHARE:
        return Cause.SATURATION
    if layer.used_range < _USED_RANGE or _is_uneven(layer):
        return Cause.RANGE_OUTLIER
    return Cause.ROUNDING


def _ratio_db(layer: Layer) -> float:
    return layer.signal_db if layer.channel_db is None else min(layer.signal_db, layer.channel_db)


def _is_its_own(layer: Layer) -> bool:
    if layer.own_db is None:
        return False
    if layer.own_db - layer.signal_db <= _EXPLAINED_DB:
        return True
    return (
        layer.own_channel_db is not None
        and layer.channel_db is not None
        and layer.channel_db < layer.signal_db  # else the noise is in the few large channels
        and layer.own_channel_db - layer.channel_db <= _EXPLAINED_DB
    )


def _is_uneven(layer: Layer) -> bool:
    return (
        layer.own_db is not None
        and layer.own_channel_db is not None
        and (layer.own_db - layer.own_channel_db > _UNEVEN_DB)
    )
