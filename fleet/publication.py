"""What is published: one file that names everything else, so that replacing it is the switch from old to new."""

from pathlib import Path

import msgspec
from tuf.api.metadata import MetaFile

from edgeferry.fleet.documents import ListedFile, Plan
from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import explained, write_atomically
from edgeferry.wire.codec import Message, encode
from edgeferry.wire.desired import BlobRef

__all__ = ["FORMAT", "Publication", "SignedFile"]

FORMAT = 1
_FILE = "published.json"


class SignedFile(Message, frozen=True):
    """A signed metadata file, which is a blob: its version, its bytes by name, and until when it holds."""

    version: int
    sha256: str
    size_bytes: int
    expires_ms: int

    def ref(self) -> BlobRef:
        """Return the name and size of the file's bytes."""
        return BlobRef(sha256=self.sha256, size_bytes=self.size_bytes)

    def meta(self) -> MetaFile:
        """Return how other metadata names this file."""
        return MetaFile(self.version, self.size_bytes, {"sha256": self.sha256})


class Publication(Message, frozen=True):
    """``published.json``: everything that is published, as one file that is replaced in one step.

    Attributes:
        format: Of this file.
        root_version: The newest root that counts.
        issued_ms: When the timestamp was signed; never less than the one before.
        bins: The metadata of each hash bin, by the name of its role.
        files: What the bins list, by target path.
        plan: What the operator has decided.
    """

    format: int
    root_version: int
    issued_ms: int
    timestamp: SignedFile
    snapshot: SignedFile
    targets: SignedFile
    bins: dict[str, SignedFile]
    files: dict[str, ListedFile]
    plan: Plan

    @classmethod
    def load(cls, fleet_dir: Path) -> "Publication":
        """Return what is published in ``fleet_dir``.

        Raises:
            ConfigurationError: Nothing is, or it cannot be read.
        """
        path = fleet_dir / _FILE
        with explained(path):
            if not path.is_file():
                raise ConfigurationError(
                    f"{fleet_dir}: no fleet is here; make one with `edgeferry init`, or say --fleet"
                )
            data = path.read_bytes()
        try:
            publication = msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise ConfigurationError(f"{path}: cannot be understood: {err}; restore it from a backup") from err
        if publication.format != FORMAT:
            raise ConfigurationError(f"{path}: format {publication.format}, wanted {FORMAT}; update edgeferry")
        return publication

    @staticmethod
    def exists(fleet_dir: Path) -> bool:
        """Tell whether anything is published in ``fleet_dir``."""
        return (fleet_dir / _FILE).exists()

    def save(self, fleet_dir: Path) -> None:
        """Publish this in ``fleet_dir`` in the place of what was there.

        Raises:
            FleetError: The disk refused; what was published stays.
        """
        write_atomically(fleet_dir / _FILE, encode(self))
