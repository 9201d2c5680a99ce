"""TensorFlow's converter, from a SavedModel to a float ``.tflite`` of built-in operations only.

Always from a SavedModel: models converted from bare functions have come out with uninitialised variables, and
therefore with NaN, without an error.
"""

import re
from pathlib import Path

import tensorflow as tf

from edgeferry.converter.errors import Code, SourceError

__all__ = ["code_of", "explain", "saved_model_to_tflite"]

_OPERATIONS = re.compile(r"^(?:Flex|Custom|TF Select) ops: (.+)$", re.MULTILINE)
_LAYER = re.compile(r'loc\([^"]*"[^"]*", "([^"@]+)@')
_ERROR = re.compile(r"error: (.+)")
_SENTENCE_CHARACTERS = 400


def saved_model_to_tflite(folder: Path, signature: str, *, what: str) -> bytes:
    """Return the ``.tflite`` of one signature of the SavedModel in ``folder``.

    Raises:
        SourceError: It uses what TensorFlow Lite does not have, or the converter fails; ``what`` names the model.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signature])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return bytes(converter.convert())
    except Exception as err:  # any failure of a foreign compiler is one answer to the user
        raise SourceError(f"{what} does not convert: {explain(str(err))}", code=code_of(str(err))) from err


def code_of(message: str) -> Code:
    """Return what the converter's message comes to."""
    return Code.OP_NOT_SUPPORTED if _OPERATIONS.search(message) else Code.CONVERTER_FAILED


def explain(message: str) -> str:
    """Return what a person needs of the converter's message, which can be thousands of lines of MLIR."""
    operations = _OPERATIONS.search(message)
    if operations:
        layer = _LAYER.search(message)
        where = f" (in {layer[1]!r})" if layer else ""
        return (
            f"TensorFlow Lite has no built-in operation for {operations[1].strip()}{where}; "
            "replace that layer or operation by supported ones"
        )
    error = _ERROR.search(message)
    sentence = error[1] if error else next(iter(message.splitlines()), "TensorFlow's converter gave no reason")
    return sentence[:_SENTENCE_CHARACTERS]
