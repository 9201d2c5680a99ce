"""Inference over MQTT: passes requests from the broker to the serving process and its answers back.

The bodies are those of the Open Inference Protocol and are not looked into, but for the return address that MQTT
3.1.1 has no place for. A few threads do it; what they cannot take at once is refused, so memory stays bounded.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from edgeferry.agent.answering import fitting, is_reply_topic
from edgeferry.agent.inbox import Received
from edgeferry.agent.serving_client import ServingError
from edgeferry.wire.codec import Message, WireError, decode, encode
from edgeferry.wire.messages import Code, DeadlineMs, Problem, Reason, RequestId, Response
from edgeferry.wire.tensors import pack_mqtt, unpack_mqtt
from edgeferry.wire.topics import Topics

__all__ = ["Bridge", "Inference", "Responder"]

logger = logging.getLogger(__name__)

THREADS = 2
CAPACITY = 32
DEFAULT_TIMEOUT_S = 30.0
MAX_HEADER_BYTES = 1 << 20


class Inference(Protocol):
    """The serving process, as `ServingClient` speaks to it."""

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
        """Return HTTP status, body, and the JSON header's length in it (None when all of it is JSON).

        Raises:
            ServingError: Nobody answers.
        """


class Responder(Protocol):
    """Where answers go; `Connection` is one."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, correlation: bytes = b"") -> int | None:
        """Return the number of the message, or None when it was not taken."""


@dataclass(frozen=True, slots=True)
class _Address:
    """Whom to answer, and until when."""

    topic: str
    correlation: bytes
    id: str
    deadline_ms: int


class _Parameters(Message, frozen=True):
    reply_to: str = ""
    id: RequestId = ""
    deadline_ms: DeadlineMs = 0


class _Header(Message, frozen=True):
    id: RequestId = ""
    parameters: _Parameters = _Parameters()


class _Refusal(Message, frozen=True):
    """What the serving process says instead of outputs."""

    error: str
    code: Code = Code.UNKNOWN
    reason: Reason = Reason.BAD_REQUEST


class Bridge:
    """Takes inference messages from the network thread, answers them from threads of its own.

    Args:
        inference: The serving process; one call per thread at a time.
        responder: Where answers go.
        topics: Of this fleet.
        device: Our id: answers go below its own topics only.
        now_ms: Tells the unix time.
        max_packet_bytes: The largest message that the broker passes on.
    """

    def __init__(
        self,
        inference: Inference,
        responder: Responder,
        topics: Topics,
        device: str,
        *,
        now_ms: Callable[[], int],
        max_packet_bytes: int,
    ) -> None:
        self._inference = inference
        self._responder = responder
        self._topics = topics
        self._device = device
        self._now_ms = now_ms
        self._max_packet_bytes = max_packet_bytes
        self._queue: queue.Queue[Received | None] = queue.Queue(CAPACITY)
        self._threads = [threading.Thread(target=self._run, name=f"inference-{i}", daemon=True) for i in range(THREADS)]

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Let the running requests end, for at most ``timeout_s``."""
        ends_s = time.monotonic() + timeout_s
        for _ in self._threads:
            try:
                self._queue.put(None, timeout=max(ends_s - time.monotonic(), 0.01))
            except queue.Full:
                return
        for thread in self._threads:
            thread.join(max(ends_s - time.monotonic(), 0.01))

    @property
    def is_alive(self) -> bool:
        """Whether every thread lives."""
        return all(thread.is_alive() for thread in self._threads)

    def offer(self, message: Received) -> None:
        """Take a request, or refuse it at once when too many are waiting."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            self._refuse(message, Code.RESOURCE_EXHAUSTED, Reason.BUSY, f"{CAPACITY} requests are waiting; slow down")

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                self._serve_or_refuse(message)
            except Exception:  # the thread's outermost frame: no message may end it, not even one that none can answer
                logger.exception("an inference request on %r was left without an answer", message.topic[:200])

    def _serve_or_refuse(self, message: Received) -> None:
        try:
            self._serve(message)
        except WireError as err:
            self._refuse(message, Code.INVALID_ARGUMENT, Reason.BAD_REQUEST, str(err))
        except Exception:  # a mistake of ours: whoever asked is told, the others go on
            logger.exception("an inference request on %r failed", message.topic[:200])
            detail = "internal error; see the log of the agent"
            self._refuse(message, Code.INTERNAL, Reason.SERVING_UNAVAILABLE, detail)

    def _serve(self, message: Received) -> None:
        topic = self._topics.parse(message.topic)
        body, header_bytes = _body_of(message)
        address = self._address_of(message, body, header_bytes)
        left_s = (address.deadline_ms - self._now_ms()) / 1000 if address.deadline_ms else DEFAULT_TIMEOUT_S
        if left_s <= 0:
            self._answer_problem(address, Code.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED, "it came too late to be run")
            return
        try:
            status, answer, answer_header = self._inference.infer(
                topic.name,
                topic.version,
                body,
                header_bytes,
                min(left_s, DEFAULT_TIMEOUT_S),
                routing_key=message.routing_key,
            )
        except ServingError as err:
            self._answer_problem(address, err.code, err.reason, err.detail)
            return
        if status == 200:
            self._answer(address, pack_mqtt(answer, answer_header) if answer_header else answer)
        else:
            refusal = decode(_Refusal, answer, max_bytes=MAX_HEADER_BYTES)
            self._answer_problem(address, refusal.code, refusal.reason, refusal.error)

    def _address_of(self, message: Received, body: bytes | memoryview, header_bytes: int | None) -> _Address:
        address = self._given_address(message, body, header_bytes)
        if not message.topic.startswith(f"{self._topics.root}/g/"):
            return address
        # Who asks a group does not know which device will answer; the client alone counts in its topic.
        client = self._topics.parse(address.topic).name
        return replace(address, topic=self._topics.response(self._device, client))

    def _given_address(self, message: Received, body: bytes | memoryview, header_bytes: int | None) -> _Address:
        if message.reply_to:
            return _Address(message.reply_to, message.correlation, "", message.deadline_ms)
        json = bytes(body[:header_bytes] if header_bytes else body)
        header = decode(_Header, json, max_bytes=max(MAX_HEADER_BYTES, self._max_packet_bytes))
        parameters = header.parameters
        return _Address(parameters.reply_to, b"", parameters.id or header.id, parameters.deadline_ms)

    def _refuse(self, message: Received, code: Code, reason: Reason, detail: str) -> None:
        try:
            address = self._address_of(message, *_body_of(message))
        except WireError:
            address = _Address(message.reply_to, message.correlation, "", 0)
        logger.info("refused an inference request: %s", detail)
        self._answer_problem(address, code, reason, detail)

    def _answer_problem(self, address: _Address, code: Code, reason: Reason, detail: str) -> None:
        problem = Problem(code=code, reason=reason, detail=detail)
        self._answer(address, encode(Response(id=address.id, error=problem)))

    def _answer(self, address: _Address, payload: bytes) -> None:
        if not is_reply_topic(self._topics, self._device, address.topic):
            logger.warning("refused to answer on %r: not a topic for answers of this device", address.topic[:200])
            return
        message = fitting(payload, address.id, address.topic, address.correlation, self._max_packet_bytes)
        if message is None:
            return
        if self._responder.publish(address.topic, message, qos=1, correlation=address.correlation) is None:
            logger.warning("an inference answer was not taken by the connection")


def _body_of(message: Received) -> tuple[bytes | memoryview, int | None]:
    """Return a request's body and the length of its JSON header; None when all of it is JSON."""
    return unpack_mqtt(message.payload) or (message.payload, None)
