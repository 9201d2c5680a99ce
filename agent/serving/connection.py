"""One client's connection: reads requests and writes answers, every step with a deadline."""

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeferry.agent.serving.http_message import MAX_HEAD_BYTES, Head, HttpError, Response, encode_head, parse_head

if TYPE_CHECKING:
    import ssl  # loaded by who makes a context: 3 MiB that most devices do without

__all__ = ["Connection", "Limits"]

_CHUNK_BYTES = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take.

    Attributes:
        connections: Open at the same time, over all listeners.
        body_bytes: Of one request.
        bodies_bytes: Of all requests that are being read or answered.
        header_timeout_s: From the first byte of a head to its last.
        idle_timeout_s: From an answer to the next request.
        body_timeout_s: From the first byte of a body to its last, and the same for an answer.
    """

    connections: int = 256
    body_bytes: int = 64 * 1024 * 1024
    bodies_bytes: int = 128 * 1024 * 1024
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    body_timeout_s: float = 30.0


class Connection:
    """A client's connection; owned by the thread that serves it, but anybody may ``abort`` it."""

    def __init__(self, sock: socket.socket, limits: Limits, tls: "ssl.SSLContext | None" = None) -> None:
        self._socket = sock
        self._limits = limits
        self._tls = tls
        self._buffer = bytearray()

    def start(self) -> None:
        """Agree with the client on the encryption, where there is one.

        Raises:
            OSError: They do not agree, or not in time.
        """
        if not self._tls:
            return
        self._socket.settimeout(self._limits.header_timeout_s)
        self._socket = self._tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        deadline = time.monotonic() + self._limits.header_timeout_s
        self._set_timeout(deadline)
        self._socket.do_handshake()

    def read_head(self) -> Head | None:
        """Return the next request's head, or None when the client has gone or said nothing for too long.

        Raises:
            HttpError: It is malformed, too long or too slow.
            OSError: The connection broke.
        """
        started = len(self._buffer) > 0
        deadline = time.monotonic() + (self._limits.header_timeout_s if started else self._limits.idle_timeout_s)
        while (end := self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)) < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise HttpError(431, f"the head is longer than {MAX_HEAD_BYTES} bytes")
            try:
                chunk = self._receive(deadline)
            except TimeoutError:
                if not started:
                    return None
                raise HttpError(408, f"no whole head within {self._limits.header_timeout_s:g} s") from None
            if not chunk:
                return None
            if not started:
                started = True
                deadline = time.monotonic() + self._limits.header_timeout_s
            self._buffer += chunk
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return parse_head(head)

    def read_body(self, head: Head) -> bytearray:
        """Return the body that belongs to ``head``.

        Raises:
            HttpError: It is too slow, or ends too early.
            OSError: The connection broke.
        """
        size = head.content_length
        deadline = time.monotonic() + self._limits.body_timeout_s
        if head.expects_continue and size > len(self._buffer):
            self._send(_CONTINUE, deadline)
        body = bytearray(size)
        done = min(size, len(self._buffer))
        body[:done] = self._buffer[:done]
        del self._buffer[:done]
        with memoryview(body) as view:
            while done < size:
                try:
                    received = self._receive_into(view[done:], deadline)
                except TimeoutError:
                    raise HttpError(408, f"{done} of {size} bytes within {self._limits.body_timeout_s:g} s") from None
                if not received:
                    raise HttpError(400, f"the body ended after {done} of {size} bytes")
                done += received
        return body

    def write(self, response: Response, *, keep_alive: bool) -> None:
        """Send ``response``.

        Raises:
            OSError: The connection broke, or the client did not take the answer in time.
        """
        deadline = time.monotonic() + self._limits.body_timeout_s
        parts = [encode_head(response, keep_alive=keep_alive), *response.body]
        if self._tls:  # which has no sendmsg()
            self._send(b"".join(parts), deadline)
            return
        self._set_timeout(deadline)
        sent = self._socket.sendmsg(parts)
        if sent < sum(len(part) for part in parts):
            self._send(memoryview(b"".join(parts))[sent:], deadline)

    def linger(self) -> None:
        """Take what the client is still sending for a moment: closed at once, it would never see the answer."""
        deadline = time.monotonic() + _LINGER_S
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while self._receive(deadline):
                pass
        except OSError:
            return  # it has gone, which is what we waited for

    def abort(self) -> None:
        """End the connection from another thread; the owner sees it as the client's end."""
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # TLS's own is not for another thread
        except OSError:
            return  # it has ended already

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _receive(self, deadline: float) -> bytes:
        self._set_timeout(deadline)
        return self._socket.recv(_CHUNK_BYTES)

    def _receive_into(self, view: memoryview, deadline: float) -> int:
        self._set_timeout(deadline)
        return self._socket.recv_into(view)

    def _send(self, data: bytes | memoryview, deadline: float) -> None:
        view = memoryview(data)
        while view:  # sendall() over TLS would begin its time-out anew with every piece
            self._set_timeout(deadline)
            view = view[self._socket.send(view[:_CHUNK_BYTES]) :]

    def _set_timeout(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)
