"""Why a request is refused, and what that is in HTTP.

Source of the table: tensorflow_serving/util/net_http, ToHTTPStatusCode.
"""

from edgeferry.wire.messages import Code, Reason

__all__ = ["HTTP_STATUS", "RequestError", "UnknownVersionError"]

HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class RequestError(Exception):
    """A request is not carried out.

    Attributes:
        code: What kind of error, the same on every protocol.
        reason: Why, from the closed list.
    """

    def __init__(self, code: Code, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.reason = reason

    @classmethod
    def bad(cls, detail: str) -> "RequestError":
        """Return the error for a request that does not say what it has to."""
        return cls(Code.INVALID_ARGUMENT, Reason.BAD_REQUEST, detail)

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return HTTP_STATUS[self.code]


class UnknownVersionError(RequestError):
    """A model, or a version or label of it, is not loaded."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, detail)
