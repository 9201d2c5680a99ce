"""How a fleet begins: keys, the first root, empty documents, all signed and published at once."""

from datetime import datetime
from pathlib import Path

from edgeferry.fleet.blobs import BlobFolder, blob_ref
from edgeferry.fleet.documents import ListedFile, Plan
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.files import folder_lock, make_folder, write_atomically
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.keys import KeyFolder, KeyRole
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.signing import LIFETIMES, Signing, empty_root

__all__ = ["found", "root_path"]


def found(fleet_dir: Path, now: datetime) -> None:
    """Make the files of a fleet without models in ``fleet_dir``; what was begun and interrupted is begun again.

    Raises:
        UsageError: There is a fleet already.
        FleetError: The disk refused.
    """
    for folder in ("roots", "blobs"):
        make_folder(fleet_dir / folder)
    make_folder(fleet_dir / "keys", mode=0o700)
    with folder_lock(fleet_dir / "lock"):
        if Publication.exists(fleet_dir):
            raise UsageError(f"{fleet_dir}: there is a fleet already; choose another folder, or keep using it")
        _publish(fleet_dir, now)


def root_path(fleet_dir: Path, version: int) -> Path:
    """Return where the root of ``version`` is kept."""
    return fleet_dir / "roots" / f"{version}.root.json"


def _publish(fleet_dir: Path, now: datetime) -> None:
    keys = KeyFolder(fleet_dir / "keys")
    public = {role: keys.create(role).public_key for role in KeyRole}
    root = empty_root(public, now + LIFETIMES[KeyRole.ROOT])
    signing = Signing(keys, root, (public[KeyRole.DOCUMENTS],), now, LIFETIMES)
    plan = Plan()
    documents = plan.documents(Inventory.load(fleet_dir).devices.values())
    publication = signing.publication(
        None, plan, {path: ListedFile.of(blob_ref(data)) for path, data in documents.items()}
    )
    BlobFolder(fleet_dir / "blobs").put([*documents.values(), *signing.blobs])
    write_atomically(root_path(fleet_dir, 1), signing.signed_root())
    publication.save(fleet_dir)
