import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.conftest import Server, count_down, wait_until

from edgeferry.agent.serving.connection import Connection, Limits
from edgeferry.agent.serving.http_message import HttpError, Request, Response, encode_head, parse_head
from edgeferry.agent.serving.http_server import HttpServer, Listener
from edgeferry.agent.serving.listening import ListenError, listen_tcp, listen_unix


def echo(request: Request) -> Response:
    if request.path == ("crash",):
        raise RuntimeError("a bug")
    return Response(200, [b"/".join(level.encode() for level in request.path), b"|", bytes(request.body)], "text/plain")


class Echo:
    def __init__(self, handle: Callable[[Request], Response], limits: Limits) -> None:
        listener = listen_tcp("127.0.0.1:0", allow_remote=False)
        self.address = listener.getsockname()
        self.server = HttpServer([Listener(listener, trusted=False)], handle, limits)
        self.server.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def ask(self, data: bytes) -> bytes:
        """Send ``data`` and return everything until the server ends the connection."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def read_answer(client: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1)
    head = received.lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    while length:
        chunk = client.recv(length)
        received += chunk
        length -= len(chunk)
    return received


@contextmanager
def echoing(handle: Callable[[Request], Response] = echo, **limits: float) -> Iterator[Echo]:
    running = Echo(handle, Limits(**limits))  # type: ignore[arg-type]
    try:
        yield running
    finally:
        running.server.stop(1.0)


def test_many_requests_use_one_connection() -> None:
    with echoing() as server, server.connect() as client:
        for number in range(3):
            client.sendall(b"POST /a/%d HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi" % number)

            assert read_answer(client).endswith(b"a/%d|hi" % number)


def test_requests_sent_at_once_are_answered_in_order() -> None:
    with echoing() as server:
        answers = server.ask(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n")

    assert answers.index(b"1|") < answers.index(b"2|")


def test_http_1_0_ends_the_connection_unless_asked_otherwise() -> None:
    with echoing() as server:
        assert server.ask(b"GET /1 HTTP/1.0\r\n\r\n").endswith(b"1|")
        with server.connect() as client:
            client.sendall(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            read_answer(client)
            client.sendall(b"GET /2 HTTP/1.0\r\n\r\n")

            assert read_all(client).endswith(b"2|")


def test_a_client_that_waits_for_leave_gets_it() -> None:
    with echoing() as server, server.connect() as client:
        client.sendall(b"POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(64) == b"HTTP/1.1 100 Continue\r\n\r\n"

        client.sendall(b"hi")

        assert read_answer(client).endswith(b"a|hi")


def test_a_large_answer_arrives_whole() -> None:
    large = bytes(range(256)) * 40_000

    with echoing(lambda _: Response(200, [b"x", large])) as server:
        assert server.ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").endswith(b"\r\n\r\nx" + large)


def test_a_bug_in_the_handler_is_an_answer_and_the_connection_lives() -> None:
    with echoing() as server, server.connect() as client:
        client.sendall(b"GET /crash HTTP/1.1\r\n\r\n")
        assert b" 500 " in read_answer(client)

        client.sendall(b"GET /well HTTP/1.1\r\n\r\n")

        assert read_answer(client).endswith(b"well|")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : value\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, 413),
    ],
)
def test_a_malformed_request_gets_its_status_and_the_connection_ends(data: bytes, status: int) -> None:
    with echoing(body_bytes=1000) as server:
        answer = server.ask(data)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b'{"error":' in answer
    assert b"Connection: close" in answer


def test_a_body_that_ends_too_early_is_an_error() -> None:
    with echoing() as server, server.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhi")
        client.shutdown(socket.SHUT_WR)

        assert b"the body ended after 2 of 5 bytes" in read_all(client)


def test_a_slow_head_and_a_slow_body_are_ended() -> None:
    with echoing(header_timeout_s=0.05, body_timeout_s=0.05) as server:
        assert server.ask(b"GET / HT").startswith(b"HTTP/1.1 408 ")
        assert server.ask(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhi").startswith(b"HTTP/1.1 408 ")


def test_a_silent_client_is_ended_without_a_word() -> None:
    with echoing(idle_timeout_s=0.05) as server:
        assert server.ask(b"") == b""


def test_a_client_that_resets_its_connection_harms_nobody() -> None:
    with echoing() as server:
        client = server.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhi")
        client.close()

        assert server.ask(b"GET /1 HTTP/1.0\r\n\r\n").endswith(b"1|")


def test_bodies_together_are_bounded() -> None:
    with echoing(bodies_bytes=1000) as server, server.connect() as first:
        first.sendall(b"POST / HTTP/1.1\r\nContent-Length: 800\r\n\r\n")
        refused = b""

        def refuse() -> bool:
            nonlocal refused
            refused = server.ask(b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 300\r\n\r\n" + bytes(300))
            return b" 503 " in refused

        wait_until(refuse)
        first.sendall(bytes(800))

        assert b"Retry-After: 1" in refused
        assert read_answer(first).startswith(b"HTTP/1.1 200")
        assert server.ask(b"POST / HTTP/1.0\r\nContent-Length: 300\r\n\r\n" + bytes(300)).startswith(b"HTTP/1.1 200")


def test_idle_clients_make_room_for_a_good_one() -> None:
    with echoing(connections=4) as server:
        idle = [server.connect() for _ in range(40)]
        idle[-1].sendall(b"GET / HT")
        began = time.monotonic()

        answer = server.ask(b"GET /good HTTP/1.0\r\n\r\n")

        assert answer.endswith(b"good|")
        assert time.monotonic() - began < 2
        assert idle[0].recv(1) == b""
        for client in idle:
            client.close()


def test_a_client_is_refused_while_all_connections_are_busy() -> None:
    release, entered = threading.Event(), threading.Event()

    def wait(_: Request) -> Response:
        entered.set()
        release.wait(10)
        return Response(200)

    with echoing(wait, connections=1) as server, server.connect() as busy:
        busy.sendall(b"GET / HTTP/1.1\r\n\r\n")
        entered.wait(10)

        with server.connect() as refused:
            assert read_all(refused).startswith(b"HTTP/1.1 503 ")
        release.set()

        assert read_answer(busy).startswith(b"HTTP/1.1 200")


def test_stopping_lets_a_running_request_finish_and_says_goodbye() -> None:
    release, entered = threading.Event(), threading.Event()

    def wait(_: Request) -> Response:
        entered.set()
        release.wait(10)
        return Response(200)

    running = Echo(wait, Limits())
    idle, busy = running.connect(), running.connect()
    busy.sendall(b"GET / HTTP/1.1\r\n\r\n")
    entered.wait(10)
    stopping = threading.Thread(target=running.server.stop, args=(10.0,))
    stopping.start()
    assert idle.recv(1) == b""

    release.set()
    stopping.join(10)

    assert b"Connection: close" in read_all(busy)
    for client in (idle, busy):
        client.close()
    with pytest.raises(OSError, match="refused"):
        running.connect()


def test_lingering_after_the_client_has_gone_is_silent() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, Limits())
    theirs.close()
    connection.abort()

    connection.linger()
    connection.abort()
    connection.close()
    connection.abort()


def test_a_level_of_the_path_is_decoded_after_it_was_cut() -> None:
    assert parse_head(b"GET /a%2Fb//c?d=e HTTP/1.1").path == ("a/b", "", "c")


def test_a_status_without_a_name_in_the_standard_has_one_here() -> None:
    assert encode_head(Response(499), keep_alive=True).startswith(b"HTTP/1.1 499 Client Closed Request\r\n")


@given(st.binary(max_size=200))
def test_random_heads_are_parsed_or_refused(data: bytes) -> None:
    try:
        head = parse_head(data)
    except HttpError:
        return
    assert head.content_length >= 0


def test_the_unix_socket_is_its_owners_alone(server: Server) -> None:
    assert server.socket_path.stat().st_mode & 0o777 == 0o600


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path) -> None:
    path = tmp_path / "a.sock"
    listen_unix(path).close()
    assert path.is_socket()

    with listen_unix(path), pytest.raises(ListenError, match="another process serves on"):
        listen_unix(path)


def test_a_path_that_cannot_hold_a_socket_is_refused(tmp_path) -> None:
    with pytest.raises(ListenError, match="cannot listen on"):
        listen_unix(tmp_path / "missing" / "a.sock")


@pytest.mark.parametrize("address", ["8501", "localhost:", ":1", "127.0.0.1:x", "127.0.0.1:99999", "no.such.invalid:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ListenError):
        listen_tcp(address, allow_remote=False)


def test_other_machines_are_let_in_only_by_an_explicit_word() -> None:
    with pytest.raises(ListenError, match="is open to other machines, without encryption and without a token"):
        listen_tcp("0.0.0.0:0", allow_remote=False)
    listen_tcp("0.0.0.0:0", allow_remote=True).close()


def test_a_port_in_use_is_refused() -> None:
    with listen_tcp("127.0.0.1:0", allow_remote=False) as first:
        port = first.getsockname()[1]

        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listen_tcp(f"127.0.0.1:{port}", allow_remote=False)


def test_a_model_answers_while_another_ones_client_waits(server: Server) -> None:
    server.load_slow()
    waiting = server.raw()
    waiting.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nX-Request-Timeout-Ms: 300\r\nContent-Length: 5\r\n\r\n")

    assert server.infer("slow", inputs=count_down(1)).status == 200
    waiting.close()
