"""Two copies of one fleet folder, and two operators who sign: the second one is told before anything diverges.

Decides by what is said on the broker, and believes nothing there that this fleet's keys have not signed: a hostile
broker can keep the news from an operator, but not hold up a push with news of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Timestamp
from tuf.api.serialization import DeserializationError

from edgeferry.fleet.errors import ConflictError
from edgeferry.fleet.repository import Repository

__all__ = ["Said", "newest_roots", "refuse_if_behind", "refuse_other_roots"]

_ADVICE = "nothing of theirs is lost: copy the fleet folder from there, then do this again"


@dataclass(slots=True)
class Said:
    """What the broker says is published; nobody has verified it."""

    timestamp: bytes = b""
    roots: dict[int, bytes] = field(default_factory=dict)


def newest_roots(repository: Repository) -> tuple[int, ...]:
    """Return the versions of the root that tell whether somebody else has changed keys."""
    newest = max(repository.roots())
    return (newest, newest + 1)


def refuse_if_behind(repository: Repository, said: Said) -> None:
    """Do nothing unless another copy of this fleet folder has published something that is not in this one.

    What another command has published from this very folder is taken over first.

    Raises:
        ConflictError: It has; the sentence says what and what to do.
    """
    repository.reload()
    refuse_other_roots(repository, said.roots)
    version = _version_of(said.timestamp, repository.root())
    if version > repository.generation:
        raise ConflictError(
            f"generation {version} is published, and this fleet folder has {repository.generation}: another copy of it"
            f" has signed since; {_ADVICE}"
        )
    if version == repository.generation and said.timestamp != repository.timestamp():
        raise ConflictError(
            f"generation {version} is published with other content than in this fleet folder: another copy of it has"
            f" signed at the same time, and devices take whichever came first; {_ADVICE}"
        )


def refuse_other_roots(repository: Repository, roots: Mapping[int, bytes]) -> None:
    """Do nothing unless another copy of this fleet folder has changed keys.

    Raises:
        ConflictError: It has.
    """
    own = repository.roots()
    for version in newest_roots(repository):
        data = roots.get(version, b"")
        if data in {b"", own.get(version)} or version == 1:
            continue
        if _is_signed(data, version, repository.root_folder.root(version - 1)):
            raise ConflictError(
                f"root {version} is published, and it is not this fleet folder's: another copy of it has changed keys;"
                f" {_ADVICE}"
            )


def _version_of(timestamp: bytes, root: Root) -> int:
    """Return the version of a timestamp that this fleet's keys have signed; 0 for anything else."""
    try:
        metadata = Metadata[Timestamp].from_bytes(timestamp)
        root.verify_delegate(Timestamp.type, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, DeserializationError, ValueError):
        return 0
    return metadata.signed.version


def _is_signed(data: bytes, version: int, before: Root) -> bool:
    try:
        metadata = Metadata[Root].from_bytes(data)
        before.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, DeserializationError, ValueError):
        return False
    return metadata.signed.version == version
