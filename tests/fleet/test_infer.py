"""Samples to requests and answers to arrays, without a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.reports import PROBLEM

from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.infer import InferenceReport, answer_from, refuse_what_is_too_large, requests_from
from edgeferry.wire.codec import WireError, encode
from edgeferry.wire.desired import TensorSpec
from edgeferry.wire.messages import Response
from edgeferry.wire.tensors import BINARY_SIZE, InferResponse, OutputTensor, TensorBytes, join_body, pack_mqtt

QUANTIZED = TensorSpec(name="x", datatype="INT8", shape=(1, 2, 3), scale=0.5)
FLOAT = TensorSpec(name="x", datatype="FP32", shape=(1, -1))


def answer(tensor: OutputTensor, data: bytes) -> bytes:
    return pack_mqtt(*join_body(InferResponse("digits", "7", (tensor,), "r-1"), [data]))


def test_each_sample_is_a_request() -> None:
    x = np.arange(12, dtype=np.float64).reshape(2, 2, 3)

    requests = requests_from(x, QUANTIZED)

    assert [(r.name, r.datatype, r.shape) for r in requests] == [("x", "FP32", (1, 2, 3))] * 2
    assert requests[1].data == np.arange(6, 12, dtype="<f4").tobytes()


def test_a_single_sample_needs_no_first_axis() -> None:
    assert len(requests_from(np.zeros((2, 3), np.float32), QUANTIZED)) == 1


def test_the_models_own_type_is_sent_as_it_is() -> None:
    (request,) = requests_from(np.ones((1, 2, 3), np.int8), QUANTIZED)

    assert (request.datatype, request.data) == ("INT8", b"\1" * 6)


def test_a_dimension_of_any_size_takes_any() -> None:
    assert requests_from(np.zeros((4, 9), np.float32), FLOAT)[0].shape == (1, 9)


@pytest.mark.parametrize(
    ("x", "spec", "sentence"),
    [
        (np.zeros((3, 2, 4), np.float32), QUANTIZED, r"shape \[3, 2, 4\], wanted \[n, 2, 3\]"),
        (np.zeros((0, 2, 3), np.float32), QUANTIZED, r"shape \[0, 2, 3\]"),
        (np.zeros((), np.float32), QUANTIZED, r"shape \[\]"),
        (np.zeros((1, 2, 3), np.int64), QUANTIZED, "holds int64, wanted float32 or the model's own INT8"),
        (np.zeros((1, 2), np.uint8), FLOAT, "holds uint8"),
        (np.zeros((1, 2), np.float32), TensorSpec(name="x", datatype="INT64", shape=(1, 2)), "holds float32"),
        (np.full((1, 2), np.inf, np.float32), FLOAT, "not finite"),
    ],
)
def test_samples_that_do_not_fit_are_refused(x: np.ndarray, spec: TensorSpec, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        requests_from(x, spec)


def test_an_answer_becomes_arrays() -> None:
    payload = answer(OutputTensor("y", (1, 2), "FP32", {BINARY_SIZE: 8}), np.array([1, 2], "<f4").tobytes())

    found = answer_from(payload, b"")

    np.testing.assert_array_equal(found.outputs["y"], [[1, 2]])
    assert (found.request_id, found.version) == ("r-1", "7")


def test_correlation_data_weighs_more_than_the_body() -> None:
    assert answer_from(encode(Response(id="body", error=PROBLEM)), b"r-9").request_id == "r-9"


def test_an_error_becomes_its_reason() -> None:
    assert answer_from(encode(Response(id="r-1", error=PROBLEM)), b"").problem == "SELFTEST_MISMATCH: 4 of 8 differ"


@pytest.mark.parametrize(
    "payload", [b"{}", b"", b"\0\0", answer(OutputTensor("y", (1, 1), "BF16", {BINARY_SIZE: 2}), b"\0\0")]
)
def test_what_is_no_answer_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        answer_from(payload, b"")


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else_happens(payload: bytes) -> None:
    with pytest.raises(WireError):
        answer_from(payload, b"")


def test_outputs_are_stacked_in_the_order_of_the_samples() -> None:
    report = InferenceReport(2, {1: {"y": np.array([[2]])}, 0: {"y": np.array([[1]])}})

    np.testing.assert_array_equal(report.outputs()["y"], [[1], [2]])


def test_missing_answers_are_told_with_the_first_ones_reason() -> None:
    report = InferenceReport(3, problems={2: "late", 1: "BUSY"})

    with pytest.raises(FleetError, match="2 of 3 samples were not answered; sample 1: BUSY"):
        report.outputs()


def test_percentiles_are_by_nearest_rank() -> None:
    report = InferenceReport(4, latencies_ms=[4.0, 1.0, 3.0, 2.0])

    assert [report.latency_ms(share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 2.0, 4.0, 4.0]


def test_a_report_without_answers_has_no_figures() -> None:
    assert (InferenceReport(0).latency_ms(0.5), InferenceReport(0).per_s) == (0.0, 0.0)


def test_a_sample_beyond_the_packet_limit_is_refused() -> None:
    tensor = TensorBytes("x", "INT8", (1, 200_000), bytes(200_000))

    refuse_what_is_too_large(tensor, 300_000)
    with pytest.raises(UsageError, match="takes 200000 bytes, the device takes messages of 131072"):
        refuse_what_is_too_large(tensor, 0)
