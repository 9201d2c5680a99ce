"""The one error of the client: what a model did not answer, and why."""

from edgeferry.wire.messages import Code

__all__ = ["InferenceError"]


class InferenceError(Exception):
    """There is no answer.

    Attributes:
        code: What kind of error, in gRPC's words, the same on every protocol.
        detail: A sentence for the person who reads it.
    """

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    @property
    def is_retryable(self) -> bool:
        """Return whether the same request may be answered a moment later."""
        return self.code in {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED}
