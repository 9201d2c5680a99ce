"""TensorFlow Serving's REST interface, request by request; wording as in tensorflow/serving, util/json_tensor.cc."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models import linear_model, two_way_model
from tests.serving.conftest import Answer, Server

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.tfs_examples import classifications, encode_regressions, regressions, tensors_of_examples
from edgeferry.agent.serving.tfs_predict import encode_predict
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize
from edgeferry.wire.desired import TensorSpec

PREDICT = "/v1/models/digits:predict"


def predict(server: Server, path: str = PREDICT, **request: Any) -> Answer:
    return server.request("POST", path, json.dumps(request))


def load_floats(server: Server, **options: Any) -> Model:
    return Model.load(server.load(quantized=False, features=4, classes=3, **options) / "model.tflite")


def load_free(server: Server) -> Model:
    """Load a float model whose first dimension is free."""

    def write(path: Path) -> Path:
        return linear_model(path, features=4, classes=3, free_batch=True)

    return Model.load(server.load(model=write) / "model.tflite")


def load_two_way(server: Server) -> None:
    """Load a model of two inputs and two outputs: sum and difference of a and b."""
    server.load("pair", model=two_way_model)


def test_rows_are_answered_as_rows_bit_by_bit(server: Server) -> None:
    model = load_floats(server)
    x = np.random.default_rng(0).random((3, 4), np.float32)

    answer = predict(server, instances=x.tolist())

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    wanted = np.concatenate([model.run({"x": row[np.newaxis]})["scores"] for row in x])
    assert np.array_equal(np.array(answer.json()["predictions"], np.float32), wanted)


def test_columns_are_answered_as_columns(server: Server) -> None:
    model = load_free(server)
    x = np.random.default_rng(0).random((5, 4), np.float32)

    plain, named = predict(server, inputs=x.tolist()), predict(server, inputs={"x": x.tolist()})

    assert np.array_equal(np.array(plain.json()["outputs"], np.float32), model.run({"x": x})["scores"])
    assert named.json() == plain.json()


def test_named_rows_are_the_same_as_plain_ones(server: Server) -> None:
    load_floats(server)

    assert predict(server, instances=[{"x": [1, 2, 3, 4]}]).json() == predict(server, instances=[[1, 2, 3, 4]]).json()


def test_several_inputs_and_outputs_are_named_in_rows_and_columns(server: Server) -> None:
    load_two_way(server)
    path = "/v1/models/pair:predict"

    rows = predict(server, path, instances=[{"a": [1.0, 2.0], "b": [3.0, 5.0]}, {"a": [0, 0], "b": [1, 1]}])
    columns = predict(server, path, inputs={"a": [[1.0, 2.0]], "b": [[3.0, 5.0]]})

    assert rows.json() == {
        "predictions": [
            {"sum": [4.0, 7.0], "difference": [-2.0, -3.0]},
            {"sum": [1.0, 1.0], "difference": [-1.0, -1.0]},
        ]
    }
    assert columns.json() == {"outputs": {"sum": [[4.0, 7.0]], "difference": [[-2.0, -3.0]]}}


def test_real_numbers_go_through_a_quantized_model_and_come_back_real(server: Server) -> None:
    model = Model.load(server.load(features=4, classes=3) / "model.tflite")
    x = np.random.default_rng(2).random((1, 4), np.float32)

    answer = predict(server, instances=x.tolist())

    raw = model.run({"x": quantize(x, model.inputs[0])})["scores"]
    assert np.array_equal(np.array(answer.json()["predictions"], np.float32), dequantize(raw, model.outputs[0]))


def test_the_raw_signature_takes_and_gives_the_models_own_integers(server: Server) -> None:
    model = Model.load(server.load(features=4, classes=3) / "model.tflite")
    x = np.array([[-128, 0, 5, 127]], np.int8)

    answer = predict(server, signature_name="raw", instances=x.tolist())

    assert answer.json() == {"predictions": model.run({"x": x})["scores"].tolist()}


def test_bytes_in_base64_are_a_tensor_of_the_signatures_type(server: Server) -> None:
    load_floats(server)
    x = np.array([0.5, 1, 2, 4], np.float32)
    packed = {"b64": base64.b64encode(x.tobytes()).decode()}

    assert predict(server, instances=[packed]).json() == predict(server, instances=[x.tolist()]).json()
    assert predict(server, inputs={"x": packed}).json() == predict(server, inputs=[x.tolist()]).json()
    assert predict(server, instances=[{"x": packed}]).json() == predict(server, instances=[x.tolist()]).json()


def test_whole_floats_keep_their_point_and_odd_ones_are_written(server: Server) -> None:
    load_two_way(server)
    body = b'{"instances": [{"a": [1, NaN], "b": [-1, 0]}, {"a": [Infinity, -Infinity], "b": [0, 0]}]}'

    answer = server.request("POST", "/v1/models/pair:predict", body)

    assert b"0.0" in answer.body
    sums = [row["sum"] for row in answer.json()["predictions"]]
    assert np.array_equal(sums, [[0, np.nan], [np.inf, -np.inf]], equal_nan=True)


@pytest.mark.parametrize("path", ["/V1/Models/digits:PREDICT", "/v1/models/d%69gits:predict", PREDICT + "?x=1"])
def test_case_escapes_and_queries_change_nothing(server: Server, path: str) -> None:
    load_floats(server)

    assert predict(server, path, instances=[[1, 2, 3, 4]]).status == 200


def test_the_content_type_is_ignored(server: Server) -> None:
    load_floats(server)
    body = json.dumps({"instances": [[1, 2, 3, 4]]})

    assert server.request("POST", PREDICT, body, Content_Type="text/html").status == 200


def test_versions_and_labels_choose_who_answers(server: Server) -> None:
    load_floats(server)
    load_floats(server, version=2, label="canary")
    ask = {"instances": [[1, 2, 3, 4]]}

    stable, first = predict(server, **ask).json(), predict(server, "/v1/models/digits/versions/1:predict", **ask).json()
    canary = predict(server, "/v1/models/digits/labels/canary:predict", **ask).json()

    assert first == stable
    assert canary == predict(server, "/v1/models/digits/versions/2:predict", **ask).json() != stable


CASES: list[tuple[str, str, str, int, str]] = [
    ("POST", "/v1/foo", "", 400, "Malformed request: POST /v1/foo"),
    ("GET", PREDICT, "", 400, "Malformed request: GET /v1/models/digits:predict"),
    ("POST", "/v1/models/digits", "", 400, "Malformed request: POST /v1/models/digits"),
    ("PUT", "/v1/models/digits", "", 400, "Malformed request: PUT /v1/models/digits"),
    ("GET", "/v1/models", "", 400, "Missing model name in request."),
    ("POST", "/v1/models/cats:predict", "{}", 404, "Servable not found for request: Latest(cats)"),
    (
        "POST",
        "/v1/models/digits/versions/99:predict",
        "{}",
        404,
        "Servable not found for request: Specific(digits, 99)",
    ),
    ("GET", "/v1/models/digits/versions/9/metadata", "", 404, "Servable not found for request: Specific(digits, 9)"),
    ("GET", "/v1/models/cats", "", 404, "Could not find any versions of model cats"),
    ("GET", "/v1/models/digits/versions/9", "", 404, "Could not find version 9 of model digits"),
    ("GET", "/v1/models/digits/labels/l", "", 400, "Unrecognized servable version label: l"),
    ("POST", "/v1/models/digits/labels/1:predict", "{}", 400, "Unrecognized servable version label: 1"),
    ("GET", f"/v1/models/digits/versions/{'9' * 19}", "", 400, f"Failed to convert version: {'9' * 19} to numeric."),
    ("POST", PREDICT, "", 400, "JSON Parse error: The document is empty"),
    ("POST", PREDICT, '{"instances": [1,}', 400, "JSON Parse error: Invalid value. at offset: 17"),
    ("POST", PREDICT, "[1]", 400, "JSON Value: [1] Is not object"),
    ("POST", PREDICT, "{}", 400, "Missing 'inputs' or 'instances' key"),
    (
        "POST",
        PREDICT,
        '{"inputs": 1, "instances": [1]}',
        400,
        "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
    ),
    ("POST", PREDICT, '{"instances": []}', 400, "No values in 'instances' array"),
    ("POST", PREDICT, '{"instances": 1}', 400, "JSON Value: 1 Excepting 'instances' to be an list/array"),
    ("POST", PREDICT, '{"signature_name": 1, "inputs": 1}', 400, 'JSON Value: {"signature_name": 1, "inputs": 1} not'),
    ("POST", PREDICT, '{"signature_name": "a", "inputs": 1}', 400, 'Serving signature name: "a" not found in'),
    ("POST", PREDICT, '{"inputs": ["x"]}', 400, 'JSON Value: "x" Type: String is not of expected type: float'),
    ("POST", PREDICT, '{"inputs": [true]}', 400, "JSON Value: true Type: True is not of expected type: float"),
    ("POST", PREDICT, '{"inputs": [null]}', 400, "JSON Value: null Type: Null is not of expected type: float"),
    (
        "POST",
        PREDICT,
        '{"inputs": [[1,2,3,4],[1,2,3]]}',
        400,
        "Encountered list at unexpected size: 3 at level: 1 expec",
    ),
    ("POST", PREDICT, '{"inputs": [1, [2]]}', 400, "Encountered list at unexpected level: 1 expected < 1"),
    ("POST", PREDICT, '{"inputs": [[1], 2]}', 400, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM."),
    ("POST", PREDICT, '{"inputs": {"y": 1}}', 400, "Missing named input: x in 'inputs' object."),
    ("POST", PREDICT, '{"inputs": [16777217]}', 400, "Cannot convert JSON value: 16777217 to float without loss of"),
    ("POST", PREDICT, '{"inputs": [1e39]}', 400, "Cannot convert JSON value: 1e+39 to float without loss of"),
    (
        "POST",
        PREDICT,
        '{"instances": [{"y": 1}]}',
        400,
        "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have",
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [{}]}',
        400,
        "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x",
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [[1,2,3,4],[1]]}',
        400,
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 4 but",
    ),
    (
        "POST",
        PREDICT,
        '{"instances": [[1,2,3,4],[[1,2],[3,4]]]}',
        400,
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [4] but got: [2,2]",
    ),
    ("POST", PREDICT, '{"instances": [{"x": 1}, 2]}', 400, "Expecting object but got list at item 1 of input list"),
    ("POST", PREDICT, '{"instances": [1, {"x": 1}]}', 400, "Expecting value/list but got object at item 1 of input"),
    ("POST", PREDICT, '{"instances": [[1, 2]]}', 400, "input 'x' has shape [1, 2], wanted [1, 4]"),
    ("POST", PREDICT, '{"inputs": {"b64": "AAA"}}', 400, "b64 of input 'x' has 2 bytes, wanted 16 for FP32[1, 4]"),
    ("POST", PREDICT, '{"inputs": {"b64": "A"}}', 400, "Unable to base64 decode"),
    (
        "POST",
        "/v1/models/pair:predict",
        '{"inputs": [1]}',
        400,
        "inputs is a plain value/list, but expecting an object",
    ),
    ("POST", "/v1/models/pair:predict", '{"instances": [1]}', 400, "instances is a plain list, but expecting list of"),
    (
        "POST",
        "/v1/models/digits:classify",
        "{}",
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected",
    ),
    (
        "POST",
        "/v1/models/digits:classify",
        '{"examples": 1}',
        400,
        "JSON Value: {\"examples\": 1} Expecting 'examples'",
    ),
    (
        "POST",
        "/v1/models/digits:classify",
        '{"examples": []}',
        400,
        "JSON Value: {\"examples\": []} 'examples' value is an",
    ),
    ("POST", "/v1/models/digits:classify", '{"examples": [1]}', 400, "Example must be JSON object but got JSON 1"),
    ("POST", "/v1/models/digits:regress", '{"examples": [{}]}', 400, "Feature: x of example 0 is missing"),
    (
        "POST",
        "/v1/models/digits:regress",
        '{"examples": [{"x": [1]}]}',
        400,
        "Feature: x of example 0 has 1 values, wanted 4",
    ),
    ("POST", "/v1/models/digits:regress", '{"examples": [{"y": 1}]}', 400, "Feature: y of example 0 is not an input"),
    (
        "POST",
        "/v1/models/digits:regress",
        '{"examples": [{"x": [[1]]}]}',
        400,
        "Feature: x has element with unexpected",
    ),
    (
        "POST",
        "/v1/models/digits:regress",
        '{"examples": [{"x": ["1", 1, 1, 1]}]}',
        400,
        "Feature: x of example 0 holds",
    ),
    ("POST", "/v1/models/digits:regress", '{"examples": [{"x": [1, 2, 3, 4]}]}', 400, "the model does not regress"),
    (
        "POST",
        "/v1/models/pair:classify",
        '{"examples": [{"a": [1, 2], "b": [3, 4]}]}',
        400,
        "the model has outputs difference, sum, none",
    ),
]


@pytest.fixture(scope="module")
def loaded(serve_module: Callable[..., Server]) -> Server:
    server = serve_module()
    load_floats(server)
    load_two_way(server)
    return server


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), CASES)
def test_a_mistake_is_answered_in_tensorflow_servings_words(
    loaded: Server, method: str, path: str, body: str, status: int, message: str
) -> None:
    answer = loaded.request(method, path, body or None)

    assert answer.status == status
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].startswith(message)


def test_what_an_error_quotes_is_cut(loaded: Server) -> None:
    answer = predict(loaded, inputs=["x" * 5000])

    assert len(answer.json()["error"]) < 400


def test_classify_names_every_class_with_its_score(server: Server) -> None:
    model = load_floats(server)

    answer = server.request(
        "POST", "/v1/models/digits:classify", json.dumps({"context": {"x": [9]}, "examples": [{"x": [1.5, 2, 3, 4]}]})
    )

    scores = model.run({"x": np.array([[1.5, 2, 3, 4]], np.float32)})["scores"][0]
    assert answer.json() == {"results": [[[f"class-{i}", float(score)] for i, score in enumerate(scores)]]}


def test_regress_gives_a_value_for_each_example(server: Server) -> None:
    model = Model.load(server.load(quantized=False, features=2, classes=1) / "model.tflite")

    answer = server.request(
        "POST", "/v1/models/digits:regress", json.dumps({"examples": [{"x": [1, 2]}, {"x": [0.5, 0.5]}]})
    )

    wanted = [float(model.run({"x": np.array([x], np.float32)})["scores"][0, 0]) for x in ([1, 2], [0.5, 0.5])]
    assert answer.json() == {"results": wanted}


def test_the_status_lists_the_loaded_versions(server: Server) -> None:
    load_floats(server)
    load_floats(server, version=2, label="canary")

    def state(version: int) -> dict[str, Any]:
        return {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    assert server.request("GET", "/v1/models/digits").json() == {"model_version_status": [state(1), state(2)]}
    for path in ("versions/2", "labels/canary"):
        assert server.request("GET", f"/v1/models/digits/{path}").json() == {"model_version_status": [state(2)]}


def test_metadata_tells_real_and_raw_signatures(server: Server) -> None:
    server.load(features=4, classes=3)

    answer = server.request("GET", "/v1/models/digits/metadata").json()

    assert answer["model_spec"] == {"name": "digits", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"] == {
        "inputs": {"x": tensor_info("DT_FLOAT", "x", 4)},
        "outputs": {"scores": tensor_info("DT_FLOAT", "scores", 3)},
        "method_name": "tensorflow/serving/predict",
    }
    assert signatures["raw"]["inputs"] == {"x": tensor_info("DT_INT8", "x", 4)}


def tensor_info(dtype: str, name: str, size: int) -> dict[str, Any]:
    shape = {"dim": [{"size": "1", "name": ""}, {"size": str(size), "name": ""}], "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shape, "name": name}


def test_a_model_without_quantized_tensors_has_one_signature(server: Server) -> None:
    load_floats(server)

    metadata = server.request("GET", "/v1/models/digits/metadata").json()["metadata"]

    assert metadata["signature_def"]["signature_def"].keys() == {"serving_default"}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=3),
    max_leaves=12,
)


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["predict", "classify", "regress"]),
    st.dictionaries(
        st.sampled_from(["inputs", "instances", "examples", "context", "signature_name"]), JSON_VALUES, max_size=3
    )
    | JSON_VALUES,
)
def test_no_json_makes_the_server_fail(loaded: Server, method: str, request: object) -> None:
    answer = loaded.request("POST", f"/v1/models/digits:{method}", json.dumps(request))

    assert answer.status in {200, 400}
    assert answer.status == 200 or answer.json().keys() == {"error"}


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=64) | st.text('[]{},"0123456789:', max_size=64).map(str.encode))
def test_no_bytes_make_the_server_fail(loaded: Server, body: bytes) -> None:
    assert loaded.request("POST", PREDICT, body).status == 400


def test_json_that_is_nested_without_end_is_refused(loaded: Server) -> None:
    for body in (b'{"inputs": ' + b"[" * 100_000, b'{"inputs": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"):
        assert loaded.request("POST", PREDICT, body).status == 400


def test_long_json_is_taken_when_it_is_a_plain_list_of_numbers_only(loaded: Server) -> None:
    rows = b",".join([b"[0.25, 0.50, 0.75, 1.00]"] * 5)
    padding = b" " * (9 << 20)

    assert loaded.request("POST", PREDICT, b'{"instances": [' + rows + padding + b"]}").status == 200
    answer = loaded.request("POST", PREDICT, b'{"instances": [NaN' + padding + b"]}")
    assert "anything else is taken up to 8388608 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("classify", '{"examples": [{"x": [{"b64": "AAAA"}, 1, 2, 3]}]}', "Feature: x of example 0 holds"),
        ("classify", '{"examples": [{"x": [1e400, 1, 2, 3]}]}', ""),
        ("classify", '{"examples": [{"x": [1' + "0" * 400 + ", 1, 2, 3]}]}", "Feature: x of example 0 exceeds FP32"),
        ("predict", '{"inputs": {"\\ud800": 1}}', "Missing named input: x"),
        ("predict", '{"inputs": [' + "[" * 40 + "1" + "]" * 40 + "]}", "Encountered list at unexpected level: 32"),
    ],
)
def test_odd_values_are_refused_too(loaded: Server, path: str, body: str, message: str) -> None:
    answer = loaded.request("POST", f"/v1/models/digits:{path}", body)

    if message:
        assert answer.status == 400
        assert answer.json()["error"].startswith(message)
    else:
        assert answer.status == 200, "infinity is a number here"


def test_a_key_that_is_no_text_is_refused(loaded: Server) -> None:
    answer = loaded.request("POST", PREDICT, b'{"inputs": {"\xff": 1}}')

    assert answer.json()["error"].startswith("JSON Parse error: Invalid encoding in string. at offset: ")


def test_the_raw_signature_takes_integers_that_fit_alone(server: Server) -> None:
    server.load(features=4, classes=3)

    def ask(path: str, **request: Any) -> str:
        answer = predict(server, f"/v1/models/digits:{path}", signature_name="raw", **request)
        assert answer.status == 400
        return str(answer.json()["error"])

    assert ask("predict", inputs=[[1, 2, 3, 128]]) == "JSON Value: 128 Type: Number is not of expected type: int8"
    assert ask("classify", examples=[{"x": [1, 2, 3, 128]}]).endswith("exceeds INT8: -128 to 127")


def test_nan_cannot_be_quantized(server: Server) -> None:
    server.load(features=4, classes=3)

    answer = server.request("POST", PREDICT, b'{"inputs": [[NaN, 0, 0, 0]]}')

    assert answer.json()["error"] == "tensor 'x' is quantized (INT8) and cannot hold NaN"


def test_rows_that_do_not_belong_together_are_refused(server: Server) -> None:
    load_two_way(server)
    path = "/v1/models/pair:predict"

    unequal = predict(server, path, inputs={"a": [[1, 2]] * 2, "b": [[1, 2]] * 3})
    assert unequal.json()["error"] == "inputs have 2, 3 rows, wanted equally many"
    assert "has shape []" in predict(server, path, inputs={"a": 1, "b": 2}).json()["error"]


def test_outputs_without_rows_can_be_had_by_column_alone() -> None:
    scalar = np.array(1.5, np.float32)

    with pytest.raises(RequestError, match="Tensor name: a has no shape information"):
        encode_predict({"a": scalar}, by_row=True)
    with pytest.raises(RequestError, match="Tensor name: b has inconsistent batch size: 2 expecting: 1"):
        encode_predict({"a": np.zeros(1), "b": np.zeros(2)}, by_row=True)
    assert encode_predict({"a": scalar}, by_row=False) == b'{"outputs":1.5}'


def test_an_output_called_scores_is_what_classifies() -> None:
    found = classifications({"boxes": np.zeros((1, 4)), "scores": np.array([[0.25, 0.75]])}, 1, ())

    assert [(each.label, each.score) for each in found[0]] == [("0", 0.25), ("1", 0.75)]
    with pytest.raises(RequestError, match="the model does not classify"):
        classifications({"scores": np.zeros(2)}, 2, ())


def test_infinite_results_are_written() -> None:
    assert encode_regressions([float("inf")]) == b'{"results": [Infinity]}'


def test_a_feature_may_have_a_free_size() -> None:
    free = TensorSpec("x", "FP32", (1, -1, 2), 0.0, 0)

    assert tensors_of_examples([{"x": [1, 2, 3, 4]}], [free])["x"].shape == (1, 2, 2)
    with pytest.raises(RequestError, match="has 3 values, wanted 2"):
        tensors_of_examples([{"x": [1, 2, 3]}], [free])
    with pytest.raises(RequestError, match="number of values differs"):
        tensors_of_examples([{"x": [1, 2]}, {"x": [1, 2, 3, 4]}], [free])


def test_the_only_output_is_taken_whatever_it_is_called() -> None:
    assert regressions({"price": np.array([[2.5]])}, 1) == [2.5]


def test_a_feature_may_be_whole_numbers_that_fit() -> None:
    tensors = tensors_of_examples([{"x": [-128, 127]}], [TensorSpec("x", "INT8", (1, 2), 0.0, 0)])

    assert tensors["x"].tolist() == [[-128, 127]]


def test_a_feature_may_be_a_truth() -> None:
    tensors = tensors_of_examples([{"x": [True, 0]}], [TensorSpec("x", "BOOL", (1, 2), 0.0, 0)])

    assert tensors["x"].tolist() == [[True, False]]
