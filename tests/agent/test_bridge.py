"""Inference over MQTT: from the broker to a simulated serving process and back."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from edgeferry.agent.bridge import CAPACITY, DEFAULT_TIMEOUT_S, Bridge
from edgeferry.agent.inbox import Received
from edgeferry.agent.serving_client import ServingError
from edgeferry.wire.messages import Code, Reason
from edgeferry.wire.tensors import pack_mqtt, unpack_mqtt

from .simulated import DEVICE, MODEL, TOPICS
from .waiting import wait_until

NOW_MS = 1_000_000
REPLY_TO = TOPICS.response(DEVICE, "app")
TOPIC = TOPICS.infer(DEVICE, MODEL)
BODY = b'{"inputs":[]}'


@dataclass(frozen=True)
class Call:
    """A request as the serving process got it."""

    model: str
    version: str
    body: bytes
    header_bytes: int | None
    timeout_s: float
    routing_key: str = ""


@dataclass
class SimulatedServing:
    """Answers every request with ``answer``, or raises it.

    Attributes:
        gate: Requests wait until it is open.
    """

    answer: tuple[int, bytes, int | None] | Exception = (200, b'{"outputs":[]}', None)
    calls: list[Call] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def infer(
        self,
        model: str,
        version: str,
        body: bytes | memoryview,
        header_bytes: int | None,
        timeout_s: float,
        *,
        routing_key: str = "",
    ) -> tuple[int, bytes, int | None]:
        self.calls.append(Call(model, version, bytes(body), header_bytes, timeout_s, routing_key))
        assert self.gate.wait(30)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass(frozen=True)
class Answer:
    """What came back on MQTT."""

    topic: str
    payload: bytes
    qos: int
    correlation: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = msgspec.json.decode(self.payload)["error"]
        return error


class Client:
    """An application on the other side of the broker."""

    def __init__(self, max_packet_bytes: int = 128 * 1024) -> None:
        self.serving = SimulatedServing()
        self.serving.gate.set()
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.is_open = True
        self.is_broken = False
        self.bridge = Bridge(
            self.serving, self, TOPICS, DEVICE, now_ms=lambda: NOW_MS, max_packet_bytes=max_packet_bytes
        )

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, correlation: bytes = b"") -> int | None:
        if self.is_broken:
            raise ValueError(topic)
        self.answers.put(Answer(topic, payload, qos, correlation))
        return 1 if self.is_open else None

    def ask(self, payload: bytes = BODY, topic: str = TOPIC, **fields: Any) -> Answer:
        self.bridge.offer(Received(topic, payload, **({"reply_to": REPLY_TO} | fields)))
        return self.answers.get(timeout=10)


@pytest.fixture
def make_client() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(**options: int) -> Client:
        made.append(Client(**options))
        made[-1].bridge.start()
        return made[-1]

    yield make
    for client in made:
        client.serving.gate.set()
        client.bridge.stop(10.0)
        assert not client.bridge.is_alive


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


class TestPassing:
    def test_a_request_in_json_is_answered_in_json(self, client: Client) -> None:
        assert client.ask().payload == b'{"outputs":[]}'
        assert client.serving.calls == [Call(MODEL, "", BODY, None, DEFAULT_TIMEOUT_S)]

    def test_a_binary_request_is_answered_in_binary(self, client: Client) -> None:
        client.serving.answer = (200, b'{"outputs":[]}\x01\x02', 14)

        answer = client.ask(pack_mqtt(BODY + b"\x03\x04", len(BODY)))

        parts = unpack_mqtt(answer.payload)
        assert parts is not None
        assert (bytes(parts[0]), parts[1]) == (b'{"outputs":[]}\x01\x02', 14)
        assert client.serving.calls[0].body == BODY + b"\x03\x04"
        assert client.serving.calls[0].header_bytes == len(BODY)

    def test_a_version_or_label_is_passed_on(self, client: Client) -> None:
        client.ask(topic=TOPICS.infer(DEVICE, MODEL, "canary"))

        assert client.serving.calls[0].version == "canary"

    def test_asked_as_one_of_a_group_it_answers_on_a_topic_of_its_own(self, client: Client) -> None:
        asked = TOPICS.response("kitchens", "app")

        answer = client.ask(topic=TOPICS.infer_group("kitchens", MODEL), reply_to=asked)

        assert answer.topic == TOPICS.response(DEVICE, "app")
        assert client.serving.calls[0].model == MODEL

    def test_whose_request_it_is_is_passed_on(self, client: Client) -> None:
        client.ask(routing_key="user-7")

        assert client.serving.calls[0].routing_key == "user-7"

    def test_the_answer_carries_the_correlation(self, client: Client) -> None:
        answer = client.ask(correlation=b"\x07")

        assert (answer.topic, answer.qos, answer.correlation) == (REPLY_TO, 1, b"\x07")

    def test_mqtt_3_has_the_address_in_the_parameters(self, client: Client) -> None:
        body = msgspec.json.encode({"inputs": [], "parameters": {"reply_to": REPLY_TO, "deadline_ms": NOW_MS + 2000}})

        assert client.ask(body, reply_to="").topic == REPLY_TO
        assert client.serving.calls[0].timeout_s == 2.0

    def test_mqtt_3_has_the_address_in_the_header_of_a_binary_body(self, client: Client) -> None:
        header = msgspec.json.encode({"inputs": [], "parameters": {"reply_to": REPLY_TO}})

        assert client.ask(pack_mqtt(header + b"\x01", len(header)), reply_to="").topic == REPLY_TO

    def test_the_deadline_of_mqtt_5_limits_the_time(self, client: Client) -> None:
        client.ask(deadline_ms=NOW_MS + 500)

        assert client.serving.calls[0].timeout_s == 0.5


class TestRefusals:
    def test_a_request_after_its_deadline_is_not_run(self, client: Client) -> None:
        assert client.ask(deadline_ms=NOW_MS).error["reason"] == "DEADLINE_PASSED"
        assert client.serving.calls == []

    def test_what_the_serving_process_refuses_is_passed_on(self, client: Client) -> None:
        client.serving.answer = (404, b'{"error":"no such model","code":"NOT_FOUND","reason":"UNKNOWN_MODEL"}', None)

        assert client.ask().error == {"code": "NOT_FOUND", "reason": "UNKNOWN_MODEL", "detail": "no such model"}

    def test_a_refusal_carries_the_id_of_mqtt_3(self, client: Client) -> None:
        client.serving.answer = (404, b'{"error":"no such model"}', None)
        body = msgspec.json.encode({"inputs": [], "id": "9", "parameters": {"reply_to": REPLY_TO}})

        answer = client.ask(body, reply_to="")

        assert msgspec.json.decode(answer.payload)["id"] == "9"

    def test_a_serving_process_that_does_not_answer_is_told(self, client: Client) -> None:
        client.serving.answer = ServingError(Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE, "it is being started")

        assert client.ask().error["reason"] == "SERVING_UNAVAILABLE"

    @pytest.mark.parametrize("payload", [b"\0\0", b"\0\0\0\x09{}"])
    def test_garbage_is_refused(self, client: Client, payload: bytes) -> None:
        assert client.ask(payload).error["reason"] == "BAD_REQUEST"

    def test_a_topic_that_is_none_of_ours_is_refused(self, client: Client) -> None:
        assert client.ask(topic="elsewhere").error["reason"] == "BAD_REQUEST"

    def test_a_refusal_that_cannot_be_read_is_still_an_answer(self, client: Client) -> None:
        client.serving.answer = (500, b"oops", None)

        assert client.ask().error["reason"] == "BAD_REQUEST"

    def test_an_answer_over_the_packet_limit_says_so_in_its_place(self, make_client: Callable[..., Client]) -> None:
        client = make_client(max_packet_bytes=1000)
        client.serving.answer = (200, b"x" * 1001, None)

        assert client.ask().error["reason"] == "TOO_LARGE"

    def test_a_binary_answer_over_the_packet_limit_with_its_length_says_so(
        self, make_client: Callable[..., Client]
    ) -> None:
        client = make_client(max_packet_bytes=1000)
        client.serving.answer = (200, b"x" * 998, 10)

        assert client.ask().error["reason"] == "TOO_LARGE"

    def test_topic_and_correlation_count_as_a_part_of_the_message(self, make_client: Callable[..., Client]) -> None:
        client = make_client(max_packet_bytes=1000)
        client.serving.answer = (200, b"x" * 600, None)

        assert client.ask(correlation=b"y" * 400).error["reason"] == "TOO_LARGE"

    def test_nothing_is_said_when_not_even_the_error_fits(
        self, make_client: Callable[..., Client], caplog: pytest.LogCaptureFixture
    ) -> None:
        client = make_client(max_packet_bytes=1000)

        client.bridge.offer(Received(TOPIC, BODY, REPLY_TO, correlation=b"y" * 1000))

        assert client.ask().payload == b'{"outputs":[]}'
        wait_until(lambda: "the address alone has" in caplog.text, "the log")
        assert client.answers.empty()

    @pytest.mark.parametrize("reply_to", [TOPICS.response("another", "app"), TOPICS.response(DEVICE, "#"), "elsewhere"])
    def test_nothing_is_said_on_topics_that_are_not_for_answers_of_this_device(
        self, client: Client, reply_to: str
    ) -> None:
        client.bridge.offer(Received(TOPIC, BODY, reply_to))

        assert client.ask().topic == REPLY_TO
        assert client.answers.empty()

    def test_garbage_without_an_address_is_in_the_log(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        client.bridge.offer(Received(TOPIC, b"garbage"))
        client.ask()

        wait_until(lambda: "refused to answer on ''" in caplog.text, "the log")

    def test_an_answer_that_is_not_taken_is_in_the_log(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        client.is_open = False
        client.ask()

        wait_until(lambda: "not taken by the connection" in caplog.text, "the log")


class TestEndurance:
    """Two messages that end a thread each would end all inference over MQTT."""

    @pytest.mark.parametrize("deadline_ms", [b"-1", b"9" * 400])
    def test_a_deadline_that_is_no_time_is_refused(
        self, client: Client, deadline_ms: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        body = b'{"parameters":{"reply_to":"%s","deadline_ms":%s}}' % (REPLY_TO.encode(), deadline_ms)
        for _ in range(4):
            client.bridge.offer(Received(TOPIC, body))

        assert client.ask().payload == b'{"outputs":[]}'
        wait_until(lambda: caplog.text.count("refused an inference request") == 4, "all refusals")
        assert client.bridge.is_alive
        assert len(client.serving.calls) == 1

    def test_a_long_id_is_refused(self, client: Client) -> None:
        body = msgspec.json.encode({"id": "x" * 129, "parameters": {"reply_to": REPLY_TO}})

        client.bridge.offer(Received(TOPIC, body))

        assert client.ask().payload == b'{"outputs":[]}'
        assert client.answers.empty()

    def test_a_mistake_of_ours_is_told_and_logged_and_ends_no_thread(
        self, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.serving.answer = ZeroDivisionError("invented")

        codes = [client.ask().error["code"] for _ in range(4)]

        assert codes == ["INTERNAL"] * 4
        assert "ZeroDivisionError: invented" in caplog.text
        assert client.bridge.is_alive

    def test_a_responder_that_fails_ends_no_thread(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        client.is_broken = True
        for _ in range(4):
            client.bridge.offer(Received(TOPIC, BODY, REPLY_TO))
        wait_until(lambda: caplog.text.count("left without an answer") == 4, "the log")

        client.is_broken = False

        assert client.ask().payload == b'{"outputs":[]}'
        assert client.bridge.is_alive


class TestCrowds:
    @pytest.mark.parametrize("is_mqtt_5", [True, False])
    def test_what_cannot_be_taken_at_once_is_refused_at_once(self, client: Client, *, is_mqtt_5: bool) -> None:
        client.serving.gate.clear()
        address = {"reply_to": "" if is_mqtt_5 else REPLY_TO, "id": "late"}
        body = msgspec.json.encode({"inputs": [], "parameters": address})
        reply_to = REPLY_TO if is_mqtt_5 else ""
        for _ in range(2):
            client.bridge.offer(Received(TOPIC, BODY, REPLY_TO))
        wait_until(lambda: len(client.serving.calls) == 2, "both threads to be busy")

        for _ in range(CAPACITY):
            client.bridge.offer(Received(TOPIC, BODY, REPLY_TO))
        client.bridge.offer(Received(TOPIC, body, reply_to))

        refused = client.answers.get(timeout=1)
        assert (refused.topic, refused.error["reason"]) == (REPLY_TO, "BUSY")

    def test_requests_run_side_by_side(self, client: Client) -> None:
        client.serving.gate.clear()
        for _ in range(2):
            client.bridge.offer(Received(TOPIC, BODY, REPLY_TO))

        wait_until(lambda: len(client.serving.calls) == 2, "the second request to run beside the first")

    def test_a_bridge_that_cannot_take_the_word_to_stop_is_left_behind_in_time(
        self, make_client: Callable[..., Client]
    ) -> None:
        client = make_client()
        client.serving.gate.clear()
        for _ in range(2):
            client.bridge.offer(Received(TOPIC, BODY, REPLY_TO))
        wait_until(lambda: len(client.serving.calls) == 2, "both threads to be busy")
        for _ in range(CAPACITY):
            client.bridge.offer(Received(TOPIC, BODY, REPLY_TO))

        client.bridge.stop(0.05)

        assert client.bridge.is_alive
