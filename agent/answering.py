"""Answers requests: what an operator may ask a device. Requests change nothing; only signed documents do."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from edgeferry.agent.inbox import Received
from edgeferry.agent.spool import Spool
from edgeferry.agent.voice import Publisher
from edgeferry.wire.codec import Message, WireError, decode, encode
from edgeferry.wire.messages import Code, Event, Info, Problem, Reason, Request, Response, State
from edgeferry.wire.topics import Topics

__all__ = ["Answerer", "Subjects"]

MAX_EVENTS = 100
ENVELOPE_BYTES = 4096  # of a response around its content


@dataclass(frozen=True, slots=True)
class Subjects:
    """What can be asked for."""

    info: Callable[[], Info]
    state: Callable[[], State]
    spool: Spool
    log_lines: deque[str]


class _Pong(Message, frozen=True):
    ts: int
    boot: str


class _Events(Message, frozen=True):
    events: tuple[Event, ...]
    last_seq: int


class _Lines(Message, frozen=True):
    lines: tuple[str, ...]


class Answerer:
    """Answers ``ping``, ``get`` and ``logs.tail``. Owned by the main loop.

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
        self._reply_prefix = topics.response(device, "")
        self._subjects = subjects
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
        self._reply(message, request, self._result(method, request.parameters, now_ms))

    def _result(self, method: str, parameters: dict[str, Any], now_ms: int) -> Message:
        match method:
            case "ping":
                return _Pong(ts=now_ms, boot=self._subjects.info().boot)
            case "get":
                return self._get(parameters)
            case "logs.tail":
                return _Lines(lines=self._fitting([*self._subjects.log_lines]))
            case _:
                detail = f"{method[:64]!r} is not known; wanted ping, get or logs.tail"
                return _error(Code.UNIMPLEMENTED, Reason.UNKNOWN_METHOD, detail)

    def _get(self, parameters: dict[str, Any]) -> Message:
        match parameters or {"what": "state"}:
            case {"events_after": int(seq)}:
                events = [event for event, _ in zip(self._subjects.spool.after(seq), range(MAX_EVENTS), strict=False)]
                return _Events(events=tuple(events), last_seq=self._subjects.spool.last_seq)
            case {"what": "info"}:
                return self._subjects.info()
            case {"what": "state"}:
                return self._subjects.state()
            case _:
                detail = 'get takes {"what": "state"}, {"what": "info"} or {"events_after": seq}'
                return _error(Code.INVALID_ARGUMENT, Reason.BAD_REQUEST, detail)

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
        if not reply_to.startswith(self._reply_prefix):
            return
        if isinstance(result, Problem):
            response = Response(id=request.id, error=result)
        else:
            response = Response(id=request.id, ok=Raw(encode(result)))
        self._publisher.publish(reply_to, encode(response), qos=1, correlation=message.correlation)


def _error(code: Code, reason: Reason, detail: str) -> Problem:
    return Problem(code=code, reason=reason, detail=detail)
