"""Why TensorFlow's converter refused a model: from its message, which can be thousands of lines of MLIR. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeferry.converter.errors import Code
from edgeferry.converter.inspection.tflite_fusion import layer_of

__all__ = ["Refusal", "refusal"]

_SELECT_TF = re.compile(r"^(?:Flex|TF Select) ops: (.+)$", re.MULTILINE)
_CUSTOM = re.compile(r"^Custom ops: (.+)$", re.MULTILINE)
_OPEN_LIST = re.compile(r"'tf\.(\w+)' op requires element_shape to be static")
_ERROR = re.compile(r"error: (?:loc\(.*?\)\)*: )?(.+)")
_SENTENCE_CHARACTERS = 400

# Loops and branches as TensorFlow 1 built them; the simple ones are rewritten by TensorFlow itself.
_CONTROL_FLOW_V1 = re.compile(r"(?:Ref)?(?:Enter|Exit|LoopCond|Merge|NextIteration|Switch)|TensorArray\w*V3")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a person needs of the message.

    Attributes:
        sentence: Operation, layer, reason, and one thing to do.
    """

    sentence: str
    code: Code


def refusal(message: str) -> Refusal:
    """Return what the converter's message comes to."""
    custom, select_tf = _listed(_CUSTOM, message), _listed(_SELECT_TF, message)
    old = [name for name in (*custom, *select_tf) if _CONTROL_FLOW_V1.fullmatch(name)]
    if old:
        outermost = min((_with_layer(name, message) for name in old), key=len)
        return Refusal(
            f"{outermost} belongs to a loop or branch of TensorFlow 1, which TensorFlow Lite does not have; "
            "build it with tf.while_loop, tf.cond or a Keras layer of TensorFlow 2, and save the model again",
            Code.CONTROL_FLOW_V1,
        )
    if custom or select_tf:
        only = "" if custom else ", only TensorFlow itself has"
        return Refusal(
            f"TensorFlow Lite has no built-in operation for {_named((*custom, *select_tf), message)}{only}; "
            "replace that layer or operation by supported ones",
            Code.OP_NOT_SUPPORTED if custom else Code.SELECT_TF_NOT_ALLOWED,
        )
    return _open_list(message) or Refusal(_reason(message), Code.CONVERTER_FAILED)


def _listed(pattern: re.Pattern[str], message: str) -> list[str]:
    """Return the operations that the message lists as what ``pattern`` finds."""
    found = pattern.search(message)
    names = found[1].split(",") if found else []
    return [name.strip().removeprefix("tf.").removeprefix("Flex") for name in names]


def _open_list(message: str) -> Refusal | None:
    found = _OPEN_LIST.search(message)
    if found is None:
        return None
    return Refusal(
        f"{_named([found[1]], message)} collects the steps of a recurrent layer or loop, whose shape is open; "
        "save the model with a batch of 1 and a fixed number of steps, or convert its .keras file",
        Code.OPEN_DIMENSION,
    )


def _named(operations: Iterable[str], message: str) -> str:
    """Return operations with the layers in which they stand, as far as the message says so."""
    return ", ".join(dict.fromkeys(_with_layer(name, message) for name in operations))


def _with_layer(name: str, message: str) -> str:
    layer = re.search(rf'"{re.escape(name)}:", "([^"@]+)', message)
    return f"{name} (in {layer_of(layer[1])!r})" if layer else name


def _reason(message: str) -> str:
    error = _ERROR.search(message)
    sentence = error[1] if error else next(iter(message.splitlines()), "TensorFlow's converter gave no reason")
    return sentence[:_SENTENCE_CHARACTERS]
