"""From trusted metadata to what this device shall run.

Decides which documents are a device's (all, its groups', its own), and what keeps one model of it from being
installed without keeping the others from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeferry.agent.state import slot_of
from edgeferry.agent.trust.errors import MissingError
from edgeferry.agent.trust.updater import BlobSource, DeviceUpdater, take, target_ref
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import (
    MAX_DOCUMENT_BYTES,
    MAX_MANIFEST_BYTES,
    ArtifactManifest,
    BlobRef,
    DesiredDocument,
    DifferenceRef,
    ModelWish,
    Wish,
    all_document_path,
    decode_document,
    decode_manifest,
    device_document_path,
    group_document_path,
    manifest_path,
    merge_documents,
    offered_differences,
)
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["Missing", "Resolved", "resolve"]


@dataclass(frozen=True, slots=True)
class Missing:
    """What has to be fetched before anything can be said.

    Attributes:
        blobs: Wanted blobs; all that can be known by now.
        roots: Wanted versions of the root; they are retained messages, so waiting brings them, or nobody has them.
    """

    blobs: tuple[BlobRef, ...]
    roots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the signed documents say to this device.

    Attributes:
        wishes: What to run, by slot (see `state.slot_of`); what is in no document is to be unloaded.
        manifests: The manifest of each wish, by slot.
        refusals: What is wished and cannot be had: the version and why, by slot. It has no entry in ``wishes``.
        groups: The groups of this device.
        generation: Version of the timestamp.
        root_version: Version of the root.
        expires_ms: When the first of the metadata expires that this rests on.
        issued_ms: When the timestamp was signed; the time is later than that. 0 when it does not say.
        documents: SHA-256 of every blob that was read; as long as they are kept, a restart needs no network.
        metadata: Why nothing new may be installed although all of this was verified once; None when it may.
        differences: How blobs of the wished artifacts can be made from older ones.
    """

    wishes: dict[str, ModelWish]
    manifests: dict[str, ArtifactManifest]
    refusals: dict[str, tuple[int, Problem]]
    groups: tuple[str, ...]
    generation: int
    root_version: int
    expires_ms: int
    issued_ms: int
    documents: frozenset[str]
    metadata: Problem | None = None
    differences: tuple[DifferenceRef, ...] = ()


@dataclass(slots=True)
class _Targets:
    """Reads target files, and notes which blobs they were and which differences they come with."""

    updater: DeviceUpdater
    blob: BlobSource
    read: dict[str, BlobRef] = field(default_factory=dict)
    differences: dict[str, tuple[DifferenceRef, ...]] = field(default_factory=dict)

    def get(self, paths: Iterable[str], *, max_bytes: int) -> dict[str, bytes]:
        """Return the bytes of those of ``paths`` that are listed.

        Raises:
            MissingError: Something is not here; it names all that is known to be missing.
            RepositoryError: Metadata failed to verify.
        """
        found: dict[str, bytes] = {}
        missing: dict[BlobRef, None] = {}
        for path in paths:
            try:
                target = self.updater.get_targetinfo(path)
                if target is not None:
                    self.read[path] = target_ref(target, max_bytes=max_bytes)
                    self.differences[path] = offered_differences(target.custom)
                    found[path] = take(self.blob, self.read[path])
            except MissingError as err:
                missing |= dict.fromkeys(err.blobs)
        if missing:
            raise MissingError(tuple(missing))
        return found


def resolve(updater: DeviceUpdater, blob: BlobSource, *, device: str, profile: str) -> Resolved:
    """Return what the documents say to ``device``.

    Args:
        updater: Refreshed.
        blob: Gives the bytes of blobs.
        device: Id of this device.
        profile: Name of its profile.

    Raises:
        MissingError: Blobs are not here yet.
        RepositoryError: Metadata failed to verify.
        WireError: A document cannot be understood.
    """
    targets = _Targets(updater, blob)
    wished, groups = _wishes(targets, device)
    wishes, manifests, refusals = _bound(targets, profile, wished)
    timestamp = updater.timestamp
    return Resolved(
        wishes=wishes,
        manifests=manifests,
        refusals=refusals,
        groups=groups,
        generation=timestamp.version if timestamp else 0,
        root_version=updater.root_version,
        expires_ms=int(updater.earliest_expiry().timestamp() * 1000),
        issued_ms=updater.issued_ms,
        documents=frozenset(ref.sha256 for ref in [*updater.metadata_blobs(), *targets.read.values()]),
        differences=tuple(one for offered in targets.differences.values() for one in offered),
    )


def _wishes(targets: _Targets, device: str) -> tuple[dict[str, Wish], tuple[str, ...]]:
    own, everyone = device_document_path(device), all_document_path()
    documents = _documents(targets, [own, everyone])
    groups = documents[own].groups if own in documents else ()
    of_groups = _documents(targets, map(group_document_path, groups))
    grouped = {group: of_groups[path] for group in groups if (path := group_document_path(group)) in of_groups}
    return merge_documents(documents.get(everyone), grouped, documents.get(own)), groups


def _documents(targets: _Targets, paths: Iterable[str]) -> dict[str, DesiredDocument]:
    return {path: decode_document(data) for path, data in targets.get(paths, max_bytes=MAX_DOCUMENT_BYTES).items()}


def _bound(
    targets: _Targets, profile: str, wished: dict[str, Wish]
) -> tuple[dict[str, ModelWish], dict[str, ArtifactManifest], dict[str, tuple[int, Problem]]]:
    """Bind each wish to the manifest of this device's profile, or to the problem with it."""
    versions = [
        (model, label, version) for model, wish in wished.items() for label, version in sorted(wish.labels.items())
    ]
    paths = {(model, version): manifest_path(model, version, profile) for model, _, version in versions}
    data = targets.get(paths.values(), max_bytes=MAX_MANIFEST_BYTES)
    wishes: dict[str, ModelWish] = {}
    manifests: dict[str, ArtifactManifest] = {}
    refusals: dict[str, tuple[int, Problem]] = {}
    for model, label, version in versions:
        slot, path = slot_of(model, label), paths[model, version]
        found = _manifest(data.get(path), model, version, profile)
        if isinstance(found, Problem):
            refusals[slot] = (version, found)
            continue
        manifests[slot] = found
        wishes[slot] = wished[model].bound(model, label, targets.read[path])
    return wishes, manifests, refusals


def _manifest(data: bytes | None, model: str, version: int, profile: str) -> ArtifactManifest | Problem:
    if data is None:
        detail = (
            f"{model} {version} has no artifact for profile {profile}; convert it for that profile and push it again"
        )
        return Problem(Code.NOT_FOUND, Reason.NO_ARTIFACT_FOR_PROFILE, detail)
    try:
        manifest = decode_manifest(data)
    except WireError as err:
        return Problem(Code.INVALID_ARGUMENT, Reason.MANIFEST_MISMATCH, f"{model} {version}: {err}")
    says = (manifest.name, manifest.version, manifest.profile)
    if says != (model, version, profile):
        detail = f"the manifest of {model} {version} for {profile} says it is for {says[0]} {says[1]} for {says[2]}"
        return Problem(Code.INVALID_ARGUMENT, Reason.MANIFEST_MISMATCH, detail)
    return manifest
