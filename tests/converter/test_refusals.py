"""What TensorFlow's converter says, in a sentence, with a code."""

import pytest

from edgeferry.converter.errors import Code
from edgeferry.converter.formats.refusals import refusal

SELECT = """loc(callsite(fused["MatrixInverse:", "net/invert/MatrixInverse@__inference_f_31"] at x)): error: it
error: failed while converting: 'main':
TF Select ops: MatrixInverse, Betainc
Details:
"""
CUSTOM = """loc(callsite(fused["Svd:", "decompose/Svd@__inference_f_24"] at x)): error: 'tf.Svd' op is neither
Custom ops: Svd
TF Select ops: Betainc
"""
LOOP = """<unknown>:0: error: loc(fused["TensorArrayV3:", "memory/TensorArray"]): 'tf.TensorArrayV3' op is neither
error: loc(fused["TensorArrayReadV3:", "memory/while/TensorArrayReadV3"]): 'tf.TensorArrayReadV3' op is neither
Flex ops: FlexTensorArrayReadV3, FlexTensorArrayV3
"""
LIST = """loc(callsite(fused["TensorListReserve:", "net/memory/TensorArrayV2_1@__inference_221"] at x)): error: \
'tf.TensorListReserve' op requires element_shape to be static during TF Lite transformation pass
"""


NO_OPERATION = "TensorFlow Lite has no built-in operation for "
REPLACE = "; replace that layer or operation by supported ones"
SENTENCES = {
    SELECT: f"{NO_OPERATION}MatrixInverse (in 'net/invert'), Betainc, only TensorFlow itself has{REPLACE}",
    CUSTOM: f"{NO_OPERATION}Svd (in 'decompose'), Betainc{REPLACE}",
    LOOP: "TensorArrayV3 (in 'memory') belongs to a loop or branch of TensorFlow 1, which TensorFlow Lite does not "
    "have; build it with tf.while_loop, tf.cond or a Keras layer of TensorFlow 2, and save the model again",
    LIST: "TensorListReserve (in 'net/memory') collects the steps of a recurrent layer or loop, whose shape is open; "
    "save the model with a batch of 1 and a fixed number of steps, or convert its .keras file",
    "<unknown>:0: error: failed to legalize\nmore": "failed to legalize",
    'error: loc(callsite("a" at "b")): it is bad': "it is bad",
    "a bare sentence\nmore": "a bare sentence",
    "": "TensorFlow's converter gave no reason",
}
CODES = {
    SELECT: Code.SELECT_TF_NOT_ALLOWED,
    CUSTOM: Code.OP_NOT_SUPPORTED,
    LOOP: Code.CONTROL_FLOW_V1,
    LIST: Code.OPEN_DIMENSION,
}


@pytest.mark.parametrize("message", SENTENCES, ids=range(len(SENTENCES)))
def test_operation_layer_reason_and_remedy_are_told(message: str) -> None:
    found = refusal(message)

    assert found.sentence == SENTENCES[message]
    assert found.code is CODES.get(message, Code.CONVERTER_FAILED)


def test_a_long_reason_is_cut() -> None:
    assert len(refusal("error: " + "x" * 1000).sentence) == 400
