"""Header fields that several protocols share: numbers, and how long an answer is of use."""

import time
from collections.abc import Mapping

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.invocation import Deadline
from edgeferry.agent.serving.stats import Durations

__all__ = ["ROUTING_KEY", "deadline_of", "number_of", "server_timing"]

ROUTING_KEY = "x-routing-key"  # over gRPC as metadata of that name

_MAX_TIMEOUT_MS = 3_600_000


def deadline_of(headers: Mapping[str, str], default_s: float) -> Deadline:
    """Return until when the answer is of use: ``X-Request-Timeout-Ms`` from now, or ``default_s``.

    Raises:
        RequestError: The field is not a whole number.
    """
    timeout_ms = number_of(headers, "X-Request-Timeout-Ms")
    timeout_s = default_s if timeout_ms is None else min(timeout_ms, _MAX_TIMEOUT_MS) / 1e3
    return Deadline(time.monotonic() + timeout_s, is_patient=timeout_s >= default_s)


def number_of(headers: Mapping[str, str], name: str) -> int | None:
    """Return the whole number in the field ``name``, or None where there is no such field.

    Raises:
        RequestError: It is something else.
    """
    text = headers.get(name.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise RequestError.bad(f"header {name}: {text[:40]!r} is not a whole number")
    return int(text)


def server_timing(durations: Durations) -> dict[str, str]:
    """Return the field that says where the time went, in milliseconds."""
    spent = durations.by_name().items()
    return {"Server-Timing": ", ".join(f"{name.removesuffix('_s')};dur={spent_s * 1e3:.3f}" for name, spent_s in spent)}
