"""Routes of the HTTP interface: two inference protocols, metrics, a page for people, and the agent's own figures."""

import resource
import time
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.http_message import Request, Response
from edgeferry.agent.serving.http_server import error_response
from edgeferry.agent.serving.metrics import CONTENT_TYPE, Metrics, QueueFigures
from edgeferry.agent.serving.oip_response import json_response
from edgeferry.agent.serving.oip_rest import OipRest, no_route
from edgeferry.agent.serving.registry import Registry
from edgeferry.agent.serving.status_page import status_page
from edgeferry.agent.serving.tfs_rest import TfsRest
from edgeferry.wire.codec import Message, WireError, decode

__all__ = ["RestInterface"]


class RestInterface:
    """Answers requests; many threads call ``handle`` at once."""

    def __init__(self, registry: Registry, metrics: Metrics, *, request_timeout_s: float) -> None:
        self._registry = registry
        self._metrics = metrics
        self._tfs = TfsRest(registry, metrics, request_timeout_s=request_timeout_s)
        self._oip = OipRest(registry, metrics, request_timeout_s=request_timeout_s)

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
            case (first, *_) if first.lower() == "v1":
                return self._tfs.handle(request)
            case ("v2", *_):
                return self._oip.handle(request)
            case ("edgeferry", "pace") if request.method == "POST" and request.trusted:
                return self._set_pace(bytes(request.body))
            case _ if request.method == "GET":
                return self._page(request)
            case _:
                raise no_route(request)

    def _page(self, request: Request) -> Response:
        match request.path:
            case ():
                refusals = self._metrics.last_refusals()
                return status_page(self._registry, refusals, rss_bytes=_rss_bytes(), now_s=time.monotonic())
            case ("monitoring", "prometheus", "metrics"):
                return Response(200, [self._metrics.tfs_text()], CONTENT_TYPE)
            case ("metrics",):
                return Response(200, [self._metrics.own_text(self._queues(), rss_bytes=_rss_bytes())], CONTENT_TYPE)
            case ("edgeferry", "stats") if request.trusted:
                return self._own_stats()
            case _:
                raise no_route(request)

    def _queues(self) -> list[QueueFigures]:
        found = []
        for name, versions in self._registry.models().items():
            for served in versions:
                totals = served.queue.stats.totals
                depth = served.queue.depth
                found.append(QueueFigures(name, served.version, depth, totals.succeeded, totals.failed))
        return found

    def _own_stats(self) -> Response:
        now_s = time.monotonic()
        models = self._registry.models()
        return json_response(
            {
                "queue_depth": sum(served.queue.depth for versions in models.values() for served in versions),
                "rss_bytes": _rss_bytes(),
                "share": self._registry.pace.share,
                "models": {
                    name: {str(served.version): served.queue.stats.figures(now_s) for served in versions}
                    for name, versions in models.items()
                },
            }
        )

    def _set_pace(self, body: bytes) -> Response:
        try:
            self._registry.pace.share = decode(_PaceBody, body).share
        except WireError as err:
            raise RequestError.bad(str(err)) from err
        return json_response({})


class _PaceBody(Message, frozen=True):
    share: Annotated[float, Meta(gt=0, le=1)]


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * resource.getpagesize()
