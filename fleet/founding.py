"""How a fleet begins: keys, the first root, empty documents, all signed and published at once."""

from datetime import datetime
from pathlib import Path

from edgeferry.fleet.blobs import BlobFolder, blob_ref
from edgeferry.fleet.documents import ListedFile, Plan
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.files import folder_lock, make_folder
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.keys import KeyFolder, KeyRole
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.root_folder import RootFolder
from edgeferry.fleet.roots import empty_root
from edgeferry.fleet.signing import LIFETIMES, Signing

__all__ = ["found"]


def found(fleet_dir: Path, now: datetime, passphrase: Passphrase) -> None:
    """Make the files of a fleet without models in ``fleet_dir``; what was begun and interrupted is begun again.

    Keys are locked where ``passphrase`` is given.

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
        _publish(fleet_dir, now, passphrase)


def _publish(fleet_dir: Path, now: datetime, passphrase: Passphrase) -> None:
    keys = KeyFolder(fleet_dir / "keys", passphrase)
    public = {role: keys.create(role).public_key for role in KeyRole}
    root = empty_root(public, now + LIFETIMES[KeyRole.ROOT])
    signing = Signing(keys, root, (public[KeyRole.DOCUMENTS],), now, LIFETIMES)
    plan = Plan()
    documents = plan.documents(Inventory.load(fleet_dir).devices.values())
    publication = signing.publication(
        None, plan, {path: ListedFile.of(blob_ref(data)) for path, data in documents.items()}
    )
    BlobFolder(fleet_dir / "blobs").put([*documents.values(), *signing.blobs])
    RootFolder(fleet_dir).write(1, signing.signed_root())
    publication.save(fleet_dir)
