"""From a trained model to the files that leave the house: a plain Keras model and a TensorFlow Lite one.

A quantized model needs no samples here: ranges stand in its graph, and weights lie on the grid that TensorFlow's
converter lays over them, so that it finds the very integers that were trained.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf

from edgeferry.converter.errors import Code, SourceError
from edgeferry.converter.formats.engine import saved_model_to_tflite
from edgeferry.converter.formats.keras_model import KerasSource
from edgeferry.converter.formats.refusals import refusal
from edgeferry.converter.formats.source import Shapes
from edgeferry.inference.model import Model

__all__ = ["float_tflite", "integer_tflite"]

_SIGNATURE = "serving_default"


def float_tflite(source: KerasSource, shapes: Shapes, folder: Path) -> bytes:
    """Return the float ``.tflite`` of a model; ``folder`` is for files in between."""
    folder.mkdir(exist_ok=True)
    return saved_model_to_tflite(source.save(shapes, folder), _SIGNATURE, what="the trained model")


def integer_tflite(source: KerasSource, shapes: Shapes, folder: Path, *, may_mix: bool) -> bytes:
    """Return the integer ``.tflite`` of a model that rounds as the device will.

    Args:
        source: The model.
        shapes: Of its inputs, the batch of 1 included.
        folder: For files in between.
        may_mix: Whether some operations may stay in float, as somebody has asked for.

    Raises:
        SourceError: It does not convert, or something is left in float.
    """
    folder.mkdir(exist_ok=True)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source.save(shapes, folder)), signature_keys=[_SIGNATURE])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.inference_input_type = converter.inference_output_type = tf.float32 if may_mix else tf.int8
    # Runtimes before 2.15 have one scale for a whole Dense layer, and so has the training.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # noqa: SLF001 - no public name
    try:
        model = bytes(converter.convert())
    except Exception as err:  # any failure of a foreign compiler is one answer to the user
        raise SourceError(
            f"the trained model does not convert: {refusal(str(err)).sentence}", code=Code.CONVERTER_FAILED
        ) from err
    if not may_mix:
        _check_integers(model, folder / "model.tflite")
    return model


def _check_integers(model: bytes, path: Path) -> None:
    path.write_bytes(model)
    details: list[dict[str, Any]] = Model.load(path).interpreter.get_tensor_details()
    left = [tensor["name"] for tensor in details if tensor["dtype"].__name__.startswith("float")]
    if left:
        raise SourceError(
            f"the trained model converts, but {len(left)} tensors stay in float, {left[0]!r} among them; "
            "please report the layer that it belongs to",
            code=Code.RESULT_UNUSABLE,
        )
