"""Routes of the REST interface: the Open Inference Protocol for everybody, changes for the agent alone."""

import resource
import time
from collections.abc import Mapping
from pathlib import Path

from edgeferry import __version__
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.http_message import Request, Response
from edgeferry.agent.serving.http_server import error_response
from edgeferry.agent.serving.oip_request import decode_infer
from edgeferry.agent.serving.oip_response import (
    HEADER_LENGTH,
    infer_response,
    json_response,
    model_metadata,
    model_statistics,
)
from edgeferry.agent.serving.registry import LoadOrder, Registry
from edgeferry.wire.codec import Message, WireError, decode
from edgeferry.wire.desired import STABLE, Name, Version
from edgeferry.wire.messages import Code, Reason

__all__ = ["RestInterface"]

_EXTENSIONS = ["binary_tensor_data", "model_repository", "statistics"]
_MAX_TIMEOUT_MS = 3_600_000


class _LoadBody(Message, frozen=True):
    version: Version
    model: str
    manifest: str
    label: Name = STABLE


class RestInterface:
    """Answers requests; many threads call ``handle`` at once."""

    def __init__(self, registry: Registry, *, request_timeout_s: float) -> None:
        self._registry = registry
        self._request_timeout_s = request_timeout_s

    def handle(self, request: Request) -> Response:
        """Return the answer to ``request``; errors are answers too."""
        try:
            return self._route(request)
        except RequestError as err:
            if request.trusted:
                return error_response(err.status, str(err), code=err.code, reason=err.reason)
            return error_response(err.status, str(err))

    def _route(self, request: Request) -> Response:
        match request.path:
            case ("v2", "models", model, "infer"):
                return self._infer(request, model, "")
            case ("v2", "models", model, "versions", version, "infer"):
                return self._infer(request, model, version)
            case ("v2", "repository", *rest):
                return self._repository(request, tuple(rest))
            case ("edgeferry", "stats"):
                return self._own_stats(request)
            case _:
                return self._read(request)

    def _read(self, request: Request) -> Response:
        if request.method != "GET":
            raise _no_route(request)
        match request.path:
            case ("v2",):
                return json_response({"name": "edgeferry", "version": __version__, "extensions": _EXTENSIONS})
            case ("v2", "health", "live" | "ready"):
                return Response(200)
            case ("v2", "models", "stats"):
                return model_statistics([each for versions in self._registry.models().values() for each in versions])
            case ("v2", "models", model, *rest):
                return self._read_model(request, model, tuple(rest))
            case _:
                raise _no_route(request)

    def _read_model(self, request: Request, model: str, rest: tuple[str, ...]) -> Response:
        version, rest = (rest[1], rest[2:]) if len(rest) >= 2 and rest[0] == "versions" else ("", rest)
        with self._registry.hold(model, version) as served:
            versions = self._registry.models().get(model, ())
            match rest:
                case ():
                    return model_metadata(served, versions)
                case ("ready",):
                    return Response(200)
                case ("stats",):
                    return model_statistics([served] if version else versions)
                case _:
                    raise _no_route(request)

    def _infer(self, request: Request, model: str, version: str) -> Response:
        if request.method != "POST":
            raise _no_route(request)
        timeout_s = _timeout_s(request.headers, self._request_timeout_s)
        deadline_s = time.monotonic() + timeout_s
        header_bytes = _number(request.headers, HEADER_LENGTH)
        with self._registry.hold(model, version) as served:
            call = decode_infer(request.body, header_bytes, served.inputs, served.outputs)
            is_patient = timeout_s >= self._request_timeout_s
            outputs, durations = served.queue.run(call.inputs, deadline_s, is_patient=is_patient)
            return infer_response(call, served, outputs, durations)

    def _repository(self, request: Request, rest: tuple[str, ...]) -> Response:
        match request.method, rest:
            case "POST", ("index",):
                return self._index()
            case "POST", ("models", _, "load" | "unload") if not request.trusted:
                detail = "models are loaded and unloaded through the agent's own socket only"
                raise RequestError(Code.PERMISSION_DENIED, Reason.BAD_REQUEST, detail)
            case "POST", ("models", model, "load"):
                self._registry.load(_load_order(model, bytes(request.body)))
                return json_response({})
            case "POST", ("models", model, "unload"):
                self._registry.unload(model)
                return json_response({})
            case _:
                raise _no_route(request)

    def _index(self) -> Response:
        return json_response(
            [
                {"name": served.name, "version": str(served.version), "state": "READY", "reason": ""}
                for versions in self._registry.models().values()
                for served in versions
            ]
        )

    def _own_stats(self, request: Request) -> Response:
        if request.method != "GET" or not request.trusted:
            raise _no_route(request)
        now_s = time.monotonic()
        models = self._registry.models()
        return json_response(
            {
                "queue_depth": sum(served.queue.depth for versions in models.values() for served in versions),
                "rss_bytes": _rss_bytes(),
                "models": {
                    name: {str(served.version): served.queue.stats.figures(now_s) for served in versions}
                    for name, versions in models.items()
                },
            }
        )


def _load_order(model: str, body: bytes) -> LoadOrder:
    try:
        wanted = decode(_LoadBody, body)
    except WireError as err:
        raise RequestError.bad(str(err)) from err
    order = LoadOrder(model, wanted.version, Path(wanted.model), Path(wanted.manifest), wanted.label)
    if not (order.path.is_absolute() and order.manifest.is_absolute()):
        raise RequestError.bad(f"paths {wanted.model!r} and {wanted.manifest!r} have to be absolute")
    return order


def _timeout_s(headers: Mapping[str, str], default_s: float) -> float:
    timeout_ms = _number(headers, "X-Request-Timeout-Ms")
    return default_s if timeout_ms is None else min(timeout_ms, _MAX_TIMEOUT_MS) / 1e3


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise RequestError.bad(f"header {name}: {text[:40]!r} is not a whole number")
    return int(text)


def _no_route(request: Request) -> RequestError:
    path = "/".join(request.path)[:200]
    return RequestError(Code.NOT_FOUND, Reason.UNKNOWN_METHOD, f"there is no {request.method} /{path}")


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * resource.getpagesize()
