"""HTTP/1.1 messages as this server takes and gives them: strict, small, without a socket.

Decides what is refused: bodies come with a Content-Length (chunked ones are not taken), heads have a limit, and
whatever two parsers could read in two ways (RFC 9112, 11.2: request smuggling) is an error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

__all__ = ["MAX_HEAD_BYTES", "Head", "HttpError", "Request", "Response", "encode_head", "parse_head"]

MAX_HEAD_BYTES = 16 * 1024

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.([01])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_MAX_HEADERS = 100


class HttpError(Exception):
    """The message is not one that we take; the connection ends after this answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and header fields.

    Attributes:
        target: The path as it was sent, without a query.
        path: Its levels, percent-decoded.
        headers: Names in lower case.
        keep_alive: Whether the client wants to go on with this connection.
        content_length: Size of the body that follows, in bytes.
        expects_continue: Whether the client waits for a word before it sends the body.
        encoding: How the body is compressed, in lower case; empty when it is not.
    """

    method: str
    target: str
    path: tuple[str, ...]
    headers: Mapping[str, str]
    keep_alive: bool
    content_length: int
    expects_continue: bool
    encoding: str


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request.

    Attributes:
        target: The path as it was sent, without a query; ``path`` has its levels, percent-decoded.
        trusted: True when it came over the Unix socket, which only the agent can open.
    """

    method: str
    target: str
    path: tuple[str, ...]
    headers: Mapping[str, str]
    body: bytearray
    trusted: bool


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; the parts of the body are sent one after the other without being joined."""

    status: int
    body: Sequence[bytes | memoryview] = ()
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_head(data: bytes) -> Head:
    """Return the head of a request, given without the empty line that ends it.

    Raises:
        HttpError: It is malformed, or wants something that this server does not do.
    """
    request_line, *lines = data.decode("latin-1").split("\r\n")
    matched = _REQUEST_LINE.fullmatch(request_line)
    if not matched:
        raise HttpError(400, f"request line {request_line[:80]!r} is not METHOD PATH HTTP/1.1")
    method, target, minor = matched.groups()
    headers = _parse_headers(lines)
    if "transfer-encoding" in headers:
        raise HttpError(501, "Transfer-Encoding is not supported; send the body with a Content-Length")
    connection = headers.get("connection", "").lower()
    return Head(
        method=method,
        target=target.partition("?")[0],
        path=_levels(target),
        headers=headers,
        keep_alive="close" not in connection if minor == "1" else "keep-alive" in connection,
        content_length=_content_length(headers),
        expects_continue=headers.get("expect", "").lower() == "100-continue",
        encoding=headers.get("content-encoding", "").lower().replace("identity", ""),
    )


def _parse_headers(lines: Sequence[str]) -> dict[str, str]:
    if len(lines) > _MAX_HEADERS:
        raise HttpError(431, f"{len(lines)} header fields, allowed are {_MAX_HEADERS}")
    headers: dict[str, str] = {}
    for line in lines:
        matched = _HEADER.fullmatch(line)
        if not matched:
            raise HttpError(400, f"header field {line[:80]!r} is malformed")
        name = matched[1].lower()
        if name in headers and name in {"content-length", "inference-header-content-length"}:
            raise HttpError(400, f"header field {name} stands twice")
        headers[name] = matched[2].rstrip(" \t")
    return headers


def _content_length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise HttpError(400, f"Content-Length {text[:40]!r} is not a number of bytes")
    return int(text)


def _levels(target: str) -> tuple[str, ...]:
    path = target.partition("?")[0].strip("/")
    return tuple(unquote(level) for level in path.split("/")) if path else ()


def encode_head(response: Response, *, keep_alive: bool) -> bytes:
    """Return status line and header fields of ``response``, with the empty line that ends them."""
    length = sum(len(part) for part in response.body)
    lines = [
        f"HTTP/1.1 {response.status} {_phrase(response.status)}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request"  # 499, the one status here that no standard names
