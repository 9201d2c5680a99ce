"""TensorFlow's converter, from a SavedModel to a float ``.tflite`` of built-in operations where that can be.

Always from a SavedModel: models converted from bare functions have come out with uninitialised variables, and
therefore with NaN, without an error.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf

from edgeferry.converter.errors import Code, SourceError
from edgeferry.converter.formats.refusals import refusal

__all__ = ["saved_model_to_tflite"]

# Fallible and slow on devices: only where built-in operations do not do.
_BUILT_IN = [tf.lite.OpsSet.TFLITE_BUILTINS]
_WITH_TENSORFLOW = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]


def saved_model_to_tflite(folder: Path, signature: str, *, what: str, allows_select_tf: bool = False) -> bytes:
    """Return the ``.tflite`` of one signature of the SavedModel in ``folder``.

    Args:
        folder: The SavedModel.
        signature: Which one.
        what: Names the model, for messages.
        allows_select_tf: Whether operations that TensorFlow Lite does not have may stay TensorFlow's own.

    Raises:
        SourceError: It uses what TensorFlow Lite does not have, or the converter fails.
    """
    try:
        return _converted(folder, signature, _BUILT_IN)
    except Exception as err:  # any failure of a foreign compiler is one answer to the user
        why = refusal(str(err))
        if not (allows_select_tf and why.code is Code.SELECT_TF_NOT_ALLOWED):
            raise SourceError(f"{what} does not convert: {why.sentence}", code=why.code) from err
    try:
        return _converted(folder, signature, _WITH_TENSORFLOW)
    except Exception as err:  # see above
        why = refusal(str(err))
        raise SourceError(f"{what} does not convert: {why.sentence}", code=why.code) from err


def _converted(folder: Path, signature: str, operations: list[Any]) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signature])
    converter.target_spec.supported_ops = operations
    return bytes(converter.convert())
