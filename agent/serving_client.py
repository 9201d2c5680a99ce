"""The agent's way to the serving process: HTTP over its Unix socket, one kept connection per thread.

The standard library's client would bring the e-mail parser along; this reads only what our own server writes.
"""

import contextlib
import hashlib
import math
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from edgeferry.wire.codec import Message, WireError, canonical, decode
from edgeferry.wire.messages import Code, Reason, Swap

__all__ = ["Serve", "ServingClient", "ServingError", "Takeover"]

_MAX_HEAD_BYTES = 16 * 1024
_MAX_BODY_BYTES = 128 * 1024 * 1024
_ANSWER_SLACK_S = 1.0  # the server itself answers at the deadline; this is for the answer's way
_HEADER_LENGTH = "inference-header-content-length"


class ServingError(Exception):
    """The serving process refused, or did not answer.

    Attributes:
        code: What kind of error.
        reason: Why, from the closed list.
        detail: A sentence for the person who reads it.
    """

    def __init__(self, code: Code, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Takeover:
    """How a version took over from the one that its label named before.

    Attributes:
        swap: None where the label named none.
        gap_ms: For how long neither answered.
    """

    swap: Swap | None = None
    gap_ms: int = 0


@dataclass(frozen=True, slots=True)
class Serve:
    """What is to be served.

    Attributes:
        label: What shall name it.
        percent: Share of requests without a version that it answers instead of the stable one.
    """

    model: str
    version: int
    path: Path
    manifest: Path
    label: str
    percent: int = 0


class _Loaded(Message, frozen=True):
    swap: Swap | None = None
    gap_ms: int = 0


class _ErrorBody(Message, frozen=True):
    error: str
    code: Code = Code.UNKNOWN
    reason: Reason = Reason.SERVING_UNAVAILABLE


class _ConnectionLostError(Exception):
    """The kept connection had ended before the server took the request."""


class ServingClient:
    """Speaks to one serving process; any thread may call."""

    def __init__(self, socket_path: Path, timeout_s: float) -> None:
        """Store the parts.

        Args:
            socket_path: Of the serving process.
            timeout_s: For everything but inference, which has its own.
        """
        self._socket_path = socket_path
        self._timeout_s = timeout_s
        self._local = threading.local()

    def load(self, wanted: Serve, *, stops_first: bool = False) -> Takeover:
        """Have the label name the version; return when it does, and how it took over.

        Args:
            wanted: What is to be served.
            stops_first: Whether the version that the label names now is unloaded first, if a version is to be loaded.

        Raises:
            ServingError: It cannot be loaded, or nobody answers; what served before goes on, unless it was stopped.
        """
        body = {
            "version": wanted.version,
            "model": str(wanted.path),
            "manifest": str(wanted.manifest),
            "label": wanted.label,
            "percent": wanted.percent,
            "stops_first": stops_first,
        }
        path = f"/v2/repository/models/{quote(wanted.model, safe='')}/load"
        answer = self._call("POST", path, canonical(body))
        try:
            loaded = decode(_Loaded, answer)
        except WireError as err:
            raise _unavailable(f"the answer to a load cannot be read: {err}") from err
        return Takeover(loaded.swap, loaded.gap_ms)

    def unload(self, model: str, label: str = "") -> None:
        """Have ``label`` of ``model`` name nothing, if there is one; without a label, unload all of its versions.

        Raises:
            ServingError: Nobody answers.
        """
        body = canonical({"label": label} if label else {})
        self._call("POST", f"/v2/repository/models/{quote(model, safe='')}/unload", body)

    def stats(self) -> dict[str, Any]:
        """Return what ``GET /edgeferry/stats`` says; see docs/serving.md.

        Raises:
            ServingError: Nobody answers.
        """
        answer = self._call("GET", "/edgeferry/stats")
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as err:
            raise _unavailable(f"the statistics cannot be read: {err}") from err

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the configuration of a loaded version, as Triton's extension has it; see docs/serving.md.

        Args:
            model: Its name.
            version: A number or a label; empty for the stable one.

        Raises:
            ServingError: It is not loaded, or nobody answers.
        """
        chosen = f"/versions/{quote(version, safe='')}" if version else ""
        answer = self._call("GET", f"/v2/models/{quote(model, safe='')}{chosen}/config")
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as err:
            raise _unavailable(f"the configuration of {model} cannot be read: {err}") from err

    def set_share(self, share: float) -> None:
        """Have models run for no more than ``share`` of the time, above 0 up to 1.

        Raises:
            ServingError: Nobody answers.
        """
        self._call("POST", "/edgeferry/pace", canonical({"share": share}))

    def ping(self) -> None:
        """Return when the server answers.

        Raises:
            ServingError: It does not.
        """
        self._call("GET", "/v2/health/ready")

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
        """Return ``(status, body, header_bytes)`` of the answer, which is an error unless the status is 200.

        Args:
            model: Its name.
            version: A number or a label; empty for the stable one.
            body: JSON, then binary tensors.
            header_bytes: Length of the JSON; None when there is nothing else, in the answer too.
            timeout_s: After this the request is not run, and the answer says so.
            routing_key: Whose request it is, where a part of them goes to a canary; anything.

        Raises:
            ServingError: Nobody answers.
        """
        chosen = f"/versions/{quote(version, safe='')}" if version else ""
        path = f"/v2/models/{quote(model, safe='')}{chosen}/infer"
        headers = {"X-Request-Timeout-Ms": str(max(0, math.floor(timeout_s * 1e3)))}
        if routing_key:
            headers["X-Routing-Key"] = _header_text(routing_key)
        if header_bytes:
            headers["Inference-Header-Content-Length"] = str(header_bytes)
        status, answer_headers, answer = self._exchange("POST", path, body, headers, timeout_s + _ANSWER_SLACK_S)
        return status, answer, int(answer_headers[_HEADER_LENGTH]) if _HEADER_LENGTH in answer_headers else None

    def close(self) -> None:
        """End this thread's connection."""
        connection: _ClientConnection | None = getattr(self._local, "connection", None)
        if connection:
            connection.close()
            self._local.connection = None

    def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        status, _, answer = self._exchange(method, path, body, {}, self._timeout_s)
        if status == 200:
            return answer
        try:
            error = decode(_ErrorBody, answer)
        except WireError as err:
            raise _unavailable(f"{method} {path}: status {status} and no reason") from err
        raise ServingError(error.code, error.reason, error.error)

    def _exchange(
        self, method: str, path: str, body: bytes | memoryview, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        deadline_s = time.monotonic() + timeout_s
        try:
            return self._attempt(head, body, deadline_s)
        except TimeoutError as err:
            self.close()
            detail = f"the serving process gave no answer within {timeout_s:g} s"
            raise ServingError(Code.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED, detail) from err
        except (OSError, ValueError, _ConnectionLostError) as err:
            self.close()
            raise _unavailable(f"the serving process does not answer: {err}") from err

    def _attempt(self, head: bytes, body: bytes | memoryview, deadline_s: float) -> tuple[int, dict[str, str], bytes]:
        kept: _ClientConnection | None = getattr(self._local, "connection", None)
        if kept:
            try:
                return kept.exchange(head, body, deadline_s)
            except _ConnectionLostError:  # it was idle for too long, or the server was restarted: that is no failure
                self.close()
        fresh = _ClientConnection(self._socket_path)
        self._local.connection = fresh
        fresh.open(deadline_s)
        return fresh.exchange(head, body, deadline_s)


class _ClientConnection:
    """One connection, used by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = bytearray()

    def open(self, deadline_s: float) -> None:
        self._set_timeout(deadline_s)
        self._socket.connect(str(self._path))

    def close(self) -> None:
        self._socket.close()

    def exchange(self, head: bytes, body: bytes | memoryview, deadline_s: float) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return status, header fields in lower case, and body of the answer."""
        try:
            with contextlib.suppress(BrokenPipeError):  # it may have answered before it had taken all of the request
                self._send(head, body, deadline_s)
            first = self._receive(deadline_s)
        except ConnectionResetError as err:
            raise _ConnectionLostError(str(err)) from err
        if not first:
            raise _ConnectionLostError("it ended the connection")
        self._buffer += first
        status, headers = _parse_answer(self._read_head(deadline_s))
        return status, headers, self._read_body(int(headers["content-length"]), deadline_s)

    def _send(self, head: bytes, body: bytes | memoryview, deadline_s: float) -> None:
        self._set_timeout(deadline_s)
        sent = self._socket.sendmsg([head, body])
        if sent < len(head) + len(body):
            self._socket.sendall(memoryview(b"".join((head, body)))[sent:])

    def _read_head(self, deadline_s: float) -> bytes:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise ValueError(f"its answer's head is longer than {_MAX_HEAD_BYTES} bytes")
            self._buffer += self._receive_some(deadline_s)
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    def _read_body(self, size: int, deadline_s: float) -> bytes:
        if not 0 <= size <= _MAX_BODY_BYTES:
            raise ValueError(f"its answer has {size} bytes, allowed are {_MAX_BODY_BYTES}")
        while len(self._buffer) < size:
            self._buffer += self._receive_some(deadline_s)
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        return body

    def _receive_some(self, deadline_s: float) -> bytes:
        data = self._receive(deadline_s)
        if not data:
            raise ConnectionAbortedError("it ended in the middle of an answer")
        return data

    def _receive(self, deadline_s: float) -> bytes:
        self._set_timeout(deadline_s)
        return self._socket.recv(256 * 1024)

    def _set_timeout(self, deadline_s: float) -> None:
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining_s)


def _parse_answer(head: bytes) -> tuple[int, dict[str, str]]:
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" not in headers:
        raise ValueError("its answer has no Content-Length")
    return int(status_line[9:12]), headers  # after "HTTP/1.1 "


def _header_text(key: str) -> str:
    """Return ``key`` as a header field holds it: what is long or not plain by its hash, which sticks as well."""
    is_plain = key.isascii() and key.isprintable() and len(key) <= 128 and key == key.strip()
    return key if is_plain else hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _unavailable(detail: str) -> ServingError:
    return ServingError(Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE, detail)
