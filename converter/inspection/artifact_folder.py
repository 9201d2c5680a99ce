"""Artifact folders: what their manifest says, and whether the files beside it are those that it names."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgeferry.converter.errors import SourceError
from edgeferry.converter.inspection.facts import ArtifactFacts, ArtifactFile
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import MAX_MANIFEST_BYTES, ROLE_MODEL, ManifestBlob, decode_manifest

__all__ = ["ReadArtifact", "find_artifact", "read_artifact"]

MANIFEST = "artifact.json"


@dataclass(frozen=True, slots=True)
class ReadArtifact:
    """An artifact's manifest.

    Attributes:
        model: The path of its ``.tflite``.
    """

    model: Path
    facts: ArtifactFacts


def find_artifact(path: Path) -> Path | None:
    """Return the artifact folder that ``path`` is or, as the only one of a version, has in it; None for anything else.

    Raises:
        SourceError: ``path`` is a version's folder with artifacts for several profiles.
    """
    if not path.is_dir():
        return None
    if (path / MANIFEST).is_file():
        return path
    below = sorted(manifest.parent for manifest in path.glob(f"*/{MANIFEST}"))
    if len(below) > 1:
        names = ", ".join(folder.name for folder in below)
        raise SourceError(f"{path}: has artifacts for several profiles: {names}; name one: {below[0]}")
    return below[0] if below else None


def read_artifact(folder: Path) -> ReadArtifact:
    """Return what the manifest in ``folder`` says.

    Raises:
        SourceError: It cannot be read, or names no model that lies there.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            manifest = decode_manifest(file.read(MAX_MANIFEST_BYTES + 1))
    except WireError as err:
        raise SourceError(f"{path}: {err}; convert the model again") from err
    except OSError as err:
        raise SourceError(f"{path}: cannot be read: {err.strerror}") from err
    facts = ArtifactFacts(
        name=manifest.name,
        version=manifest.version,
        profile=manifest.profile,
        scheme=manifest.scheme,
        files=tuple(_file(folder, blob) for blob in manifest.blobs),
        memory_bytes=manifest.memory_bytes,
        evaluation=dict(manifest.evaluation),
        labels=manifest.labels,
    )
    models = [file.path for file in facts.files if file.role == ROLE_MODEL and file.problem != _MISSING]
    if not models:
        raise SourceError(f"{path}: the model that it names is not there; copy the whole folder, or convert again")
    return ReadArtifact(folder / models[0], facts)


_MISSING = "is missing"


def _file(folder: Path, blob: ManifestBlob) -> ArtifactFile:
    return ArtifactFile(blob.role, blob.path, blob.size_bytes, _problem(folder / blob.path, blob))


def _problem(path: Path, blob: ManifestBlob) -> str:
    if Path(blob.path).name != blob.path or not path.is_file():
        return _MISSING
    found_bytes = path.stat().st_size
    if found_bytes != blob.size_bytes:
        return f"has {found_bytes} bytes, not the manifest's {blob.size_bytes}"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if digest == blob.sha256 else "has another SHA-256 than the manifest says"
