"""Artifact folders as the converter writes them: ``DIR/NAME/N`` with one folder per profile.

Decides whether a folder is a whole artifact: every file is there and has the hashes that its manifest names.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeferry.fleet.errors import ArtifactError
from edgeferry.fleet.files import explained, names_in
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import MAX_MANIFEST_BYTES, ArtifactManifest, ManifestBlob, decode_manifest
from edgeferry.wire.topics import check_name

__all__ = ["Artifact", "checked_blocks", "read_artifacts"]

MANIFEST = "artifact.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One model for one profile, on the workstation's disk.

    Attributes:
        folder: Where its files are.
        manifest: What ``artifact.json`` says.
        data: The bytes of ``artifact.json``, which are what gets signed.
    """

    folder: Path
    manifest: ArtifactManifest
    data: bytes


def read_artifacts(folder: Path) -> list[Artifact]:
    """Return the artifacts below ``folder``, one for each profile, in the order of the profiles' names.

    Args:
        folder: ``DIR/NAME/N`` as the converter writes it.

    Raises:
        ArtifactError: It is not such a folder, or a manifest says something else than its place.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: is not a folder; wanted DIR/NAME/N as `edgeferry convert` writes it")
    found = [path for path in names_in(folder) if (path / MANIFEST).is_file()]
    if not found:
        hint = "; give the folder above it" if (folder / MANIFEST).is_file() else ""
        raise ArtifactError(f"{folder}: has no PROFILE/{MANIFEST} below it, so it is not an artifact folder{hint}")
    artifacts = [_read(path) for path in found]
    for artifact in artifacts:
        _check_place(artifact, folder.resolve())
    return artifacts


def _read(folder: Path) -> Artifact:
    path = folder / MANIFEST
    with explained(path), path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        manifest = decode_manifest(data)
        check_name(manifest.profile, what="profile")
    except WireError as err:
        raise ArtifactError(f"{path}: {err}; convert the model again") from err
    return Artifact(folder, manifest, data)


def _check_place(artifact: Artifact, parent: Path) -> None:
    manifest = artifact.manifest
    says = (manifest.name, str(manifest.version), manifest.profile)
    lies = (parent.parent.name, parent.name, artifact.folder.name)
    if says != lies:
        raise ArtifactError(
            f"{artifact.folder / MANIFEST}: is for {'/'.join(says)} but lies in {'/'.join(lies)};"
            " move it to where it belongs, or convert the model again"
        )


def checked_blocks(artifact: Artifact, blob: ManifestBlob) -> Iterator[bytes]:
    """Give the blocks of a blob's file, one after the other, each compared with its hash, and all of them at the end.

    Raises:
        ArtifactError: The file is missing, or has other bytes than the manifest says.
    """
    path = artifact.folder / blob.path
    if Path(blob.path).name != blob.path or not path.is_file():
        raise ArtifactError(f"{path}: is named by {MANIFEST} but is not there; convert the model again")
    digests = blob.digests()
    whole = hashlib.sha256()
    with explained(path), path.open("rb") as file:
        for index, block in enumerate(iter(lambda: file.read(blob.block_bytes), b"")):
            if hashlib.sha256(block).digest() != digests[index * 32 : index * 32 + 32]:
                raise ArtifactError(_differs(path, f"its block {index} has another SHA-256"))
            whole.update(block)
            yield block
        size_bytes = file.tell()
    if (whole.hexdigest(), size_bytes) != (blob.sha256, blob.size_bytes):
        raise ArtifactError(_differs(path, f"{size_bytes} bytes, SHA-256 {whole.hexdigest()[:12]}..."))


def _differs(path: Path, found: str) -> str:
    return f"{path}: differs from its {MANIFEST}: {found}; it was changed after the conversion: convert the model again"
