"""Stateful models: a state for everybody, and one for each sequence."""

from typing import Any

import grpc
import numpy as np
import pytest
from tests.models import running_sum_model
from tests.serving.conftest import Answer, Server

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.protobuf import decode_message, encode_message
from edgeferry.agent.serving.sessions import MAX_SEQUENCES


@pytest.fixture
def server(serve) -> Server:
    server = serve(grpc="127.0.0.1:0")
    server.load("sums", model=running_sum_model)
    return server


def ask(server: Server, number: float, **parameters: Any) -> Answer:
    inputs = [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}]
    return server.infer("sums", inputs=inputs, parameters=parameters)


def sum_of(answer: Answer) -> float:
    assert answer.status == 200, answer.body
    return float(answer.json()["outputs"][0]["data"][0])


def test_without_a_sequence_the_state_is_everybodys(server: Server) -> None:
    assert [sum_of(ask(server, number)) for number in (1, 2, 3, 4)] == [1, 3, 6, 9]


def test_a_start_without_a_sequence_forgets_everybodys_state(server: Server) -> None:
    ask(server, 5)

    assert sum_of(ask(server, 1, sequence_start=True)) == 1
    assert sum_of(ask(server, 1)) == 2


def test_sequences_do_not_see_each_others_state(server: Server) -> None:
    first = [sum_of(ask(server, 1, sequence_id=1, sequence_start=True))]
    second = [sum_of(ask(server, 10, sequence_id="b", sequence_start=True))]
    first.append(sum_of(ask(server, 2, sequence_id=1)))
    second.append(sum_of(ask(server, 20, sequence_id="b")))

    assert (first, second) == ([1, 3], [10, 30])
    assert sum_of(ask(server, 7)) == 7, "nor does who has none"


def test_a_start_begins_a_sequence_anew(server: Server) -> None:
    ask(server, 5, sequence_id=1, sequence_start=True)

    assert sum_of(ask(server, 1, sequence_id=1, sequence_start=True)) == 1


def test_a_sequence_that_has_not_begun_or_has_ended_is_refused(server: Server) -> None:
    ask(server, 1, sequence_id=1, sequence_start=True, sequence_end=True)

    for number in (1, 2):
        answer = ask(server, 1, sequence_id=number)
        assert answer.status == 400
        assert answer.json()["error"].startswith(f"sequence '{number}' has not begun, or made room")


def test_the_sequence_that_was_silent_for_the_longest_makes_room(server: Server) -> None:
    for number in range(1, MAX_SEQUENCES + 1):
        ask(server, number, sequence_id=number, sequence_start=True)
    ask(server, 1, sequence_id=1)

    ask(server, 1, sequence_id=99, sequence_start=True)

    assert ask(server, 1, sequence_id=2).status == 400
    assert sum_of(ask(server, 1, sequence_id=1)) == 3


@pytest.mark.parametrize("name", [1.5, None, [1], "x" * 129])
def test_an_id_that_is_none_is_refused(server: Server, name: object) -> None:
    assert ask(server, 1, sequence_id=name).json()["error"].startswith("sequence_id is ")


def test_sequences_go_over_grpc_too(server: Server) -> None:
    def sum_over_grpc(number: float, **parameters: object) -> float:
        fields = {
            "model_name": "sums",
            "parameters": {"sequence_id": {"int64_param": 4}, **parameters},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": np.array([1, 1])}],
            "raw_input_contents": [np.float32(number).tobytes()],
        }
        with grpc.insecure_channel(server.serving.grpc) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            answer = decode_message(
                protos.INFER_RESPONSE, call(encode_message(protos.INFER_REQUEST, fields), timeout=10)
            )
        return float(np.frombuffer(answer["raw_output_contents"][0], np.float32)[0])

    assert sum_over_grpc(1, sequence_start={"bool_param": True}) == 1
    assert sum_over_grpc(2) == 3
