"""Which model, version and method a path of TensorFlow Serving's REST interface means.

    POST /v1/models/{model}[/versions/{version} | /labels/{label}]:predict | :classify | :regress
    GET  /v1/models/{model}[/versions/{version} | /labels/{label}][/metadata]

Matched whatever the case, on the path as it was sent; names and labels are percent-decoded afterwards.
Source: tensorflow/serving, model_servers/http_rest_api_handler.cc.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from edgeferry.agent.serving.errors import RequestError

__all__ = ["ModelSpec", "TfsMethod", "TfsRoute", "parse_path"]

_RUN = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?:(predict|classify|regress)", re.IGNORECASE
)
_READ = re.compile(
    r"/v1/models(?:/(?:([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?(/metadata)?)?)?/?", re.IGNORECASE
)
_MAX_VERSION = 2**63 - 1


class TfsMethod(StrEnum):
    """What can be asked of a model."""

    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model is meant, in TensorFlow Serving's terms.

    Attributes:
        name: Of the model.
        version: Its number; None unless one was asked for.
        label: A name that points at a version; empty unless one was asked for.
    """

    name: str
    version: int | None = None
    label: str = ""

    def __str__(self) -> str:
        """Return it as TensorFlow Serving's errors spell it."""
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


@dataclass(frozen=True, slots=True)
class TfsRoute:
    """What is asked, and of which model."""

    method: TfsMethod
    spec: ModelSpec


def parse_path(http_method: str, path: str) -> TfsRoute:
    """Return what the request means.

    Args:
        http_method: Of the request.
        path: Of the request's target, still percent-encoded, without a query.

    Raises:
        RequestError: There is no such route, or the version is too large a number.
    """
    if http_method == "POST" and (found := _RUN.fullmatch(path)):
        return TfsRoute(TfsMethod(found[4].lower()), _spec(found[1], found[2], found[3]))
    if http_method == "GET" and (found := _READ.fullmatch(path)):
        if not found[1]:
            raise RequestError.bad("Missing model name in request.")
        method = TfsMethod.METADATA if found[4] else TfsMethod.STATUS
        return TfsRoute(method, _spec(found[1], found[2], found[3]))
    raise RequestError.bad(f"Malformed request: {http_method} {path[:256]}")


def _spec(name: str, version: str | None, label: str | None) -> ModelSpec:
    if version and (len(version) > 19 or int(version) > _MAX_VERSION):
        raise RequestError.bad(f"Failed to convert version: {version[:256]} to numeric.")
    number = int(version or 0) or None  # OpenVINO's client says 0 for no version
    return ModelSpec(unquote(name), number, unquote(label or ""))
