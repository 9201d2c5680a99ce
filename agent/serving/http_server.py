"""An HTTP server for a machine with little memory: a thread per connection, bounded in every direction.

Decides who is let in when it is full: the connection that has been silent for the longest goes first, so that idle or
half-open clients, however many, never keep a good request out.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from edgeferry.agent.serving.connection import Connection, Limits
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.guard import Guard
from edgeferry.agent.serving.http_message import Head, HttpError, Request, Response
from edgeferry.agent.serving.inflating import inflate

__all__ = ["HttpServer", "Listener", "error_response"]

logger = logging.getLogger(__name__)

_RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket.

    Attributes:
        trusted: Whether what comes through it may change what is served.
        guard: Encryption and token of everybody else.
    """

    socket: socket.socket
    trusted: bool
    guard: Guard = field(default_factory=Guard)


def error_response(status: int, detail: str, **more: str) -> Response:
    """Return an error as every protocol of ours spells it: ``{"error": ...}``."""
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status in {429, 503} else {}
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}  # RFC 9110, 15.5.2
    return Response(status, [msgspec.json.encode({"error": detail, **more})], headers=headers)


class HttpServer:
    """Serves requests from any number of listeners through one handler, which many threads call at once."""

    def __init__(
        self, listeners: Sequence[Listener], handle: Callable[[Request], Response], limits: Limits | None = None
    ) -> None:
        self._listeners = listeners
        self._handle = handle
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._silent_since: dict[Connection, float] = {}  # all connections; infinity while a request is being served
        self._acceptors: list[threading.Thread] = []
        self._body_bytes = 0
        self._stopping = threading.Event()

    def start(self) -> None:
        """Accept connections from now on."""
        for listener in self._listeners:
            thread = threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True)
            thread.start()
            self._acceptors.append(thread)

    def stop(self, grace_s: float) -> None:
        """Accept no more, end idle connections, and let running requests finish for ``grace_s``."""
        self._stopping.set()
        for listener in self._listeners:
            listener.socket.shutdown(socket.SHUT_RDWR)  # which ends accept()
        for acceptor in self._acceptors:
            acceptor.join(1.0)  # before its descriptor can become that of another socket
        for listener in self._listeners:
            listener.socket.close()
        deadline = time.monotonic() + grace_s
        while self._abort_silent() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _abort_silent(self) -> int:
        with self._lock:
            connections = dict(self._silent_since)
        for connection, since in connections.items():
            if since != float("inf"):
                connection.abort()
        return len(connections)

    def _accept(self, listener: Listener) -> None:
        tls = listener.guard.tls_context()
        while not self._stopping.is_set():
            try:
                sock, _ = listener.socket.accept()
            except OSError as err:
                if self._stopping.is_set():
                    return
                logger.warning("accepting a connection failed: %s", err)
                self._stopping.wait(0.1)  # out of descriptors, most likely: some will come back
                continue
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._admit(Connection(sock, self._limits, tls), listener)

    def _admit(self, connection: Connection, listener: Listener) -> None:
        with self._lock:
            admitted = len(self._silent_since) < self._limits.connections or self._drop_most_silent()
            if admitted:
                self._silent_since[connection] = time.monotonic()
        if not admitted:
            self._refuse(connection)
            return
        threading.Thread(target=self._serve, args=(connection, listener), name="client", daemon=True).start()

    def _drop_most_silent(self) -> bool:
        connection, since = min(self._silent_since.items(), key=lambda item: item[1])
        if since == float("inf"):
            return False
        connection.abort()
        del self._silent_since[connection]
        return True

    def _refuse(self, connection: Connection) -> None:
        try:
            connection.write(error_response(503, "all connections are busy"), keep_alive=False)
        except OSError as err:
            logger.debug("a refused client went before its answer: %s", err)
        connection.close()

    def _serve(self, connection: Connection, listener: Listener) -> None:
        try:
            connection.start()
            while self._serve_one(connection, listener):
                pass
        except HttpError as err:
            self._end_with(connection, error_response(err.status, str(err)))
        except OSError as err:
            logger.debug("a connection broke: %s", err)
        finally:
            with self._lock:
                self._silent_since.pop(connection, None)
            connection.close()

    def _serve_one(self, connection: Connection, listener: Listener) -> bool:
        head = connection.read_head()
        if head is None:
            return False
        _authorize(head, listener.guard)
        reserved = self._reserve(head.content_length, 0)
        try:
            body = connection.read_body(head)
            if head.encoding:
                body, unpacked = self._inflate(head, body)
                reserved += unpacked
            if not self._set_busy(connection, busy=True):
                return False  # chosen to make room for another client; its answer would reach nobody
            response = self._answer(head, body, trusted=listener.trusted)
            keep_alive = head.keep_alive and not self._stopping.is_set()
            connection.write(response, keep_alive=keep_alive)
        finally:
            self._release(reserved)
        return keep_alive and self._set_busy(connection, busy=False)

    def _inflate(self, head: Head, packed: bytearray) -> tuple[bytearray, int]:
        body = bytearray()
        try:
            for piece in inflate(packed, head.encoding):
                self._reserve(len(piece), len(body))
                body += piece
        except HttpError:
            self._release(len(body))
            raise
        return body, len(body)

    def _answer(self, head: Head, body: bytearray, *, trusted: bool) -> Response:
        request = Request(head.method, head.target, head.path, head.headers, body, trusted)
        try:
            return self._handle(request)
        except Exception:  # the outermost frame of a request: the client is told, the others go on
            logger.exception("%s /%s failed", head.method, "/".join(head.path)[:200])
            return error_response(500, "internal error; see the log of the serving process")

    def _reserve(self, size: int, so_far: int) -> int:
        if so_far + size > self._limits.body_bytes:
            raise HttpError(413, f"the body has {so_far + size} bytes, allowed are {self._limits.body_bytes}")
        with self._lock:
            if self._body_bytes + size > self._limits.bodies_bytes:
                raise HttpError(503, "too many large requests at the same time")
            self._body_bytes += size
        return size

    def _release(self, size: int) -> None:
        with self._lock:
            self._body_bytes -= size

    def _set_busy(self, connection: Connection, *, busy: bool) -> bool:
        with self._lock:
            if connection not in self._silent_since:
                return False
            self._silent_since[connection] = float("inf") if busy else time.monotonic()
        return True

    def _end_with(self, connection: Connection, response: Response) -> None:
        try:
            connection.write(response, keep_alive=False)
        except OSError as err:
            logger.debug("a client went before its answer: %s", err)
            return
        connection.linger()


def _authorize(head: Head, guard: Guard) -> None:
    # Before the body: a stranger shall not make us take megabytes.
    try:
        guard.check(head.headers.get("authorization", ""))
    except RequestError as err:
        raise HttpError(err.status, str(err)) from err
