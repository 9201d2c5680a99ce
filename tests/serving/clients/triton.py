"""Triton's own client over HTTP and gRPC; run in an environment of its own.

python triton.py HTTP_ADDRESS GRPC_ADDRESS FOLDER: asks with FOLDER/x.npy and FOLDER/raw.npy, writes what it got to
FOLDER/answers.npz.
"""

import sys
from pathlib import Path
from queue import Queue

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

http_address, grpc_address, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
x, raw = np.load(folder / "x.npy"), np.load(folder / "raw.npy")
answers = {}


def tensor(module, array, datatype, **options):
    made = module.InferInput("x", list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def check(name, module, client, fields):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("floats", "1")
    assert not client.is_model_ready("cats")
    assert fields(client.get_server_metadata())["name"] == "edgeferry"
    metadata = fields(client.get_model_metadata("digits"))
    assert metadata["platform"] == "tensorflow_tflite"
    assert metadata["inputs"][0]["datatype"] == "INT8"
    assert [int(size) for size in metadata["inputs"][0]["shape"]] == [1, 16]
    config = fields(client.get_model_config("digits"))
    assert config.get("config", config)["input"][0]["data_type"] == "TYPE_INT8"

    answers[f"{name}-floats"] = client.infer("floats", [tensor(module, x, "FP32")]).as_numpy("scores")
    answers[f"{name}-floats-1"] = client.infer(
        "floats", [tensor(module, x, "FP32")], model_version="1", request_id="7"
    ).as_numpy("scores")
    answers[f"{name}-real"] = client.infer("digits", [tensor(module, x, "FP32")]).as_numpy("scores")
    answers[f"{name}-raw"] = client.infer("digits", [tensor(module, raw, "INT8")]).as_numpy("scores")
    halves = x.astype(np.float16)
    answers[f"{name}-halves"] = client.infer("floats", [tensor(module, halves, "FP16")]).as_numpy("scores")

    wanted = module.InferRequestedOutput("scores", class_count=2)
    best = client.infer("floats", [tensor(module, x, "FP32")], outputs=[wanted]).as_numpy("scores")
    assert len(best) == 2
    assert best[0].decode().split(":")[2].startswith("class-")

    statistics = fields(client.get_inference_statistics("digits"))["model_stats"]
    assert int(statistics[0]["inference_count"]) >= 2
    index = fields(client.get_model_repository_index())
    names = {each["name"] for each in (index if isinstance(index, list) else index["models"])}
    assert {"digits", "floats", "pair"} <= names

    def added(number, **sequence):
        one = np.array([[number]], np.float32)
        return client.infer("sums", [tensor(module, one, "FP32")], **sequence).as_numpy("scores").item()

    assert added(1, sequence_id=5, sequence_start=True) == 1
    assert added(10, sequence_id=6, sequence_start=True) == 10
    assert added(2, sequence_id=5, sequence_end=True) == 3

    unknown = refusal(lambda: client.infer("cats", [tensor(module, x, "FP32")]), InferenceServerException)
    assert "model 'cats' is not loaded" in unknown.message()
    short = [tensor(module, x[:, :3], "FP32")]
    misshapen = refusal(lambda: client.infer("floats", short), InferenceServerException)
    assert "has shape [1, 3], wanted [1, 16]" in misshapen.message()


def refusal(call, kind):
    """Return the error that ``call`` raises."""
    try:
        call()
    except kind as err:
        return err
    raise AssertionError("it was answered")


http = tritonclient.http.InferenceServerClient(http_address, concurrency=4)
check("http", tritonclient.http, http, lambda answer: answer)
as_json = [tensor(tritonclient.http, x, "FP32", binary_data=False)]
plain = [tritonclient.http.InferRequestedOutput("scores", binary_data=False)]
answers["json-floats"] = http.infer("floats", as_json, outputs=plain).as_numpy("scores")
for packing in ("gzip", "deflate"):
    inputs = [tensor(tritonclient.http, x, "FP32")]
    packed = http.infer("floats", inputs, request_compression_algorithm=packing)
    answers[f"{packing}-floats"] = packed.as_numpy("scores")
waiting = [http.async_infer("floats", [tensor(tritonclient.http, x, "FP32")]) for _ in range(8)]
for number, one in enumerate(waiting):
    answers[f"async-{number}-floats"] = one.get_result().as_numpy("scores")

with tritonclient.grpc.InferenceServerClient(grpc_address) as client:
    from google.protobuf.json_format import MessageToDict

    check("grpc", tritonclient.grpc, client, lambda answer: MessageToDict(answer, preserving_proto_field_name=True))
    results: Queue = Queue()
    for _ in range(8):
        client.async_infer(
            "floats", [tensor(tritonclient.grpc, x, "FP32")], lambda result, error: results.put((result, error))
        )
    for number in range(8):
        result, error = results.get(timeout=10)
        assert error is None, error
        answers[f"grpc-async-{number}-floats"] = result.as_numpy("scores")
np.savez(folder / "answers.npz", **answers)
