"""The Open Inference Protocol's REST interface: everything below ``/v2``, and changes for the agent alone."""

import time
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from edgeferry import __version__
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.http_message import Request, Response
from edgeferry.agent.serving.invocation import Deadline, Stopwatch
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.oip_request import decode_infer, parameters_of, routing_key_of
from edgeferry.agent.serving.oip_response import (
    HEADER_LENGTH,
    infer_response,
    json_response,
    model_config,
    model_metadata,
    model_statistics,
)
from edgeferry.agent.serving.registry import Loaded, LoadOrder, Registry, ServedVersion
from edgeferry.agent.serving.request_headers import ROUTING_KEY, deadline_of, number_of
from edgeferry.agent.serving.stats import Durations
from edgeferry.wire.codec import Message, WireError, decode
from edgeferry.wire.desired import STABLE, Name, Percent, Version
from edgeferry.wire.messages import Code, Reason

__all__ = ["EXTENSIONS", "OipRest", "no_route"]

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "sequence",
    "statistics",
)


_Body = TypeVar("_Body", bound=Message)


class _LoadBody(Message, frozen=True):
    version: Version
    model: str
    manifest: str
    label: Name = STABLE
    percent: Percent = 0
    stops_first: bool = False


class _UnloadBody(Message, frozen=True):
    label: Name | None = None


class OipRest:
    """Answers requests; many threads call ``handle`` at once."""

    def __init__(self, registry: Registry, metrics: Metrics, *, request_timeout_s: float) -> None:
        self._registry = registry
        self._metrics = metrics
        self._request_timeout_s = request_timeout_s

    def handle(self, request: Request) -> Response:
        """Return the answer to ``request``.

        Raises:
            RequestError: It is refused.
        """
        match request.path:
            case ("v2", "models", model, "infer"):
                return self._infer(request, model, "")
            case ("v2", "models", model, "versions", version, "infer"):
                return self._infer(request, model, version)
            case ("v2", "repository", *rest):
                return self._repository(request, tuple(rest))
            case _:
                return self._read(request)

    def _read(self, request: Request) -> Response:
        if request.method != "GET":
            raise no_route(request)
        match request.path:
            case ("v2",):
                return json_response({"name": "edgeferry", "version": __version__, "extensions": EXTENSIONS})
            case ("v2", "health", "live" | "ready"):
                return Response(200)
            case ("v2", "models", "stats"):
                return model_statistics([each for versions in self._registry.models().values() for each in versions])
            case ("v2", "models", model, *rest):
                return self._read_model(request, model, tuple(rest))
            case _:
                raise no_route(request)

    def _read_model(self, request: Request, model: str, rest: tuple[str, ...]) -> Response:
        version, rest = (rest[1], rest[2:]) if len(rest) >= 2 and rest[0] == "versions" else ("", rest)
        with self._registry.hold(model, version) as served:
            versions = self._registry.models().get(model, ())
            match rest:
                case ():
                    return model_metadata(served, versions)
                case ("ready",):
                    return Response(200)
                case ("config",):
                    return model_config(served)
                case ("stats",):
                    return model_statistics([served] if version else versions)
                case _:
                    raise no_route(request)

    def _infer(self, request: Request, model: str, version: str) -> Response:
        if request.method != "POST":
            raise no_route(request)
        began_s = time.monotonic()
        deadline = deadline_of(request.headers, self._request_timeout_s)
        with self._registry.hold(model, version, routing_key=partial(_routing_key, request)) as served:
            try:
                response, durations = _run(request, served, deadline)
            except RequestError as err:
                self._metrics.refused(served.name, err)
                raise
            latency_s = time.monotonic() - began_s
            self._metrics.answered(served.name, "infer", "REST", latency_s=latency_s, spent=durations)
            return response

    def _repository(self, request: Request, rest: tuple[str, ...]) -> Response:
        match request.method, rest:
            case "POST", ("index",):
                return self._index()
            case "POST", ("models", _, "load" | "unload") if not request.trusted:
                detail = "models are loaded and unloaded through the agent's own socket only"
                raise RequestError(Code.PERMISSION_DENIED, Reason.BAD_REQUEST, detail)
            case "POST", ("models", model, "load"):
                return json_response(_told(self._registry.load(_load_order(model, bytes(request.body)))))
            case "POST", ("models", model, "unload"):
                wanted = _read(_UnloadBody, bytes(request.body) or b"{}")
                self._registry.unload(model, wanted.label or "")
                return json_response({})
            case _:
                raise no_route(request)

    def _index(self) -> Response:
        return json_response(
            [
                {"name": served.name, "version": str(served.version), "state": "READY", "reason": ""}
                for versions in self._registry.models().values()
                for served in versions
            ]
        )


def _run(request: Request, served: ServedVersion, deadline: Deadline) -> tuple[Response, Durations]:
    watch = Stopwatch()
    header_bytes = number_of(request.headers, HEADER_LENGTH)
    call = decode_infer(request.body, header_bytes, served.inputs, served.outputs)
    watch.parsed()
    outputs, run = served.queue.run(call.inputs, deadline.at_s, is_patient=deadline.is_patient, turn=call.turn)
    watch.answered()
    spent: list[Durations] = []

    def written() -> Durations:
        spent.append(watch.written(served, run))
        return spent[0]

    return infer_response(call, served, outputs, written), spent[0]


def _load_order(model: str, body: bytes) -> LoadOrder:
    wanted = _read(_LoadBody, body)
    path, manifest = Path(wanted.model), Path(wanted.manifest)
    if not (path.is_absolute() and manifest.is_absolute()):
        raise RequestError.bad(f"paths {wanted.model!r} and {wanted.manifest!r} have to be absolute")
    return LoadOrder(model, wanted.version, path, manifest, wanted.label, wanted.percent, wanted.stops_first)


def _read(kind: type[_Body], body: bytes) -> _Body:
    try:
        return decode(kind, body)
    except WireError as err:
        raise RequestError.bad(str(err)) from err


def _told(loaded: Loaded) -> dict[str, Any]:
    return {"swap": loaded.swap, "gap_ms": loaded.gap_ms} if loaded.swap else {}


def _routing_key(request: Request) -> str:
    header_bytes = number_of(request.headers, HEADER_LENGTH)
    return routing_key_of(request.headers.get(ROUTING_KEY, ""), parameters_of(request.body, header_bytes))


def no_route(request: Request) -> RequestError:
    """Return the error for a path or a method that is not served."""
    path = "/".join(request.path)[:200]
    return RequestError(Code.NOT_FOUND, Reason.UNKNOWN_METHOD, f"there is no {request.method} /{path}")
