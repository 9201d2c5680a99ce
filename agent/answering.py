"""Answers requests: what an operator may ask a device. Requests change nothing; only signed documents do."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec import Raw

from edgeferry.agent.bench import Bench
from edgeferry.agent.inbox import Received
from edgeferry.agent.spool import Spool
from edgeferry.agent.voice import Publisher
from edgeferry.wire.codec import Message, WireError, decode, encode
from edgeferry.wire.messages import Code, Event, Info, Problem, Reason, Request, Response, State
from edgeferry.wire.topics import TopicKind, Topics

__all__ = ["Answerer", "Subjects", "fitting", "is_reply_topic"]

logger = logging.getLogger(__name__)

MAX_EVENTS = 100
ENVELOPE_BYTES = 4096  # of a response around its content
PACKET_MARGIN_BYTES = 64  # of a PUBLISH beside topic, correlation and payload: header, id, lengths (MQTT 5, 3.3)


@dataclass(frozen=True, slots=True)
class Subjects:
    """What can be asked for."""

    info: Callable[[], Info]
    state: Callable[[], State]
    spool: Spool
    log_lines: deque[str]
    bench: Bench


def is_reply_topic(topics: Topics, device: str, topic: str) -> bool:
    """Tell whether ``device`` may answer on ``topic``, which came from outside: only on one of its own for answers."""
    try:
        parsed = topics.parse(topic)
    except WireError:
        return False
    return parsed.kind is TopicKind.RESPONSE and parsed.owner == device


def fitting(answer: bytes, request_id: str, topic: str, correlation: bytes, max_packet_bytes: int) -> bytes | None:
    """Return ``answer``, or an error in its place when the message would be larger than ``max_packet_bytes``.

    None when not even the error fits: topic and correlation come from outside, and a broker ends the connection of
    whoever says too much.
    """
    around_bytes = len(topic.encode()) + len(correlation) + PACKET_MARGIN_BYTES
    if around_bytes + len(answer) <= max_packet_bytes:
        return answer
    found = f"the answer has {len(answer)} bytes and {around_bytes} around it, the broker passes on {max_packet_bytes}"
    detail = f"{found}; ask for less, or use REST"
    error = encode(_response(request_id, _error(Code.OUT_OF_RANGE, Reason.TOO_LARGE, detail)))
    if around_bytes + len(error) <= max_packet_bytes:
        return error
    logger.warning("refused to answer on %r: the address alone has %d bytes", topic[:200], around_bytes)
    return None


class _Pong(Message, frozen=True):
    ts: int
    boot: str


class _Events(Message, frozen=True):
    events: tuple[Event, ...]
    last_seq: int


class _Lines(Message, frozen=True):
    lines: tuple[str, ...]


class Answerer:
    """Answers ``ping``, ``get``, ``logs.tail`` and ``bench``. Owned by the main loop.

    Args:
        publisher: Where answers go.
        topics: Of this fleet.
        device: Our id: answers go below its own topics only.
        subjects: What can be asked for.
        max_packet_bytes: The largest message that the broker passes on.
    """

    def __init__(
        self, publisher: Publisher, topics: Topics, device: str, subjects: Subjects, max_packet_bytes: int
    ) -> None:
        self._publisher = publisher
        self._topics = topics
        self._device = device
        self._subjects = subjects
        self._max_packet_bytes = max_packet_bytes
        self._room_bytes = max_packet_bytes - ENVELOPE_BYTES

    def answer(self, method: str, message: Received, now_ms: int) -> None:
        """Answer a request, unless it says too little to be answered."""
        try:
            request = decode(Request, message.payload) if message.payload else Request()
        except WireError as err:
            self._reply(message, Request(), _error(Code.INVALID_ARGUMENT, Reason.BAD_REQUEST, str(err)))
            return
        deadline_ms = request.deadline_ms or message.deadline_ms
        if deadline_ms and deadline_ms < now_ms:
            self._reply(message, request, _error(Code.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED, "it came too late"))
            return
        reply = partial(self._reply, message, request)
        if method == "bench":
            result: Message | None = self._subjects.bench.begin(request.parameters, reply)
        else:
            result = self._result(method, request.parameters, now_ms)
        if result is not None:
            reply(result)

    def _result(self, method: str, parameters: dict[str, Any], now_ms: int) -> Message:
        match method:
            case "ping":
                return _Pong(ts=now_ms, boot=self._subjects.info().boot)
            case "get":
                return self._get(parameters)
            case "logs.tail":
                return _Lines(lines=self._fitting([*self._subjects.log_lines]))
            case _:
                detail = f"{method[:64]!r} is not known; wanted ping, get, logs.tail or bench"
                return _error(Code.UNIMPLEMENTED, Reason.UNKNOWN_METHOD, detail)

    def _get(self, parameters: dict[str, Any]) -> Message:
        match parameters or {"what": "state"}:
            case {"events_after": int(seq)}:
                return _Events(events=self._events_after(seq), last_seq=self._subjects.spool.last_seq)
            case {"what": "info"}:
                return self._subjects.info()
            case {"what": "state"}:
                return self._subjects.state()
            case _:
                detail = 'get takes {"what": "state"}, {"what": "info"} or {"events_after": seq}'
                return _error(Code.INVALID_ARGUMENT, Reason.BAD_REQUEST, detail)

    def _events_after(self, seq: int) -> tuple[Event, ...]:
        """Return the first events after ``seq`` that fit into one message."""
        events: list[Event] = []
        room = self._room_bytes
        for event in self._subjects.spool.after(seq):
            room -= len(encode(event)) + 1
            if room < 0 or len(events) == MAX_EVENTS:
                break
            events.append(event)
        return tuple(events)

    def _fitting(self, lines: list[str]) -> tuple[str, ...]:
        """Return the last lines that fit into one message."""
        room = self._room_bytes
        for count, line in enumerate(reversed(lines)):
            room -= len(encode(_Lines(lines=(line,))))
            if room < 0:
                return tuple(lines[len(lines) - count :])
        return tuple(lines)

    def _reply(self, message: Received, request: Request, result: Message) -> None:
        reply_to = request.reply_to or message.reply_to
        if not is_reply_topic(self._topics, self._device, reply_to):
            return
        answer = encode(_response(request.id, result))
        payload = fitting(answer, request.id, reply_to, message.correlation, self._max_packet_bytes)
        if payload is not None:
            self._publisher.publish(reply_to, payload, qos=1, correlation=message.correlation)


def _response(request_id: str, result: Message) -> Response:
    if isinstance(result, Problem):
        return Response(id=request_id, error=result)
    return Response(id=request_id, ok=Raw(encode(result)))


def _error(code: Code, reason: Reason, detail: str) -> Problem:
    return Problem(code=code, reason=reason, detail=detail)
