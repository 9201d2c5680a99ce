"""A fleet and its devices without a network: what one publishes, the other follows, through dictionaries.

`Fleet` is a real repository with a clock of its own. `Broker` is what the network holds of it, to be altered at will.
`Device` is a real trust client with the blobs that it has fetched. `forged` is what a holder of some keys can publish.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from edgeferry.agent.trust import Missing, Resolved, TrustClient, TrustError
from edgeferry.fleet.keys import KeyFolder, KeyRole
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import (
    ArtifactManifest,
    BlobRef,
    ManifestBlob,
    SelfTestSpec,
    TensorSpec,
    block_sha256s,
    device_document_path,
)
from edgeferry.wire.messages import Reason

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROFILE = "raspberry-pi-4"


def write_artifact(
    folder: Path, name: str = "digits", version: int = 1, profile: str = PROFILE, *, salt: str = ""
) -> Path:
    """Write ``folder/name/version/profile`` with bytes in the place of a model; return ``folder/name/version``."""
    place = folder / name / str(version) / profile
    place.mkdir(parents=True, exist_ok=True)
    contents = {"model.tflite": f"model {name} {version} {profile}{salt}".encode() * 3000, "selftest.npz": b"golden"}
    for file, data in contents.items():
        (place / file).write_bytes(data)
    tensor = TensorSpec("x", "FP32", (1, 4))
    manifest = ArtifactManifest(
        format=1,
        name=name,
        version=version,
        profile=profile,
        scheme="int8",
        blobs=(
            _blob("model", "model.tflite", contents["model.tflite"]),
            _blob("selftest", "selftest.npz", contents["selftest.npz"]),
        ),
        inputs=(tensor,),
        outputs=(tensor,),
        selftest=SelfTestSpec(samples=1),
    )
    (place / "artifact.json").write_bytes(encode(manifest))
    return place.parent


def _blob(role: str, path: str, data: bytes) -> ManifestBlob:
    size = 64 * 1024
    return ManifestBlob(
        role=role,
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        block_bytes=size,
        block_sha256s=block_sha256s([data[at : at + size] for at in range(0, len(data), size)]),
    )


@dataclass
class Broker:
    """What the network offers: roots, a timestamp, and blobs by their hash."""

    roots: dict[int, bytes]
    timestamp: bytes
    blob: Callable[[str], bytes | None]
    altered: dict[str, bytes | None] = field(default_factory=dict)

    def give(self, ref: BlobRef) -> bytes | None:
        return self.altered[ref.sha256] if ref.sha256 in self.altered else self.blob(ref.sha256)

    def put(self, data: bytes) -> BlobRef:
        ref = BlobRef(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        self.altered[ref.sha256] = data
        return ref


class Fleet:
    """A repository in ``folder`` with a clock that only moves when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.folder = folder / "fleet"
        self.artifacts = folder / "artifacts"
        self.repository = Repository.create(self.folder, now=self.now)

    @property
    def now_ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    def wait(self, **time: float) -> None:
        self.now += timedelta(**time)

    def enroll(self, device: str, *groups: str, profile: str = PROFILE) -> None:
        self.repository.inventory.add(device, profile, groups)
        self.publish()

    def push(
        self, version: int, to: str = "all", *, name: str = "digits", profile: str = PROFILE, retry: bool = False
    ) -> None:
        self.repository.add_artifacts(write_artifact(self.artifacts, name, version, profile))
        self.repository.wish(name, version, to, retry=retry)
        self.publish()

    def publish(self) -> int:
        self.wait(seconds=1)
        return self.repository.publish(self.now)

    def rotate(self, role: KeyRole) -> None:
        """Replace the keys of `role`; all root keys are here, so it is published."""
        assert Rekeying(self.repository).rotate(role, self.now)

    def broker(self) -> Broker:
        """Return what is published now; it stays as it is when more is published."""
        return Broker(self.repository.roots(), self.repository.timestamp(), self.blob)

    def blob(self, sha256: str) -> bytes | None:
        path = self.repository.blob_path(sha256)
        return path.read_bytes() if path else None

    def publication(self) -> Publication:
        return Publication.load(self.folder)

    def bin_of(self, device: str) -> str:
        """Return the name of the role that lists a device's document."""
        targets = Metadata[Targets].from_bytes(self.blob(self.publication().targets.sha256) or b"").signed
        assert targets.delegations
        assert targets.delegations.succinct_roles
        return targets.delegations.succinct_roles.get_role_for_target(device_document_path(device))

    def signers(self, role: KeyRole) -> list[CryptoSigner]:
        """Return the keys of ``role``: what a thief of the fleet folder has."""
        root = Metadata[Root].from_bytes(max(self.repository.roots().items())[1]).signed
        targets = Metadata[Targets].from_bytes(self.blob(self.publication().targets.sha256) or b"").signed
        assert targets.delegations
        assert targets.delegations.succinct_roles
        keyids = targets.delegations.succinct_roles.keyids if role is KeyRole.DOCUMENTS else root.roles[role].keyids
        return KeyFolder(self.folder / "keys").signers(role, keyids)


@dataclass
class Followed:
    """What it took a device to get to the end."""

    resolved: Resolved
    rounds: int
    fetched_bytes: int


class Device:
    """A trust client, the blobs that it has fetched, and the files that it keeps."""

    def __init__(self, work_dir: Path, root: bytes, name: str = "cam-1", profile: str = PROFILE) -> None:
        self.name, self.profile, self.root = name, profile, root
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self._work_dir = work_dir / name
        self.boot()

    def boot(self) -> None:
        """Start anew from what was kept."""
        self.client = TrustClient(
            device=self.name,
            profile=self.profile,
            files=self.files,
            bootstrap_root=self.root,
            work_dir=self._work_dir,
        )

    def look(self, broker: Broker, now_ms: int, *, final: bool = True) -> Resolved | Missing:
        """Look at the metadata once, without fetching anything; what is believed is kept."""
        try:
            return self.client.refresh(
                roots=broker.roots,
                timestamp=broker.timestamp,
                blob=lambda ref: self.blobs.get(ref.sha256),
                now_ms=now_ms,
                final=final,
            )
        finally:
            self.files = self.client.files()

    def follow(self, broker: Broker, now_ms: int) -> Followed:
        """Look and fetch until nothing is missing."""
        fetched_bytes = 0
        for rounds in range(20):
            seen = self.look(broker, now_ms)
            if isinstance(seen, Resolved):
                return Followed(seen, rounds, fetched_bytes)
            assert seen.blobs, "neither an answer nor anything to fetch"
            fetched_bytes += sum(ref.size_bytes for ref in seen.blobs)
            for ref in seen.blobs:
                data = broker.give(ref)
                assert data is not None, f"nobody has {ref}"
                self.blobs[ref.sha256] = data
        raise AssertionError("still missing something after 20 rounds")

    def remember(self, now_ms: int) -> Resolved | None:
        """Return what it believes without any network."""
        return self.client.resolve_trusted(lambda ref: self.blobs.get(ref.sha256), now_ms)


Edit = Callable[[Signed], None]


def forged(fleet: Fleet, edits: Mapping[str, Edit], signed_by: Mapping[str, list[Signer]] | None = None) -> Broker:
    """Return what `fleet` would offer with some metadata edited and everything above it signed to match.

    Args:
        fleet: The true one.
        edits: What to change, by name of the role; the version has risen by one before.
        signed_by: Who signs a role in the place of the true keys.
    """
    broker, publication = fleet.broker(), fleet.publication()
    files = {**publication.bins, Targets.type: publication.targets}
    metas: dict[str, MetaFile] = {}

    def sign(role: str, key_role: KeyRole, data: bytes | None, change: Edit) -> tuple[Metadata, bytes]:
        metadata: Metadata = Metadata.from_bytes(data or b"")
        metadata.signed.version += 1
        change(metadata.signed)
        metadata.signatures.clear()
        for signer in (signed_by or {}).get(role, fleet.signers(key_role)):
            metadata.sign(signer, append=True)
        return metadata, metadata.to_bytes()

    def meta(metadata: Metadata, data: bytes) -> MetaFile:
        ref = broker.put(data)
        return MetaFile(metadata.signed.version, ref.size_bytes, {"sha256": ref.sha256})

    for role in [name for name in edits if name in files]:
        key_role = KeyRole.TARGETS if role == Targets.type else KeyRole.DOCUMENTS
        metas[f"{role}.json"] = meta(*sign(role, key_role, fleet.blob(files[role].sha256), edits[role]))

    def snapshot_edit(signed: Signed) -> None:
        assert isinstance(signed, Snapshot)
        signed.meta.update(metas)
        edits.get(Snapshot.type, lambda _: None)(signed)

    snapshot = meta(*sign(Snapshot.type, KeyRole.SNAPSHOT, fleet.blob(publication.snapshot.sha256), snapshot_edit))

    def timestamp_edit(signed: Signed) -> None:
        assert isinstance(signed, Timestamp)
        signed.snapshot_meta = snapshot
        edits.get(Timestamp.type, lambda _: None)(signed)

    _, broker.timestamp = sign(Timestamp.type, KeyRole.TIMESTAMP, broker.timestamp, timestamp_edit)
    return broker


def nothing(_signed: Signed) -> None:
    """Change nothing but the version."""


def refused(device: Device, broker: Broker, now_ms: int) -> TrustError:
    """Return why ``broker`` is refused, and make sure that the device believes what it did before."""
    before = device.remember(now_ms)
    with pytest.raises(TrustError) as error:
        device.follow(broker, now_ms)
    after = device.remember(now_ms)
    assert before
    assert after
    assert (after.wishes, after.manifests, after.generation) == (before.wishes, before.manifests, before.generation)
    return error.value


def reason(device: Device, broker: Broker, now_ms: int) -> Reason:
    return refused(device, broker, now_ms).problem.reason
