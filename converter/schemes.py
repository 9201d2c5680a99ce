"""What each scheme means for litert-quantizer, for calibration and for a self-test. Pure.

A scheme and a granularity of weights make a `Variant`, which is made once and shared by all profiles that want it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgeferry.converter.repair.plan import NO_REPAIR, Repair
from edgeferry.device_profiles import Scheme, WeightGranularity
from edgeferry.wire.desired import SelfTestSpec

__all__ = ["SUPPORTED", "Engine", "Io", "Variant", "needs_calibration", "recipe", "selftest_spec", "variants"]

SUPPORTED = (Scheme.FLOAT32, Scheme.FLOAT16, Scheme.DYNAMIC_INT8, Scheme.INT8, Scheme.INT16X8)

_WITH_INT8_WEIGHTS = (Scheme.DYNAMIC_INT8, Scheme.INT8, Scheme.INT16X8)
_GRANULARITY = {WeightGranularity.PER_CHANNEL: "CHANNELWISE", WeightGranularity.PER_TENSOR: "TENSORWISE"}


class Engine(StrEnum):
    """What quantizes: litert-quantizer, from the float ``.tflite``, or TensorFlow's own converter, from the source."""

    LITERT = "litert"
    TENSORFLOW = "tensorflow"


class Io(StrEnum):
    """What the inputs and outputs of an integer model are."""

    OWN = "own"
    UINT8 = "uint8"
    FLOAT32 = "float32"


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """One way to store the model; granularity stays per channel where the weights are floats.

    Attributes:
        io: What its inputs and outputs are: ``own`` are those that it computes with.
    """

    scheme: Scheme
    weights: WeightGranularity = WeightGranularity.PER_CHANNEL
    io: Io = Io.OWN
    repair: Repair = NO_REPAIR

    def __str__(self) -> str:
        stored = self.scheme if self.weights is WeightGranularity.PER_CHANNEL else f"{self.scheme} {self.weights}"
        stored += f" with {self.io} inputs and outputs" if self.io is not Io.OWN else ""
        return f"{stored} with {self.repair.sentence}" if self.repair.sentence else stored

    @property
    def is_per_channel(self) -> bool:
        """Return whether each output channel has a scale of its own."""
        return self.weights is WeightGranularity.PER_CHANNEL

    @property
    def stored_as(self) -> Scheme:
        """Return the scheme of what comes of it; with layers in float it is mixed."""
        return Scheme.MIXED if self.repair.float_layers else self.scheme

    @property
    def file_name(self) -> str:
        """Return a name for its files, the same for all repairs of it."""
        return f"{self.scheme}-{self.weights}-{self.io}"


def variants(schemes: Sequence[Scheme], weights: WeightGranularity, io: Io = Io.OWN) -> dict[Scheme, Variant]:
    """Return the variant that each supported one of ``schemes`` means, in their order.

    Args:
        schemes: Of a profile.
        weights: As its devices want them; those of float schemes have no scales.
        io: Inputs and outputs that are asked for; only integer schemes have a choice, and uint8 is for int8 alone.
    """
    return {scheme: _variant(scheme, weights, io) for scheme in schemes if scheme in SUPPORTED}


def _variant(scheme: Scheme, weights: WeightGranularity, io: Io) -> Variant:
    has_choice = scheme is Scheme.INT8 or (scheme is Scheme.INT16X8 and io is Io.FLOAT32)
    return Variant(
        scheme,
        weights if scheme in _WITH_INT8_WEIGHTS else WeightGranularity.PER_CHANNEL,
        io if has_choice else Io.OWN,
    )


def needs_calibration(scheme: Scheme) -> bool:
    """Return whether the ranges of activations have to be known before."""
    return scheme in (Scheme.INT8, Scheme.INT16X8, Scheme.MIXED)


def recipe(variant: Variant) -> list[dict[str, Any]]:
    """Return the recipe of litert-quantizer for every operation it knows; none for float32, which is the hub itself.

    Source: litert_quantizer/recipe_manager.py and the JSON files in litert_quantizer/recipes, version 0.11.
    """
    match variant.scheme:
        case Scheme.FLOAT32:
            return []
        case Scheme.FLOAT16:
            return [_everything("float_casting", _op(_weights(16, "FLOAT", "CHANNELWISE"), "FLOAT"))]
        case Scheme.DYNAMIC_INT8:
            return [_everything("min_max_uniform_quantize", _op(_int8_weights(variant), "INTEGER"))]
        case Scheme.INT8 | Scheme.INT16X8:
            bits = 8 if variant.scheme is Scheme.INT8 else 16
            activations = {"num_bits": bits, "symmetric": bits == 16, "granularity": "TENSORWISE", "dtype": "INT"}
            config = {"activation_tensor_config": activations, **_op(_int8_weights(variant), "INTEGER")}
            return [_everything("min_max_uniform_quantize", config), *_borders(variant)]
        case _:
            raise ValueError(f"scheme {variant.scheme} cannot be made; those that can are {', '.join(SUPPORTED)}")


def selftest_spec(scheme: Scheme, *, samples: int, peak: float) -> SelfTestSpec:
    """Return how near a device has to come to the outputs of this host.

    Another processor adds in another order, and rounds the other way now and then: a few steps of a quantized output.
    Dynamic int8 rounds activations anew for each inference, where one step is 1/127 of their range; a mixed model does
    between its layers what its outputs no longer show.

    Args:
        scheme: Of the model.
        samples: In the self-test.
        peak: Largest magnitude of a golden output, in real units.
    """
    tolerance = {Scheme.FLOAT32: 1e-5, Scheme.FLOAT16: 1e-3, Scheme.DYNAMIC_INT8: 2e-2, Scheme.MIXED: 2e-2}.get(
        scheme, 1e-5
    )
    return SelfTestSpec(samples=samples, steps=4, atol=max(peak, 1e-3) * tolerance, rtol=10 * tolerance)


def _borders(variant: Variant) -> list[dict[str, Any]]:
    """Return what a recipe says of inputs and outputs, where they are not what the model computes with."""
    if variant.io is Io.OWN:
        return []
    algorithm, config = "no_quantize", None
    if variant.io is Io.UINT8:
        activations = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "UINT"}
        algorithm = "min_max_uniform_quantize"
        config = {"activation_tensor_config": activations, **_op(_int8_weights(variant), "INTEGER")}
    return [
        {"regex": ".*", "operation": border, "algorithm_key": algorithm, "op_config": config}
        for border in ("INPUT", "OUTPUT")
    ]


def _everything(algorithm: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"regex": ".*", "operation": "*", "algorithm_key": algorithm, "op_config": config}


def _op(weights: dict[str, Any], compute: str) -> dict[str, Any]:
    return {
        "weight_tensor_config": weights,
        "compute_precision": compute,
        "explicit_dequantize": compute == "FLOAT",
        "skip_checks": False,
        "min_weight_elements": 0,
    }


def _int8_weights(variant: Variant) -> dict[str, Any]:
    return _weights(8, "INT", _GRANULARITY[variant.weights])


def _weights(bits: int, dtype: str, granularity: str) -> dict[str, Any]:
    return {"num_bits": bits, "symmetric": True, "granularity": granularity, "dtype": dtype}
