"""gRPC: the services as a client sees them, through messages of our own; real clients are asked in test_clients.py."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models import two_way_model
from tests.serving.conftest import Server

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.protobuf import Fields, Schema, decode_message, encode_message
from edgeferry.agent.serving.tfs_tensors import DT, tensor_from_proto, tensor_to_proto
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize

PREDICTION = "tensorflow.serving.PredictionService"
INFERENCE = "inference.GRPCInferenceService"
X = np.array([[0.5, 0.25]], np.float32)


class Client:
    """Calls methods by path, as a generated stub does."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)

    def call(self, path: str, request: bytes = b"", **options: Any) -> bytes:
        answer: bytes = self.channel.unary_unary(path)(request, timeout=options.pop("timeout", 10), **options)
        return answer

    def predict(self, model: str = "floats", *, tensors: Fields | None = None, **spec: Any) -> Fields:
        inputs = {name: tensor_to_proto(a) for name, a in (tensors or {"x": X}).items()}
        request = {"model_spec": {"name": model, **spec}, "inputs": inputs}
        body = encode_message(protos.PREDICT_REQUEST, request)
        return decode_message(protos.PREDICT_RESPONSE, self.call(f"/{PREDICTION}/Predict", body))

    def infer(self, **request: Any) -> Fields:
        body = encode_message(protos.INFER_REQUEST, {"model_name": "floats", **request})
        return decode_message(protos.INFER_RESPONSE, self.call(f"/{INFERENCE}/ModelInfer", body))

    def ask(self, path: str, schema: Schema, fields: Fields, answer: Schema) -> Fields:
        return decode_message(answer, self.call(path, encode_message(schema, fields)))


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Server]) -> Server:
    server = serve_module(grpc="127.0.0.1:0")
    server.load("floats", quantized=False, features=2, classes=3)
    server.load("digits", features=2, classes=3)
    server.load("pair", model=two_way_model)
    server.load_slow()
    return server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    client = Client(server.serving.grpc)
    yield client
    client.channel.close()


@pytest.fixture(scope="module")
def models(server: Server) -> dict[str, Model]:
    return {name: Model.load(server.load(name) / "model.tflite") for name in ("floats", "digits")}


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()  # type: ignore[attr-defined]  # grpc's own type hides it


def tensors_of(answer: Fields) -> dict[str, np.ndarray]:
    return {name: tensor_from_proto(name, proto) for name, proto in answer["outputs"].items()}


def test_predict_answers_in_typed_fields_bit_by_bit_and_names_the_version(
    client: Client, models: dict[str, Model]
) -> None:
    answer = client.predict()

    assert "float_val" in answer["outputs"]["scores"]
    assert np.array_equal(tensors_of(answer)["scores"], models["floats"].run({"x": X})["scores"])
    assert answer["model_spec"] == {"name": "floats", "version": {"value": 1}, "signature_name": "serving_default"}


def test_predict_takes_more_rows_than_the_model(client: Client, models: dict[str, Model]) -> None:
    rows = np.random.default_rng(0).random((3, 2), np.float32)

    scores = tensors_of(client.predict(tensors={"x": rows}))["scores"]

    assert np.array_equal(scores, np.concatenate([models["floats"].run({"x": r[None]})["scores"] for r in rows]))


def test_predict_speaks_real_or_raw_numbers_with_a_quantized_model(client: Client, models: dict[str, Model]) -> None:
    model = models["digits"]
    raw = quantize(X, model.inputs[0])
    wanted = model.run({"x": raw})["scores"]

    real_answer = tensors_of(client.predict("digits"))["scores"]
    raw_answers = [client.predict("digits", tensors={"x": raw}, signature_name=s) for s in ("", "raw")]

    assert np.array_equal(real_answer, dequantize(wanted, model.outputs[0]))
    for answer in raw_answers:
        assert np.array_equal(tensors_of(answer)["scores"], wanted)


def test_predict_gives_the_outputs_that_are_asked_for(client: Client) -> None:
    inputs = {name: tensor_to_proto(X) for name in "ab"}
    request = {"model_spec": {"name": "pair"}, "inputs": inputs, "output_filter": ["sum"]}

    answer = client.ask(f"/{PREDICTION}/Predict", protos.PREDICT_REQUEST, request, protos.PREDICT_RESPONSE)

    assert tensors_of(answer).keys() == {"sum"}
    request["output_filter"] = ["product"]
    code, detail = refusal(
        lambda: client.ask(f"/{PREDICTION}/Predict", protos.PREDICT_REQUEST, request, protos.PREDICT_RESPONSE)
    )
    assert code == "INVALID_ARGUMENT"
    assert detail.startswith("output tensor alias not found in signature: product Outputs expected to be in the set {")


def test_predict_refuses_in_tensorflow_servings_words(client: Client) -> None:
    assert refusal(lambda: client.predict("cats")) == ("NOT_FOUND", "Servable not found for request: Latest(cats)")
    assert refusal(lambda: client.predict(version={"value": 9})) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(floats, 9)",
    )
    assert refusal(lambda: client.predict(version_label="l")) == (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: l",
    )
    assert refusal(lambda: client.predict(tensors={"y": X}))[1].startswith(
        "input size does not match signature: 1!=1 len({y}) != len({x}). Sent extra: {y}. Missing but required: {x}."
    )
    assert refusal(lambda: client.predict(tensors={"x": X.astype(np.int8)}))[1] == "input 'x' is INT8, wanted FP32"
    assert refusal(lambda: client.predict(tensors={"x": X[:, :1]}))[0] == "INVALID_ARGUMENT"
    assert refusal(lambda: client.call(f"/{PREDICTION}/Predict"))[1] == "Missing ModelSpec"
    assert refusal(lambda: client.call(f"/{PREDICTION}/Predict", b"\xff"))[0] == "INVALID_ARGUMENT"
    assert refusal(lambda: client.call(f"/{PREDICTION}/MultiInference"))[0] == "UNIMPLEMENTED"


def test_half_floats_are_taken_for_floats(client: Client) -> None:
    halves, floats = (tensors_of(client.predict(tensors={"x": x}))["scores"] for x in (X.astype(np.float16), X))

    assert np.array_equal(halves, floats)


def test_examples_are_classified_with_and_without_context(client: Client, models: dict[str, Model]) -> None:
    feature = {"x": {"float_list": {"value": X[0]}}}
    example = {"features": {"feature": feature}}
    scores = models["floats"].run({"x": X})["scores"][0].tolist()

    for given_input in (
        {"example_list": {"examples": [example]}},
        {"example_list_with_context": {"context": example, "examples": [{}]}},
    ):
        request = {"model_spec": {"name": "floats"}, "input": given_input}
        answer = client.ask(f"/{PREDICTION}/Classify", protos.EXAMPLES_REQUEST, request, protos.CLASSIFICATION_RESPONSE)
        (row,) = answer["result"]["classifications"]
        assert [(c["label"], c["score"]) for c in row["classes"]] == [(f"class-{i}", s) for i, s in enumerate(scores)]


def test_examples_are_refused_where_they_do_not_fit(client: Client) -> None:
    def ask(method: str, given_input: Fields) -> tuple[str, str]:
        request = encode_message(protos.EXAMPLES_REQUEST, {"model_spec": {"name": "floats"}, "input": given_input})
        return refusal(lambda: client.call(f"/{PREDICTION}/{method}", request))

    words = {"features": {"feature": {"x": {"bytes_list": {"value": [b"a", b"b"]}}}}}
    whole = {"features": {"feature": {"x": {"int64_list": {"value": [1, 2]}}}}}
    assert ask("Classify", {}) == ("INVALID_ARGUMENT", "Input is empty.")
    assert ask("Classify", {"example_list": {"examples": [words]}})[1].startswith("Feature: x of example 0 holds")
    assert ask("Regress", {"example_list": {"examples": [whole]}})[1].startswith("the model does not regress")
    nothing = {"features": {"feature": {"x": {}}}}
    assert ask("Regress", {"example_list": {"examples": [nothing]}})[1].startswith("Feature: x of example 0 has 0")


def test_examples_are_regressed(client: Client, server: Server) -> None:
    folder = server.load("one", quantized=False, features=2, classes=1)
    example = {"features": {"feature": {"x": {"float_list": {"value": X[0]}}}}}
    request = {"model_spec": {"name": "one"}, "input": {"example_list": {"examples": [example]}}}

    answer = client.ask(f"/{PREDICTION}/Regress", protos.EXAMPLES_REQUEST, request, protos.REGRESSION_RESPONSE)

    wanted = float(Model.load(folder / "model.tflite").run({"x": X})["scores"][0, 0])
    assert answer["result"]["regressions"] == [{"value": wanted}]


def test_metadata_and_status_are_told(client: Client) -> None:
    def metadata(fields: list[str]) -> Fields:
        request = {"model_spec": {"name": "digits"}, "metadata_field": fields}
        path = f"/{PREDICTION}/GetModelMetadata"
        return client.ask(path, protos.METADATA_REQUEST, request, protos.METADATA_RESPONSE)

    packed = metadata(["signature_def"])["metadata"]["signature_def"]
    status = client.ask(
        "/tensorflow.serving.ModelService/GetModelStatus",
        protos.STATUS_REQUEST,
        {"model_spec": {"name": "digits"}},
        protos.STATUS_RESPONSE,
    )

    assert packed["type_url"] == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = decode_message(protos.SIGNATURE_DEF_MAP, packed["value"])["signature_def"]
    assert {name: s["inputs"]["x"]["dtype"] for name, s in signatures.items()} == {
        "serving_default": DT["FP32"],
        "raw": DT["INT8"],
    }
    assert status == {"model_version_status": [{"version": 1, "state": 30, "status": {}}]}
    assert "at least one metadata_field" in refusal(lambda: metadata([]))[1]
    assert refusal(lambda: metadata(["a"]))[1] == "Metadata field a is not supported"


def test_health_is_told_of_the_server_its_services_and_its_models(client: Client) -> None:
    for service in ("", PREDICTION, "floats"):
        request = encode_message(protos.HEALTH_REQUEST, {"service": service})
        answer = client.call("/grpc.health.v1.Health/Check", request)
        assert decode_message(protos.HEALTH_RESPONSE, answer) == {"status": 1}
    unknown = encode_message(protos.HEALTH_REQUEST, {"service": "cats"})
    assert refusal(lambda: client.call("/grpc.health.v1.Health/Check", unknown))[0] == "NOT_FOUND"


TENSOR = {"name": "x", "datatype": "FP32", "shape": np.array([1, 2])}


def test_typed_and_raw_inputs_are_answered_raw(client: Client, models: dict[str, Model]) -> None:
    wanted = models["floats"].run({"x": X})["scores"].tobytes()

    typed = client.infer(id="7", inputs=[TENSOR | {"contents": {"fp32_contents": X.ravel()}}])
    raw = client.infer(id="7", inputs=[TENSOR], raw_input_contents=[X.tobytes()])

    assert [bytes(data) for data in typed["raw_output_contents"]] == [wanted]
    assert [bytes(data) for data in raw["raw_output_contents"]] == [wanted]
    assert (typed["model_name"], typed["model_version"], typed["id"]) == ("floats", "1", "7")


def test_the_best_classes_go_as_bytes(client: Client) -> None:
    wanted = {"name": "scores", "parameters": {"classification": {"int64_param": 1}}}

    answer = client.infer(inputs=[TENSOR], raw_input_contents=[X.tobytes()], outputs=[wanted])

    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"].tolist()) == ("BYTES", [1])
    assert b":class-" in bytes(answer["raw_output_contents"][0])


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({}, "got inputs none; wanted 'x'"),
        ({"inputs": [TENSOR]}, "input 'x' has 0 fp32_contents, its shape [1, 2] takes 2"),
        ({"inputs": [TENSOR], "raw_input_contents": [b"a"]}, "input 'x' has 1 bytes, wanted 8"),
        ({"inputs": [TENSOR], "raw_input_contents": [b"a", b"b"]}, "2 raw_input_contents, wanted one for each of 1"),
        ({"inputs": [TENSOR | {"datatype": "FP16"}]}, "input 'x' is 'FP16', which contents do not have; send it raw"),
        ({"inputs": [TENSOR | {"shape": np.array([-1, 2])}]}, "input 'x' has no usable shape: [-1, 2]"),
        ({"inputs": [TENSOR | {"datatype": "INT8", "contents": {"int_contents": [1, 200]}}]}, "input 'x' exceeds INT8"),
        ({"inputs": [TENSOR | {"datatype": "UINT64", "contents": {"uint64_contents": [1, 2]}}]}, "input 'x' is UINT64"),
        ({"inputs": [TENSOR | {"datatype": "BYTES"}], "raw_input_contents": [b""]}, "datatype 'BYTES' is not known"),
        ({"model_name": "cats"}, "model 'cats' is not loaded"),
    ],
)
def test_an_inference_that_does_not_fit_is_refused(client: Client, request_fields: Fields, message: str) -> None:
    code, detail = refusal(lambda: client.infer(**request_fields))

    assert code in {"INVALID_ARGUMENT", "NOT_FOUND"}
    assert detail.startswith(message)


def test_what_is_served_is_told(client: Client) -> None:
    def ask(method: str, answer: Schema, **fields: Any) -> Fields:
        return client.ask(f"/{INFERENCE}/{method}", protos.MODEL_REQUEST, fields, answer)

    assert ask("ServerLive", protos.TRUTH_RESPONSE) == ask("ServerReady", protos.TRUTH_RESPONSE) == {"truth": 1}
    assert ask("ModelReady", protos.TRUTH_RESPONSE, name="floats", version="1") == {"truth": 1}
    assert ask("ModelReady", protos.TRUTH_RESPONSE, name="cats") == {}
    assert ask("ServerMetadata", protos.SERVER_METADATA_RESPONSE)["name"] == "edgeferry"
    metadata = ask("ModelMetadata", protos.MODEL_METADATA_RESPONSE, name="digits")
    assert metadata["platform"] == "tensorflow_tflite"
    assert metadata["inputs"][0]["shape"].tolist() == [1, 2]
    assert ask("ModelConfig", protos.MODEL_CONFIG_RESPONSE, name="digits")["config"]["input"][0]["data_type"] == 6
    everything = ask("ModelStatistics", protos.STATISTICS_RESPONSE)["model_stats"]
    assert {stats["name"] for stats in everything} >= {"floats", "digits"}
    assert len(ask("ModelStatistics", protos.STATISTICS_RESPONSE, name="digits")["model_stats"]) == 1
    assert len(ask("ModelStatistics", protos.STATISTICS_RESPONSE, name="digits", version="1")["model_stats"]) == 1
    index = ask("RepositoryIndex", protos.INDEX_RESPONSE)["models"]
    assert {"name": "floats", "version": "1", "state": "READY"} in index


def test_a_deadline_ends_a_call_and_not_the_server(client: Client) -> None:
    endless = {"name": "x", "datatype": "FP32", "shape": np.array([1]), "contents": {"fp32_contents": [3e6]}}
    body = encode_message(protos.INFER_REQUEST, {"model_name": "slow", "inputs": [endless]})

    assert refusal(lambda: client.call(f"/{INFERENCE}/ModelInfer", body, timeout=0.2))[0] == "DEADLINE_EXCEEDED"
    assert client.predict()["model_spec"]["name"] == "floats"


def test_calls_are_counted_beside_rest(server: Server, client: Client) -> None:
    client.predict()

    text = server.request("GET", "/monitoring/prometheus/metrics").body.decode()

    assert ':tensorflow:serving:request_latency_count{model_name="floats",API="predict",entrypoint="GRPC"}' in text


METHODS = [
    f"/{PREDICTION}/Predict",
    f"/{PREDICTION}/Classify",
    f"/{PREDICTION}/GetModelMetadata",
    "/tensorflow.serving.ModelService/GetModelStatus",
    f"/{INFERENCE}/ModelInfer",
    f"/{INFERENCE}/ModelMetadata",
]


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(METHODS), st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_make_a_call_an_internal_error(client: Client, method: str, garbage: bytes, cut: int) -> None:
    whole = encode_message(
        protos.PREDICT_REQUEST, {"model_spec": {"name": "floats"}, "inputs": {"x": tensor_to_proto(X)}}
    )
    for body in (garbage, whole[:cut] + garbage, whole[:cut] + garbage + whole[cut + len(garbage) :]):
        assert outcome(client, method, body) in {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}


def outcome(client: Client, method: str, body: bytes) -> str:
    try:
        client.call(method, body)
    except grpc.RpcError as err:
        return str(err.code().name)  # type: ignore[attr-defined]
    return "OK"
