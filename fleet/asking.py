"""Asking a device and waiting for its answer: MQTT 5's response topic and correlation, or the body's own fields."""

import math
import secrets
import time
from collections.abc import Mapping
from typing import Any

from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.operator import Operator, Received
from edgeferry.wire.codec import WireError, decode, encode
from edgeferry.wire.messages import Request, Response
from edgeferry.wire.topics import Topics

__all__ = ["ask"]


def ask(
    operator: Operator,
    topics: Topics,
    device: str,
    method: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> Response:
    """Ask ``device`` for ``method`` and return its answer; other messages that come meanwhile are dropped.

    Raises:
        FleetError: There was no answer in time, or it is none.
    """
    reply_to = topics.response(device, operator.client_id)
    request_id = secrets.token_hex(8)
    operator.subscribe(reply_to)
    operator.publish(
        topics.request(device, method),
        encode(_request(operator, request_id, reply_to, parameters or {}, timeout_s)),
        qos=1,
        response_topic=reply_to,
        correlation=request_id.encode(),
        expiry_s=math.ceil(timeout_s),
    )
    for message in operator.received_within(timeout_s):
        if isinstance(message, Received) and message.topic == reply_to:
            answer = _answer(message, device)
            if request_id in (message.correlation.decode(errors="replace"), answer.id):
                return answer
    raise FleetError(f"{device} did not answer {method} within {timeout_s:g} s; see `edgeferry devices`")


def _request(
    operator: Operator, request_id: str, reply_to: str, parameters: Mapping[str, Any], timeout_s: float
) -> Request:
    if operator.speaks_mqtt5:
        return Request(parameters=dict(parameters))
    deadline_ms = int((time.time() + timeout_s) * 1000)
    return Request(id=request_id, reply_to=reply_to, deadline_ms=deadline_ms, parameters=dict(parameters))


def _answer(message: Received, device: str) -> Response:
    try:
        return decode(Response, message.payload)
    except WireError as err:
        raise FleetError(f"{device} answered with something else: {err}") from err
