import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.serving.conftest import Server, count_down

from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.wire.messages import Code, Reason
from edgeferry.wire.tensors import TensorBytes, decode_response, encode_request


@pytest.fixture
def saying(tmp_path: Path) -> Iterator[Callable[..., ServingClient]]:
    """A server that answers each connection's first request with given bytes, and then ends it or says no more."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    accepted: list[socket.socket] = []

    def start(*answers: bytes, ends: bool = True, timeout_s: float = 10.0) -> ServingClient:
        def serve() -> None:
            for answer in answers:
                client, _ = listener.accept()
                accepted.append(client)
                client.recv(65536)
                client.sendall(answer)
                if ends:
                    client.close()

        threading.Thread(target=serve, daemon=True).start()
        return ServingClient(tmp_path / "s", timeout_s)

    yield start
    for client in accepted:
        client.close()
    listener.close()


WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_inference_goes_through_and_back(server: Server) -> None:
    server.load()
    body, header_bytes = encode_request([TensorBytes("x", "INT8", (1, 64), bytes(64))])

    status, answer, answer_header = server.client.infer("digits", "stable", body, header_bytes, 5.0)

    assert status == 200
    assert answer_header
    _, (scores,) = decode_response(answer, answer_header, max_header_bytes=4096)
    assert scores.shape == (1, 10)


def test_a_refusal_of_inference_is_an_answer_with_code_and_reason(server: Server) -> None:
    status, answer, header_bytes = server.client.infer("cats", "", b"{}", None, 5.0)

    assert (status, header_bytes) == (404, None)
    assert json.loads(answer) == {
        "error": "model 'cats' is not loaded",
        "code": "NOT_FOUND",
        "reason": "UNKNOWN_MODEL",
    }


def test_a_deadline_goes_along(server: Server) -> None:
    server.load_slow()

    status, answer, _ = server.client.infer("slow", "", json.dumps({"inputs": count_down(3e6)}).encode(), None, 0.05)

    assert (status, json.loads(answer)["reason"]) == (504, "DEADLINE_PASSED")


def test_a_large_body_goes_through(server: Server) -> None:
    server.load(features=2_000_000, classes=1, samples=1)
    body, header_bytes = encode_request([TensorBytes("x", "INT8", (1, 2_000_000), bytes(2_000_000))])

    assert server.client.infer("digits", "", body, header_bytes, 10.0)[0] == 200


def test_a_connection_that_has_ended_meanwhile_is_opened_anew(saying: Callable[..., ServingClient]) -> None:
    client = saying(WELL, WELL)
    client.ping()

    client.ping()
    client.close()
    client.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "it ended the connection"),
        (b"HTTP/1.1 200 OK\r\n", "it ended in the middle of an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "it ended in the middle of an answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "its answer has no Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", "its answer has 999999999 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "does not answer"),
        (b"x" * 40_000, "its answer's head is longer than"),
        (b"nonsense\r\nContent-Length: 0\r\n\r\n", "does not answer"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}", "status 500 and no reason"),
    ],
)
def test_an_answer_that_is_none_is_told_as_no_answer(
    saying: Callable[..., ServingClient], answer: bytes, message: str
) -> None:
    with pytest.raises(ServingError, match=message) as caught:
        saying(answer).ping()

    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE)


def test_silence_ends_at_the_deadline(saying: Callable[..., ServingClient]) -> None:
    client = saying(b"", ends=False, timeout_s=0.5)

    with pytest.raises(ServingError, match=r"gave no answer within 0\.5 s") as caught:
        client.ping()

    assert (caught.value.code, caught.value.reason) == (Code.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED)


def test_statistics_that_are_not_json_are_told_as_no_answer(saying: Callable[..., ServingClient]) -> None:
    client = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{")

    with pytest.raises(ServingError, match="statistics cannot be read"):
        client.stats()
