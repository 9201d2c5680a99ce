import json
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.models import hungry_model
from tests.serving.conftest import Server, count_down, wait_until

import edgeferry
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize
from edgeferry.wire.tensors import TensorBytes, decode_response, encode_request

FEATURES = 64


def tensor(array: np.ndarray, datatype: str, **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist(), **more}


def steps(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (1, FEATURES), np.int8)


def test_the_server_tells_who_it_is(server: Server) -> None:
    about = server.request("GET", "/v2").json()

    assert about["name"] == "edgeferry"
    assert about["version"] == edgeferry.__version__
    assert "binary_tensor_data" in about["extensions"]


def test_the_server_lives_and_is_ready_without_a_model(server: Server) -> None:
    assert server.request("GET", "/v2/health/live").status == 200
    assert server.request("GET", "/v2/health/ready").status == 200


def test_metadata_tells_the_models_tensors(server: Server) -> None:
    server.load()

    assert server.request("GET", "/v2/models/digits").json() == {
        "name": "digits",
        "versions": ["1"],
        "platform": "tensorflow_tflite",
        "inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 64]}],
        "outputs": [{"name": "scores", "datatype": "INT8", "shape": [1, 10]}],
    }


def test_a_loaded_model_is_ready_and_an_unknown_one_is_not(server: Server) -> None:
    server.load()

    assert server.request("GET", "/v2/models/digits/ready").status == 200
    assert server.request("GET", "/v2/models/digits/versions/1/ready").status == 200
    assert server.request("GET", "/v2/models/cats/ready").json() == {"error": "model 'cats' is not loaded"}
    assert server.request("GET", "/v2/models/digits/versions/9").json() == {
        "error": "model 'digits' has no version or label '9'; loaded are 1, stable"
    }


def test_the_index_lists_what_is_loaded(server: Server) -> None:
    server.load()

    answer = server.request("POST", "/v2/repository/index")

    assert answer.json() == [{"name": "digits", "version": "1", "state": "READY", "reason": ""}]


def test_a_request_in_the_models_datatype_gets_its_raw_answer(server: Server) -> None:
    model = Model.load(server.load() / "model.tflite")
    x = steps()

    answer = server.infer(id="7", inputs=[tensor(x, "INT8")])

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "model_name": "digits",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {
                "name": "scores",
                "shape": [1, 10],
                "datatype": "INT8",
                "data": model.run({"x": x})["scores"].ravel().tolist(),
            }
        ],
    }


def test_nested_data_is_the_same_as_flat(server: Server) -> None:
    server.load()
    x = steps()

    flat = server.infer(inputs=[tensor(x, "INT8")])
    nested = server.infer(inputs=[tensor(x, "INT8") | {"data": x.tolist()}])

    assert nested.json() == flat.json()


def test_real_numbers_are_quantized_and_come_back_real(server: Server) -> None:
    model = Model.load(server.load() / "model.tflite")
    x = np.random.default_rng(1).random((1, FEATURES), np.float32)

    (output,) = server.infer(inputs=[tensor(x, "FP32")]).json()["outputs"]

    expected = dequantize(model.run({"x": quantize(x, model.inputs[0])})["scores"], model.outputs[0])
    assert output["datatype"] == "FP32"
    np.testing.assert_array_equal(np.array(output["data"], np.float32), expected.ravel())


def test_a_float_model_answers_bit_by_bit(server: Server) -> None:
    model = Model.load(server.load(quantized=False) / "model.tflite")
    x = np.random.default_rng(1).random((1, FEATURES), np.float32)

    (output,) = server.infer(inputs=[tensor(x, "FP32")]).json()["outputs"]

    np.testing.assert_array_equal(np.array(output["data"], np.float32), model.run({"x": x})["scores"].ravel())


@pytest.mark.parametrize("seed", range(3))
def test_binary_tensors_travel_both_ways(server: Server, seed: int) -> None:
    model = Model.load(server.load() / "model.tflite")
    x = steps(seed)
    body, header_bytes = encode_request([TensorBytes("x", "INT8", x.shape, x.tobytes())], request_id="b")

    answer = server.request("POST", "/v2/models/digits/infer", body, Inference_Header_Content_Length=str(header_bytes))

    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    response, (output,) = decode_response(answer.body, length, max_header_bytes=4096)
    assert response.id == "b"
    assert bytes(output.data) == model.run({"x": x})["scores"].tobytes()


def test_an_output_is_binary_when_it_is_asked_to_be(server: Server) -> None:
    server.load()

    answer = server.infer(
        inputs=[tensor(steps(), "INT8")], outputs=[{"name": "scores", "parameters": {"binary_data": True}}]
    )

    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 10}
    assert len(answer.body) == length + 10


def test_one_raw_tensor_alone_is_a_request(server: Server) -> None:
    server.load()
    x = steps()

    raw = server.request("POST", "/v2/models/digits/infer", x.tobytes(), Inference_Header_Content_Length="0")

    assert raw.json() == server.infer(inputs=[tensor(x, "INT8")]).json()


def test_a_raw_tensor_of_another_size_is_refused(server: Server) -> None:
    server.load()

    answer = server.request("POST", "/v2/models/digits/infer", b"123", Inference_Header_Content_Length="0")

    assert answer.status == 400
    assert answer.json() == {"error": "the raw body has 3 bytes, wanted 64 for INT8[1, 64]"}


def test_a_raw_tensor_finds_its_free_dimension(server: Server) -> None:
    server.load(model=lambda path: hungry_model(path, size_bytes=64, free=True))

    answer = server.request(
        "POST", "/v2/models/digits/infer", np.ones(1, np.float32).tobytes(), Inference_Header_Content_Length="0"
    )
    broken = server.request("POST", "/v2/models/digits/infer", b"12345", Inference_Header_Content_Length="0")

    assert answer.json()["outputs"][0]["data"] == [1.0] * 16
    assert broken.json() == {"error": "the raw body has 5 bytes, wanted a multiple of 4 for FP32[-1]"}


def test_nan_and_infinity_are_taken_and_given(server: Server) -> None:
    server.load(quantized=False, features=2, classes=2)
    x = np.array([[np.nan, np.inf]], np.float32)

    answer = server.infer(inputs=[tensor(x, "FP32")])

    assert answer.status == 200
    assert b"NaN" in answer.body
    assert server.infer(inputs=[tensor(x, "FP32") | {"data": x.tolist()}]).json()["outputs"][0]["shape"] == [1, 2]


def test_nan_cannot_go_into_a_quantized_model(server: Server) -> None:
    server.load(features=2)

    answer = server.infer(inputs=[tensor(np.array([[np.nan, 1]], np.float32), "FP32")])

    assert answer.status == 400
    assert "cannot hold NaN" in answer.json()["error"]


X = {"name": "x", "shape": [1, 2], "datatype": "INT8"}


@pytest.mark.parametrize(
    ("request_json", "message"),
    [
        ({}, "Object missing required field `inputs`"),
        ({"inputs": []}, "got inputs none; wanted 'x'"),
        ({"inputs": [X]}, "input 'x' has neither data nor binary_data_size"),
        ({"inputs": [X | {"data": [1]}]}, "input 'x' has 1 numbers, its shape [1, 2] takes 2"),
        ({"inputs": [X | {"data": []}]}, "input 'x' has 0 numbers"),
        ({"inputs": [X | {"data": [1, 2, 3]}]}, "input 'x' has 3 numbers"),
        ({"inputs": [X | {"data": [1, 1000]}]}, "data of input 'x' exceeds INT8: -128 to 127"),
        ({"inputs": [X | {"data": [1, 1.5]}]}, "data of input 'x' is not a list of INT8"),
        ({"inputs": [X | {"data": ["a", "b"]}]}, "data of input 'x' is not a list of INT8"),
        ({"inputs": [X | {"data": [1, True]}]}, "data of input 'x' is not a list of INT8"),
        ({"inputs": [X | {"data": [1, {}]}]}, "data of input 'x' is not a list of INT8"),
        ({"inputs": [X | {"data": "1,2"}]}, "data of input 'x' is not a list of INT8"),
        ({"inputs": [X | {"data": [1, float("nan")]}]}, "data of input 'x' is not a list of INT8: it has 'nan'"),
        ({"inputs": [X | {"shape": [2], "data": [1, 2]}]}, "input 'x' has shape [2], wanted [1, 2]"),
        ({"inputs": [X | {"shape": [-1, 2], "data": [1, 2]}]}, "input 'x' has shape [-1, 2], wanted [1, 2]"),
        ({"inputs": [X | {"datatype": "INT16", "data": [1, 2]}]}, "input 'x' is INT16, wanted INT8 or FP32"),
        ({"inputs": [X | {"datatype": "STRING", "data": [1, 2]}]}, "input 'x' is STRING, wanted INT8 or FP32"),
        ({"inputs": [X | {"name": "y", "data": [1, 2]}]}, "input 'y' is given twice or unknown; wanted 'x'"),
        ({"inputs": [X | {"data": [1, 2]}] * 2}, "input 'x' is given twice or unknown; wanted 'x'"),
        ({"inputs": [X | {"data": [1, 2]}], "outputs": [{"name": "y"}]}, "output 'y' is unknown"),
        (
            {"inputs": [X | {"data": [1, 2]}], "outputs": [{"name": "scores", "parameters": {"classification": 0}}]},
            "classification is 0, wanted a positive number",
        ),
        ({"inputs": [X | {"parameters": {"binary_data_size": 2}}]}, "binary tensors need 2 bytes, 0 follow"),
        ([], "Expected `object`, got `array`"),
        ([float("nan")], "InferRequest"),
        ({"inputs": [float("nan")]}, "InferRequest"),
    ],
)
def test_what_the_model_does_not_take_is_refused_with_a_sentence(
    server: Server, request_json: object, message: str
) -> None:
    server.load(features=2)

    answer = server.request("POST", "/v2/models/digits/infer", json.dumps(request_json))

    assert answer.status == 400
    assert message in answer.json()["error"]
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[NaN" * 50_000, b"null"])
def test_a_body_that_is_not_json_is_refused(server: Server, body: bytes) -> None:
    server.load(features=2)

    assert server.request("POST", "/v2/models/digits/infer", body).status == 400


@pytest.mark.parametrize("length", ["x", "-1", "99999999999", "1e3"])
def test_a_wrong_header_length_is_refused(server: Server, length: str) -> None:
    server.load(features=2)

    answer = server.request("POST", "/v2/models/digits/infer", b"{}", Inference_Header_Content_Length=length)

    assert answer.status == 400


@given(body=st.binary(max_size=300), header=st.integers(0, 400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bodies_are_refused_and_harm_nothing(server: Server, body: bytes, header: int) -> None:
    server.load(features=2)

    answer = server.request("POST", "/v2/models/digits/infer", body, Inference_Header_Content_Length=str(header))

    assert answer.status == (200 if header == 0 and len(body) == 2 else 400)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_altered_binary_requests_are_answered_or_refused(server: Server, data: st.DataObject) -> None:
    server.load(features=2)
    body, header_bytes = encode_request([TensorBytes("x", "INT8", (1, 2), b"\x01\x02")])
    altered = bytearray(body)
    altered[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))

    answer = server.request(
        "POST", "/v2/models/digits/infer", bytes(altered), Inference_Header_Content_Length=str(header_bytes)
    )

    assert answer.status in {200, 400}


def test_a_run_that_fails_is_the_models_error(server: Server) -> None:
    server.load(model=lambda path: hungry_model(path, size_bytes=64, free=True))
    two = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}

    answer = server.infer(inputs=[two])

    assert answer.status == 500
    assert answer.json()["error"].startswith("digits 1: the model failed to run")
    assert server.client.stats()["models"]["digits"]["1"]["errors_total"] == 1


def test_a_hanging_run_ends_at_its_deadline_and_the_others_go_on(server: Server) -> None:
    server.load()
    server.load_slow()

    hanging = server.infer("slow", inputs=count_down(3e5), headers={"X_Request_Timeout_Ms": "20"})

    assert hanging.status == 504
    assert server.infer(inputs=[tensor(steps(), "INT8")]).status == 200


def test_a_request_whose_deadline_has_passed_is_not_run(server: Server) -> None:
    server.load()

    answer = server.infer(inputs=[tensor(steps(), "INT8")], headers={"X_Request_Timeout_Ms": "0"})

    assert answer.status == 504
    wait_until(lambda: server.client.stats()["queue_depth"] == 0)
    assert server.client.stats()["models"]["digits"]["1"]["total"] == 0


def test_only_a_run_that_outlasts_the_servers_own_patience_counts_against_the_model(
    serve: Callable[..., Server],
) -> None:
    hasty, patient = serve(), serve(request_timeout_s=0.05)
    for server in (hasty, patient):
        server.load_slow()

    hasty.infer("slow", inputs=count_down(3e5), headers={"X_Request_Timeout_Ms": "20"})
    patient.infer("slow", inputs=count_down(3e6))

    assert hasty.client.stats()["models"]["slow"]["1"]["errors_total"] == 0
    assert patient.client.stats()["models"]["slow"]["1"]["errors_total"] == 1


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(serve: Callable[..., Server]) -> None:
    server = serve(queue=1)
    server.load_slow()
    answers: list[int] = []
    long = {"X_Request_Timeout_Ms": "400"}

    def ask() -> None:
        answers.append(server.infer("slow", inputs=count_down(float("inf")), headers=long).status)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    running = server.serving.registry.models()["slow"][0].queue
    wait_until(lambda: server.client.stats() and running.is_running)
    threads[1].start()
    wait_until(lambda: running.depth == 1)
    refused = server.infer("slow", inputs=count_down(1), headers=long)
    for thread in threads:
        thread.join()

    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"error": "1 requests are waiting for slow 1 already"}
    assert answers == [504, 504]


def test_statistics_count_what_was_asked(server: Server) -> None:
    server.load()
    for seed in range(3):
        server.infer(inputs=[tensor(steps(seed), "INT8")])

    (of_model,) = server.request("GET", "/v2/models/digits/stats").json()["model_stats"]
    everything = server.request("GET", "/v2/models/stats").json()["model_stats"]
    of_version = server.request("GET", "/v2/models/digits/versions/1/stats").json()["model_stats"]

    assert everything == of_version == [of_model]
    assert of_model["inference_count"] == 3
    assert of_model["inference_stats"]["success"]["count"] == 3
    stages = ("queue", "compute_input", "compute_infer", "compute_output")
    spent_ns = [of_model["inference_stats"][stage]["ns"] for stage in stages]
    assert all(spent_ns)
    assert abs(sum(spent_ns) - of_model["inference_stats"]["success"]["ns"]) < 10
    assert of_model["inference_stats"]["fail"] == {"count": 0, "ns": 0}


def test_an_answer_tells_where_its_time_went(server: Server) -> None:
    server.load()

    timing = server.infer(inputs=[tensor(steps(), "INT8")]).headers["server-timing"]

    spent_ms = {stage: float(dur) for stage, dur in re.findall(r"(\w+);dur=(\d+\.\d{3})", timing)}
    assert list(spent_ms) == ["parse", "queue", "input", "invoke", "output"]
    assert all(spent_ms[stage] > 0 for stage in ("parse", "queue", "invoke", "output"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/nothing"),
        ("GET", "/v2/models/digits/infer"),
        ("GET", "/v2/models/digits/nothing"),
        ("POST", "/v2/models/digits"),
        ("GET", "/v2/repository/index"),
        ("GET", "/edgeferry/stats"),
        ("POST", "/edgeferry/pace"),
        ("DELETE", "/v2"),
    ],
)
def test_an_unknown_route_is_not_found(server: Server, method: str, path: str) -> None:
    server.load()

    answer = server.request(method, path)

    assert answer.status == 404
    assert answer.json()["error"].startswith(f"there is no {method} /")


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_models_are_changed_through_the_unix_socket_only(server: Server, verb: str) -> None:
    server.load()

    answer = server.request("POST", f"/v2/repository/models/digits/{verb}", b"{}")

    assert answer.status == 403
    assert server.request("GET", "/v2/models/digits/ready").status == 200


def load_floats(server: Server, **options: Any) -> Model:
    return Model.load(server.load(quantized=False, features=2, classes=3, **options) / "model.tflite")


def test_half_floats_are_widened_exactly(server: Server) -> None:
    model = load_floats(server)
    x = np.array([[0.5, -3.25]], np.float32)  # both formats hold these exactly
    wanted = model.run({"x": x})["scores"].ravel().tolist()
    packed = {"FP16": x.astype(np.float16).tobytes(), "BF16": (x.view(np.uint32) >> 16).astype("<u2").tobytes()}

    for datatype, data in packed.items():
        body, header_bytes = encode_request([TensorBytes("x", datatype, x.shape, data)])
        headers = {"Inference_Header_Content_Length": str(header_bytes)}
        answer = server.request("POST", "/v2/models/digits/infer", body, **headers)
        _, (scores,) = decode_response(
            answer.body, int(answer.headers["inference-header-content-length"]), max_header_bytes=4096
        )
        assert np.frombuffer(scores.data, np.float32).tolist() == wanted
        as_json = server.infer(inputs=[tensor(x, datatype)]).json()["outputs"][0]
        assert (as_json["datatype"], as_json["data"]) == ("FP32", wanted)


def test_half_floats_are_quantized_for_a_quantized_model(server: Server) -> None:
    server.load(features=2)
    x = np.array([[0.5, 0.25]], np.float32)

    answers = [server.infer(inputs=[tensor(x, datatype)]).json()["outputs"] for datatype in ("FP32", "FP16", "BF16")]

    assert answers[0] == answers[1] == answers[2]


def test_the_best_classes_come_as_text(server: Server) -> None:
    model = load_floats(server)
    x = np.array([[0.5, 0.25]], np.float32)
    scores = model.run({"x": x})["scores"][0]
    best = np.argsort(-scores)[:2]
    wanted = [f"{scores[i]:f}:{i}:class-{i}" for i in best]

    def ask(**parameters: object) -> Any:
        outputs = [{"name": "scores", "parameters": {"classification": 2, **parameters}}]
        return server.infer(inputs=[tensor(x, "FP32")], outputs=outputs)

    assert ask().json()["outputs"] == [{"name": "scores", "shape": [2], "datatype": "BYTES", "data": wanted}]
    binary = ask(binary_data=True)
    assert binary.body.endswith(b"".join(len(t).to_bytes(4, "little") + t.encode() for t in wanted))


def test_the_configuration_tells_shapes_and_types(server: Server) -> None:
    load_floats(server)

    config = server.request("GET", "/v2/models/digits/config").json()

    assert config["platform"] == "tensorflow_tflite"
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [1, 2]}]


def test_text_is_no_input_of_any_model(server: Server) -> None:
    load_floats(server)

    answer = server.infer(inputs=[{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}])

    assert answer.status == 400
    assert answer.json() == {"error": "input 'x' is BYTES, wanted FP32 or FP16 or BF16"}
