"""REST: the Open Inference Protocol with binary tensors, over the standard library's HTTP."""

import http.client
import json
import math
import ssl
import threading
from pathlib import Path
from urllib.parse import SplitResult, quote

from edgeferry.client.call import Answer, Call, arrays_of
from edgeferry.client.errors import InferenceError
from edgeferry.wire.messages import Code
from edgeferry.wire.tensors import encode_request

__all__ = ["RestTransport"]

_HEADER_LENGTH = "Inference-Header-Content-Length"
_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    500: Code.INTERNAL,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
_ANSWER_SLACK_S = 1.0  # the server answers at the deadline; this is for the answer's way


class RestTransport:
    """One kept connection for each thread."""

    def __init__(self, url: SplitResult, token: str, ca_file: Path | None) -> None:
        self._host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 8501)
        self._prefix = url.path.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca_file) if url.scheme == "https" else None
        self._token = token
        self._local = threading.local()

    def infer(self, call: Call) -> Answer:
        """Return the answer."""
        body, header_bytes = encode_request(call.tensors)
        headers = {
            _HEADER_LENGTH: str(header_bytes),
            "X-Request-Timeout-Ms": str(math.ceil(call.timeout_s * 1e3)),
            **({"X-Routing-Key": call.routing_key} if call.routing_key else {}),
            **({"Authorization": f"Bearer {self._token}"} if self._token else {}),
        }
        version = f"/versions/{quote(call.version, safe='')}" if call.version else ""
        path = f"{self._prefix}/v2/models/{quote(call.model, safe='')}{version}/infer"
        try:
            return self._ask(path, body, headers, call.timeout_s + _ANSWER_SLACK_S)
        except TimeoutError as err:
            self.close()
            detail = f"{self._host}:{self._port} gave no answer within {call.timeout_s:g} s"
            raise InferenceError(Code.DEADLINE_EXCEEDED, detail) from err
        except (OSError, http.client.HTTPException) as err:
            self.close()
            raise InferenceError(Code.UNAVAILABLE, f"{self._host}:{self._port} does not answer: {err!r}") from err

    def close(self) -> None:
        """End this thread's connection."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection:
            connection.close()
            self._local.connection = None

    def _ask(self, path: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Answer:
        was_kept = getattr(self._local, "connection", None) is not None
        try:
            response = self._response(path, body, headers, timeout_s)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.close()
            if not was_kept:
                raise
            response = self._response(path, body, headers, timeout_s)  # the server had ended it while it was idle
        answer = response.read()
        if response.status != 200:
            raise _error_of(response.status, answer)
        return arrays_of(answer, int(response.headers.get(_HEADER_LENGTH, len(answer))))

    def _response(self, path: str, body: bytes, headers: dict[str, str], timeout_s: float) -> http.client.HTTPResponse:
        connection = getattr(self._local, "connection", None) or self._connect(timeout_s)
        self._local.connection = connection
        if connection.sock:
            connection.sock.settimeout(timeout_s)
        connection.request("POST", path, body, headers)
        response: http.client.HTTPResponse = connection.getresponse()
        return response

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)


def _error_of(status: int, body: bytes) -> InferenceError:
    try:
        detail = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        detail = f"status {status} without a reason"
    return InferenceError(_CODES.get(status, Code.UNKNOWN), detail)
