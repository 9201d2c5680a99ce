"""The fleet folder: what the operator has decided, signed and published, and every blob that devices may ask for.

    published.json   the one switch: it names everything below, and is replaced in one step
    roots/           root metadata by version; proposed.root.json beside it waits for signatures
    blobs/           snapshot, targets, bins, documents, manifests, models: bytes named by their SHA-256
    keys/            private keys, mode 0600, some of them locked
    inventory.json   the devices
    lock             held by a command while it changes any of these

A command collects wishes, which are checked at once, and `publish` signs them: under the lock, on top of what is
published by then. Blobs and roots are written first, `published.json` last: a command that dies in between leaves what
was published before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Root

from edgeferry.fleet.artifacts import checked_blocks, read_artifacts
from edgeferry.fleet.blobs import BlobFolder, blob_ref
from edgeferry.fleet.differences import worthwhile_difference
from edgeferry.fleet.documents import Canary, ListedFile, Plan, PublishedManifest
from edgeferry.fleet.files import folder_lock
from edgeferry.fleet.founding import found
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.keys import KeyFolder, KeyRole
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.root_folder import RootFolder
from edgeferry.fleet.signing import LIFETIMES, RENEWED_BEFORE, Signing, document_keys_of
from edgeferry.wire.desired import ArtifactManifest, BlobRef, DifferenceRef, Wish, decode_manifest

__all__ = ["Repository"]

_Change = Callable[[Plan, Inventory], Plan]


class Repository:
    """A fleet folder, as one command or one origin sees it. What only reads may be called by any thread."""

    def __init__(
        self,
        fleet_dir: Path,
        publication: Publication,
        inventory: Inventory,
        *,
        lock_timeout_s: float = 10.0,
        passphrase: Passphrase | None = None,
    ) -> None:
        self.inventory = inventory
        self.keys = KeyFolder(fleet_dir / "keys", passphrase)
        self.root_folder = RootFolder(fleet_dir)
        self._folder = fleet_dir
        self._lock_timeout_s = lock_timeout_s
        self._blobs = BlobFolder(fleet_dir / "blobs")
        self._published = publication
        self._plan = publication.plan
        self._changes: list[_Change] = []

    @classmethod
    def create(cls, fleet_dir: Path, *, now: datetime, passphrase: Passphrase | None = None) -> "Repository":
        """Make a fleet in ``fleet_dir``, with new keys, no devices and no models.

        The keys of root, targets and documents are locked where ``passphrase`` is given.

        Raises:
            UsageError: There is one already.
            FleetError: The disk refused.
        """
        found(fleet_dir, now.astimezone(UTC), passphrase or Passphrase())
        return cls.open(fleet_dir, passphrase=passphrase)

    @classmethod
    def open(
        cls, fleet_dir: Path, *, lock_timeout_s: float = 10.0, passphrase: Passphrase | None = None
    ) -> "Repository":
        """Return the fleet in ``fleet_dir``.

        Args:
            fleet_dir: The fleet folder.
            lock_timeout_s: How long to wait when another command is changing the fleet.
            passphrase: Opens the keys that are locked.

        Raises:
            ConfigurationError: There is none, or it cannot be read.
        """
        return cls(
            fleet_dir,
            Publication.load(fleet_dir),
            Inventory.load(fleet_dir),
            lock_timeout_s=lock_timeout_s,
            passphrase=passphrase,
        )

    @property
    def generation(self) -> int:
        """Return the version of the published timestamp."""
        return self._published.timestamp.version

    def reload(self) -> bool:
        """Take over what other commands have published and return whether they have; own wishes stay on top.

        Raises:
            FleetError: It cannot be read, or contradicts a wish that is not published yet.
        """
        before = self._published
        self._published = Publication.load(self._folder)
        self.inventory.reload()
        self._plan = self._replayed()
        return self._published.timestamp != before.timestamp

    def roots(self) -> dict[int, bytes]:
        """Return all root metadata by version."""
        return {version: self.root_folder.read(version) for version in range(1, self._published.root_version + 1)}

    def timestamp(self) -> bytes:
        """Return the published timestamp."""
        return self._blobs.read(self._published.timestamp.ref())

    def expiries(self) -> dict[KeyRole, datetime]:
        """Return when the first metadata of each role expires."""
        published = self._published
        times_ms = {
            KeyRole.TARGETS: published.targets.expires_ms,
            KeyRole.DOCUMENTS: min(file.expires_ms for file in published.bins.values()),
            KeyRole.SNAPSHOT: published.snapshot.expires_ms,
            KeyRole.TIMESTAMP: published.timestamp.expires_ms,
        }
        times = {role: datetime.fromtimestamp(time_ms / 1000, UTC) for role, time_ms in times_ms.items()}
        return {KeyRole.ROOT: self.root().expires, **times}

    def overdue(self, now: datetime) -> dict[KeyRole, datetime]:
        """Return when metadata expires, by role, where somebody should have renewed it by now."""
        return {role: at for role, at in self.expiries().items() if at - now < RENEWED_BEFORE[role]}

    def open_keys(self) -> None:
        """Open the keys that sign documents, so that a passphrase is asked for, and known, before anything is done.

        Raises:
            ConfigurationError: One of them cannot be opened.
        """
        self.keys.signers(KeyRole.DOCUMENTS, [key.keyid for key in self.document_keys()])

    def root(self) -> Root:
        """Return what the newest root says."""
        return self.root_folder.root(self._published.root_version)

    def document_keys(self) -> tuple[Key, ...]:
        """Return the keys that sign documents; each of them alone may."""
        return document_keys_of(self._blobs.read(self._published.targets.ref()))

    def blob_path(self, sha256: str) -> Path | None:
        """Return the file of a blob, of whatever kind, or None when it is not here. Any thread may call this."""
        return self._blobs.path(sha256)

    def versions(self, model: str) -> tuple[int, ...]:
        """Return all versions of ``model``, ascending; none for a model that was never added."""
        return tuple(sorted(self._plan.manifests.get(model, {})))

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, sorted."""
        return tuple(sorted(self._plan.manifests))

    def manifests(self, model: str, version: int) -> dict[str, ArtifactManifest]:
        """Return the manifests of one version by profile.

        Raises:
            UsageError: There is no such model or version.
        """
        refs = self.manifest_refs(model, version)
        return {profile: decode_manifest(self._blobs.read(ref)) for profile, ref in refs.items()}

    def manifest_refs(self, model: str, version: int) -> dict[str, BlobRef]:
        """Return the manifests of one version by profile, as what devices know them by.

        Raises:
            UsageError: There is no such model or version.
        """
        return dict(sorted(self._plan.manifests_of(model, version).items()))

    def wishes_of(self, device_id: str) -> dict[str, Wish]:
        """Return what a device shall run, by model, with the wishes that are not published yet.

        Raises:
            UsageError: There is no such device.
        """
        return self._plan.wishes_of(self.inventory.device(device_id))

    def add_artifacts(self, folder: Path) -> list[ArtifactManifest]:
        """Take in ``DIR/NAME/N``: check every hash, keep every blob, and list the version when it is published.

        Raises:
            ArtifactError: The folder is not whole, or the version was published with other bytes.
        """
        artifacts = read_artifacts(folder)
        for artifact in artifacts:
            for blob in artifact.manifest.blobs:
                self._blobs.put_blocks(blob.ref(), checked_blocks(artifact, blob))
        self._blobs.put(artifact.data for artifact in artifacts)
        for artifact in artifacts:
            manifest = artifact.manifest
            added = PublishedManifest(manifest.name, manifest.version, manifest.profile, blob_ref(artifact.data))
            self._change(_adding(added))
        return [artifact.manifest for artifact in artifacts]

    def differences_to(self, manifest: BlobRef) -> tuple[DifferenceRef, ...]:
        """Return how the blobs of ``manifest`` can be made from older ones, as far as that was found out."""
        return self._plan.differences.get(manifest.sha256, ())

    def offer_difference(self, manifest: BlobRef, base: BlobRef, made: BlobRef) -> bool:
        """Compare two blobs, and when it is worthwhile offer the difference to devices that take ``manifest``.

        Raises:
            FleetError: A blob is missing or damaged, or the disk refused.
        """
        difference = worthwhile_difference(self._blobs.read(base), self._blobs.read(made))
        if difference is None:
            return False
        self._blobs.put([difference])
        ref = blob_ref(difference)
        offer = DifferenceRef(base.sha256, made.sha256, ref.sha256, ref.size_bytes)
        self._change(lambda plan, _inventory: plan.with_differences(manifest, [offer]))
        return True

    def wish(
        self,
        model: str,
        version: int,
        to: str,
        *,
        canary: Canary | None = None,
        previous: int = 0,
        retry: bool = False,
    ) -> None:
        """Wish that ``to`` shall run ``version`` of ``model``; wishes for anything within ``to`` give way.

        Args:
            model: A model of this fleet.
            version: Of the model; what answers.
            to: ``all``, ``group:NAME`` or a device.
            canary: What answers a share of the requests beside it.
            previous: A version that stays loaded; 0 for none.
            retry: Have it tried again where the newest of these versions has failed before.

        Raises:
            UsageError: A name does not exist, or two groups of a device would name the model.
        """

        def change(plan: Plan, inventory: Inventory) -> Plan:
            devices, scope = inventory.devices.values(), inventory.scope(to)
            return plan.with_wish(model, version, scope, devices, canary=canary, previous=previous, retry=retry)

        self._change(change)

    def unwish(self, model: str, to: str) -> None:
        """Withdraw the wishes of ``to``, and of anything within it, for ``model``.

        Raises:
            UsageError: A name does not exist, or nothing there names the model.
        """
        self._change(lambda plan, inventory: plan.without_wish(model, inventory.scope(to), inventory.devices.values()))

    def publish(self, now: datetime, *, lifetime: timedelta = LIFETIMES[KeyRole.TIMESTAMP], asks: bool = False) -> int:
        """Sign and publish all wishes and the inventory as it is; return the generation.

        Metadata that has lived half of its life is renewed too, where its keys are at hand. When there is nothing to
        say, nothing is signed.

        Args:
            now: The time; where this clock is behind the last signature, the time of that.
            lifetime: Of snapshot and timestamp; shorter where a daemon renews them.
            asks: Have a passphrase asked for what could be renewed later, too.

        Raises:
            UsageError: Another command has published something that contradicts a wish.
            FleetError: A key is missing, the folder is in use, or the disk refused; what was published stays.
        """
        with self.signing(now, lifetime) as signing:
            signing.asks = asks
        return self.generation

    def renew(self, now: datetime, *, lifetime: timedelta = LIFETIMES[KeyRole.TIMESTAMP], asks: bool = False) -> bool:
        """Publish, and return whether anything was signed: at the latest what has lived half of its life.

        Raises:
            FleetError: As `publish` does.
        """
        before = self.generation
        return self.publish(now, lifetime=lifetime, asks=asks) != before

    def _change(self, change: _Change) -> None:
        self._plan = change(self._plan, self.inventory)
        self._changes.append(change)

    def _replayed(self) -> Plan:
        plan = self._published.plan
        for change in self._changes:
            plan = change(plan, self.inventory)
        return plan

    @contextmanager
    def signing(self, now: datetime, lifetime: timedelta = LIFETIMES[KeyRole.TIMESTAMP]) -> Iterator[Signing]:
        """Yield a go at signing on top of what is published; what it signs is published when the block ends well.

        Raises:
            FleetError: As `publish` does.
        """
        with folder_lock(self._folder / "lock", timeout_s=self._lock_timeout_s):
            self.reload()
            signing = self._signing(now, lifetime)
            yield signing
            self._publish(signing)

    def _signing(self, now: datetime, lifetime: timedelta) -> Signing:
        issued = datetime.fromtimestamp(self._published.issued_ms / 1000, UTC)
        return Signing(
            keys=self.keys,
            root=self.root(),
            document_keys=self.document_keys(),
            now=max(now.astimezone(UTC), issued),
            lifetimes={**LIFETIMES, KeyRole.SNAPSHOT: lifetime, KeyRole.TIMESTAMP: lifetime},
        )

    def _publish(self, signing: Signing) -> None:
        devices = self.inventory.devices.values()
        plan = self._plan.pruned(devices)
        plan.check(devices)
        if root := signing.new_root(self.root()):
            self.root_folder.write(signing.root.version, root)
        documents = plan.documents(devices)
        files = {path: ListedFile.of(blob_ref(data)) for path, data in documents.items()} | plan.listed_manifests()
        publication = signing.publication(self._published, plan, files)
        self._blobs.put([*documents.values(), *signing.blobs])
        if publication != self._published:
            publication.save(self._folder)
        self._published, self._plan = publication, plan
        self._changes.clear()


def _adding(manifest: PublishedManifest) -> _Change:
    return lambda plan, _inventory: plan.with_manifest(manifest)
