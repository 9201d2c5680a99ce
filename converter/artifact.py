"""The artifact folder: DIR/NAME/N/PROFILE with the model, its manifest, its self-test, and papers for people.

A version is immutable. It is built in a folder beside it and renamed into place, so that nobody ever sees half of one;
made again from the same bytes it stays as it is, and with other bytes it is refused. A profile may be added to it.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeferry.converter.errors import ArtifactError
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import (
    ROLE_MODEL,
    ROLE_SELFTEST,
    ArtifactManifest,
    ManifestBlob,
    block_sha256s,
    decode_manifest,
)

__all__ = ["Draft", "check_writable", "manifest_blob", "next_version", "write_version"]

_MANIFEST = "artifact.json"
_FILES = {ROLE_MODEL: "model.tflite", ROLE_SELFTEST: "selftest.npz"}


@dataclass(frozen=True, slots=True)
class Draft:
    """An artifact that is yet to be written.

    Attributes:
        manifest: Names the blobs in ``files`` by role.
        files: By role, where they are now.
        papers: By file name, what is for people and their tools: report and lock. They go to no device.
    """

    manifest: ArtifactManifest
    files: Mapping[str, Path]
    papers: Mapping[str, bytes]


def manifest_blob(role: str, path: Path) -> ManifestBlob:
    """Return what a manifest says of the file at ``path``."""
    content = path.read_bytes()
    blocks = [content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES)]
    return ManifestBlob(
        role=role,
        path=_FILES[role],
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        block_bytes=BLOCK_BYTES,
        block_sha256s=block_sha256s(blocks),
    )


def check_writable(home: Path) -> None:
    """Do nothing when versions can be written into ``home``, DIR/NAME, which may not exist.

    It is tried for real, in a folder beside whatever is missing, so that nothing is left and nobody else's folder is
    touched.

    Raises:
        ArtifactError: They cannot.
    """
    there = next(folder for folder in (home, *home.parents) if os.path.lexists(folder))
    try:
        with tempfile.TemporaryDirectory(prefix=".trial.", dir=there) as trial:
            folder = trial / home.relative_to(there)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _MANIFEST).write_bytes(b"{}")
    except NotADirectoryError as err:
        raise ArtifactError(f"{home}: cannot be written: {there} is a file; wanted a folder") from err
    except OSError as err:
        raise ArtifactError(f"{home}: cannot be written: {err.strerror or err}") from err


def next_version(folder: Path) -> int:
    """Return the version after the newest one in ``folder``, which may not exist."""
    versions = [int(entry.name) for entry in folder.glob("*") if entry.name.isascii() and entry.name.isdecimal()]
    return max(versions, default=0) + 1


def write_version(folder: Path, drafts: Sequence[Draft]) -> None:
    """Write ``drafts``, one per profile, so that ``folder`` holds all of them or is as it was.

    Args:
        folder: DIR/NAME/N.
        drafts: All of the same model and version.

    Raises:
        ArtifactError: The version holds other bytes for one of the profiles, or the disk refuses.
    """
    new = [draft for draft in drafts if not _is_there(folder, draft)]
    if not new:
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(staging, new)
            _move_into_place(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as err:
        raise ArtifactError(f"{folder}: cannot be written: {err.strerror or err}") from err


def _is_there(folder: Path, draft: Draft) -> bool:
    path = folder / draft.manifest.profile
    if not path.exists():
        return False
    if _identity(path / _MANIFEST) == _blobs(draft.manifest):
        return True
    raise ArtifactError(
        f"{path}: this version exists already with other bytes, and a version never changes; "
        f"leave --model-version out to write version {next_version(folder.parent)}"
    )


def _identity(path: Path) -> dict[str, str] | None:
    try:
        return _blobs(decode_manifest(path.read_bytes()))
    except (OSError, WireError):
        return None


def _blobs(manifest: ArtifactManifest) -> dict[str, str]:
    # The rest of a manifest tells what was measured, which differs from run to run.
    return {blob.role: blob.sha256 for blob in manifest.blobs}


def _fill(staging: Path, drafts: Sequence[Draft]) -> None:
    staging.chmod(0o755)  # mkdtemp made it for one user alone
    for draft in drafts:
        path = staging / draft.manifest.profile
        path.mkdir()
        for role, source in draft.files.items():
            _write(path / _FILES[role], source.read_bytes())
        _write(path / _MANIFEST, msgspec.json.format(msgspec.json.encode(draft.manifest), indent=1) + b"\n")
        for name, content in draft.papers.items():
            _write(path / name, content)
        _sync(path)
    _sync(staging)


def _move_into_place(staging: Path, folder: Path) -> None:
    if not folder.exists():
        staging.rename(folder)
        _sync(folder.parent)
        return
    for path in sorted(staging.iterdir()):
        path.rename(folder / path.name)
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
