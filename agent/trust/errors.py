"""Why metadata was refused, in the words of the contract.

AgentError
└── TrustError        metadata or a blob was refused; carries the problem that is reported

Inside the trust layer, as python-tuf wants its errors:

DownloadError         (python-tuf)
└── MissingError      blobs or roots that are not here yet; not a failure
RepositoryError       (python-tuf)
└── DamagedBlobError  a blob has other bytes than its name says
"""

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)

from edgeferry.agent.errors import AgentError
from edgeferry.wire.desired import BlobRef
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["DamagedBlobError", "MissingError", "TrustError", "explained"]

_KINDS: tuple[tuple[type[Exception], Code, Reason, str], ...] = (
    (
        UnsignedMetadataError,
        Code.UNAUTHENTICATED,
        Reason.METADATA_UNSIGNED,
        "not enough valid signatures of this fleet's keys",
    ),
    (
        ExpiredMetadataError,
        Code.FAILED_PRECONDITION,
        Reason.METADATA_EXPIRED,
        "renew it on the workstation, and see whether this device's clock is right",
    ),
    (BadVersionNumberError, Code.FAILED_PRECONDITION, Reason.METADATA_ROLLBACK, "older than what was verified before"),
    (OSError, Code.INTERNAL, Reason.DISK_FAULT, "python-tuf's working folder"),
)


class TrustError(AgentError):
    """Metadata was refused; what was trusted before still is.

    Attributes:
        problem: What to report.
        blob: The blob whose bytes are wrong, to be removed and fetched again; None for anything else.
        root: The version of the offered root that does not follow the trusted one, to be forgotten: whoever invents it
            must not keep true metadata out for longer than he rules the broker. 0 when the roots are all right.
    """

    def __init__(self, problem: Problem, blob: BlobRef | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.blob = blob
        self.root = 0


class MissingError(DownloadError):
    """Something that metadata names is not here yet."""

    def __init__(self, blobs: tuple[BlobRef, ...] = (), roots: tuple[int, ...] = ()) -> None:
        super().__init__(f"missing {len(blobs)} blobs, roots {list(roots)}")
        self.blobs = blobs
        self.roots = roots


class DamagedBlobError(RepositoryError):
    """A blob has other bytes than its name says."""

    def __init__(self, ref: BlobRef, found_bytes: int) -> None:
        super().__init__(f"blob {ref.sha256} has {found_bytes} other bytes than its name and size {ref.size_bytes} say")
        self.ref = ref


def explained(error: Exception) -> TrustError:
    """Return ``error`` of python-tuf, of a parser or of the working folder as what is reported."""
    if isinstance(error, DamagedBlobError):
        return TrustError(Problem(Code.DATA_LOSS, Reason.BLOB_MISMATCH, str(error)), error.ref)
    for kind, code, reason, advice in _KINDS:
        if isinstance(error, kind):
            return TrustError(Problem(code, reason, f"{_sentence(error)}: {advice}"))
    return TrustError(Problem(Code.INVALID_ARGUMENT, Reason.METADATA_MALFORMED, _sentence(error)))


def _sentence(error: Exception) -> str:
    """Return the error's text with that of its cause: python-tuf hides what was wrong with a file in there."""
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) else ""
    return f"{error}{cause}"
