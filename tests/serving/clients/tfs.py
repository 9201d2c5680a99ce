"""TensorFlow Serving's own client, as its documentation has it; run in an environment of its own.

python tfs.py GRPC_ADDRESS FOLDER: asks with FOLDER/x.npy and FOLDER/raw.npy, writes what it got to FOLDER/answers.npz.
"""

import sys
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

address, folder = sys.argv[1], Path(sys.argv[2])
x, raw = np.load(folder / "x.npy"), np.load(folder / "raw.npy")
channel = grpc.insecure_channel(address)
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)
answers = {}


def predict(model, array, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    request.model_spec.signature_name = spec.get("signature", "")
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    return prediction.Predict(request, 10)


def refusal(call, kind):
    """Return the error that ``call`` raises."""
    try:
        call()
    except kind as err:
        return err
    raise AssertionError("it was answered")


answer = predict("floats", x)
assert answer.model_spec.version.value == 2, answer.model_spec
assert list(answer.outputs["scores"].float_val), "clients read the typed fields"
answers["floats"] = tf.make_ndarray(answer.outputs["scores"])
answers["floats-1"] = tf.make_ndarray(predict("floats", x, version=1).outputs["scores"])
answers["real"] = tf.make_ndarray(predict("digits", x).outputs["scores"])
answers["raw"] = tf.make_ndarray(predict("digits", raw, signature="raw").outputs["scores"])

pair = predict_pb2.PredictRequest()
pair.model_spec.name = "pair"
pair.inputs["a"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0]]))
pair.inputs["b"].CopyFrom(tf.make_tensor_proto(3.0, shape=[1, 2]))  # one value, repeated to fill the shape
pair.output_filter.append("sum")
sums = prediction.Predict(pair, 10).outputs
assert list(sums) == ["sum"]
assert tf.make_ndarray(sums["sum"]).tolist() == [[4.0, 5.0]]

classify = classification_pb2.ClassificationRequest()
classify.model_spec.name = "digits"
classify.input.example_list.examples.add().features.feature["x"].float_list.value.extend(x[0].tolist())
(classes,) = prediction.Classify(classify, 10).result.classifications
answers["classes"] = np.array([[each.score for each in classes.classes]], np.float32)
assert [each.label for each in classes.classes] == [f"class-{i}" for i in range(len(classes.classes))]

regress = regression_pb2.RegressionRequest()
regress.model_spec.name = "one"
regress.input.example_list.examples.add().features.feature["x"].float_list.value.extend(x[0].tolist())
answers["one"] = np.array([each.value for each in prediction.Regress(regress, 10).result.regressions], np.float32)

metadata = get_model_metadata_pb2.GetModelMetadataRequest()
metadata.model_spec.name = "digits"
metadata.metadata_field.append("signature_def")
signatures = get_model_metadata_pb2.SignatureDefMap()
prediction.GetModelMetadata(metadata, 10).metadata["signature_def"].Unpack(signatures)
assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum
assert signatures.signature_def["raw"].inputs["x"].dtype == tf.int8.as_datatype_enum

status = get_model_status_pb2.GetModelStatusRequest()
status.model_spec.name = "floats"
states = models.GetModelStatus(status, 10).model_version_status
available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
assert [(state.version, state.state) for state in states] == [(1, available), (2, available)], states

error = refusal(lambda: predict("cats", x), grpc.RpcError)
assert error.code() is grpc.StatusCode.NOT_FOUND
assert error.details() == "Servable not found for request: Latest(cats)"
np.savez(folder / "answers.npz", **answers)
