import json
from collections.abc import Iterator

from tests.serving.conftest import Server

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.metrics import Metrics, QueueFigures
from edgeferry.agent.serving.stats import Durations


def samples(text: bytes) -> dict[str, float]:
    """Return every sample of a Prometheus text by its name and labels."""

    def parsed() -> Iterator[tuple[str, float]]:
        for line in text.decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                yield name, float(value)

    return dict(parsed())


def test_requests_are_counted_by_their_status_in_tensorflow_servings_names() -> None:
    metrics = Metrics()
    metrics.answered("cats", "predict", "REST", latency_s=0.002, spent=Durations(invoke_s=0.001))
    metrics.refused("cats", RequestError.bad("no"))

    found = samples(metrics.tfs_text())

    assert found[':tensorflow:serving:request_count{model_name="cats",status="OK"}'] == 1
    assert found[':tensorflow:serving:request_count{model_name="cats",status="INVALID_ARGUMENT"}'] == 1
    assert found[':tensorflow:serving:request_latency_sum{model_name="cats",API="predict",entrypoint="REST"}'] == 2000
    assert found[':tensorflow:serving:runtime_latency_sum{model_name="cats",API="Predict",runtime="TFLite"}'] == 1000


def test_a_histogram_counts_up_to_each_bound() -> None:
    metrics = Metrics()
    for latency_s in (5e-6, 15e-6, 1e9):
        metrics.answered("cats", "infer", "GRPC", latency_s=latency_s, spent=Durations())

    found = samples(metrics.tfs_text())

    labels = 'model_name="cats",API="infer",entrypoint="GRPC"'
    counts = [
        found[f':tensorflow:serving:request_latency_bucket{{{labels},le="{bound}"}}'] for bound in ("10", "18", "+Inf")
    ]
    assert counts == [1, 2, 3]
    assert found[f":tensorflow:serving:request_latency_count{{{labels}}}"] == 3


def test_our_own_names_tell_queues_and_memory_in_base_units() -> None:
    metrics = Metrics()
    metrics.answered('a"b\\c\n', "infer", "REST", latency_s=0.5, spent=Durations(invoke_s=0.25))

    found = samples(metrics.own_text([QueueFigures("cats", 7, 3, 10, 2)], rss_bytes=4096))

    assert found['edgeferry_queue_depth{model="cats",version="7"}'] == 3
    assert found['edgeferry_runs_total{model="cats",version="7"}'] == 10
    assert found['edgeferry_run_failures_total{model="cats",version="7"}'] == 2
    assert found["process_resident_memory_bytes"] == 4096
    assert found['edgeferry_request_seconds_sum{model="a\\"b\\\\c\\n",method="infer",entry="REST"}'] == 0.5


def test_each_stage_of_a_request_has_its_histogram() -> None:
    metrics = Metrics()
    spent = Durations(parse_s=0.5, queue_s=0.25, input_s=0.125, invoke_s=2.0, output_s=1.0)
    metrics.answered("cats", "infer", "REST", latency_s=4.0, spent=spent)

    found = samples(metrics.own_text([], rss_bytes=1))

    sums = {
        stage: found[f'edgeferry_stage_seconds_sum{{model="cats",stage="{stage}"}}']
        for stage in ("parse", "queue", "input", "invoke", "output")
    }
    assert sums == {"parse": 0.5, "queue": 0.25, "input": 0.125, "invoke": 2.0, "output": 1.0}


def test_the_last_refusals_are_remembered_and_no_more() -> None:
    metrics = Metrics()
    for number in range(30):
        metrics.refused("cats", RequestError.bad(f"number {number}"))

    assert [refusal.detail for refusal in metrics.last_refusals()] == [f"number {n}" for n in range(29, 9, -1)]


def test_both_texts_are_served_and_count_what_was_asked(server: Server) -> None:
    server.load(quantized=False, features=2)
    server.request("POST", "/v1/models/digits:predict", json.dumps({"instances": [[1, 2]]}))
    server.request("POST", "/v1/models/digits:predict", "{}")
    server.infer(inputs=[{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}])
    server.infer(inputs=[])
    server.request("POST", "/v1/models/cats:predict", "{}")

    tfs = server.request("GET", "/monitoring/prometheus/metrics")
    own = server.request("GET", "/metrics")

    assert tfs.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples(tfs.body)[':tensorflow:serving:request_count{model_name="digits",status="OK"}'] == 2
    assert samples(own.body)['edgeferry_requests_total{model="digits",code="INVALID_ARGUMENT"}'] == 2
    assert samples(own.body)['edgeferry_runs_total{model="digits",version="1"}'] == 2
    assert b"cats" not in tfs.body + own.body, "a client can make no series of its own"
