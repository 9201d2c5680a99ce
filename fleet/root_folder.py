"""The root metadata of a fleet on the disk: every version that was published, and the one that is proposed."""

from pathlib import Path

from tuf.api.metadata import Metadata, Root

from edgeferry.fleet.files import explained, sync_folder, write_atomically
from edgeferry.fleet.roots import parse_root

__all__ = ["RootFolder"]

_PROPOSED = "proposed.root.json"


class RootFolder:
    """``roots/`` of the fleet folder ``fleet_dir``, and ``proposed.root.json`` beside it."""

    def __init__(self, fleet_dir: Path) -> None:
        self._folder = fleet_dir / "roots"
        self.proposal_path = fleet_dir / _PROPOSED

    def read(self, version: int) -> bytes:
        """Return the root of ``version``.

        Raises:
            FleetError: It cannot be read.
        """
        path = self._path(version)
        with explained(path):
            return path.read_bytes()

    def root(self, version: int) -> Root:
        """Return what the root of ``version`` says.

        Raises:
            FleetError: It cannot be read.
        """
        return parse_root(self.read(version), str(self._path(version))).signed

    def write(self, version: int, data: bytes) -> None:
        """Keep the root of ``version``; it lasts when this returns.

        Raises:
            FleetError: The disk refused.
        """
        write_atomically(self._path(version), data)

    def proposal(self) -> Metadata[Root] | None:
        """Return the root that waits for more signatures, even where another was published since; None for none.

        Raises:
            FleetError: It cannot be read.
        """
        if not self.proposal_path.exists():
            return None
        with explained(self.proposal_path):
            return parse_root(self.proposal_path.read_bytes(), str(self.proposal_path))

    def propose(self, proposed: Metadata[Root]) -> None:
        """Keep ``proposed`` until it has enough signatures.

        Raises:
            FleetError: The disk refused.
        """
        write_atomically(self.proposal_path, proposed.to_bytes())

    def discard(self) -> None:
        """Forget what was proposed, if anything was."""
        with explained(self.proposal_path):
            self.proposal_path.unlink(missing_ok=True)
        sync_folder(self.proposal_path.parent)

    def _path(self, version: int) -> Path:
        return self._folder / f"{version}.root.json"
