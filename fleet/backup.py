"""A fleet folder without its models, as one sealed file; and back.

Keys, passwords, settings, inventory, roots and everything that is published are in it, so that a new machine can go on
where the old one was. Models are not: they are large, no secret, and pushing them again brings them back.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from edgeferry.fleet.errors import ConfigurationError, UsageError
from edgeferry.fleet.files import PRIVATE, explained, make_folder, write_atomically
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.sealing import SealError, seal, unseal

__all__ = ["MAX_BACKUP_BYTES", "back_up", "restore"]

MAX_BACKUP_BYTES = 1 << 30
_LEFT_OUT = {"lock", "blobs"}


class _File(msgspec.Struct, frozen=True, array_like=True):
    mode: int
    data: bytes


class _Backup(msgspec.Struct, frozen=True):
    format: int
    files: dict[str, _File]


def back_up(fleet_dir: Path, publication: Publication, passphrase: bytes) -> tuple[bytes, int]:
    """Return the backup of the fleet in ``fleet_dir``, and how many files are in it. The caller holds the lock.

    Raises:
        FleetError: A file cannot be read.
    """
    files = {}
    for path in _paths(fleet_dir, publication):
        with explained(path):
            files[path.relative_to(fleet_dir).as_posix()] = _File(path.stat().st_mode & 0o777, path.read_bytes())
    packed = zlib.compress(msgspec.msgpack.encode(_Backup(1, files)))
    return seal(packed, passphrase), len(files)


def restore(data: bytes, passphrase: bytes, fleet_dir: Path) -> int:
    """Make the fleet folder of a backup in ``fleet_dir`` and return how many files it has; ``published.json`` is last.

    Raises:
        UsageError: Something is there already.
        ConfigurationError: It is no backup, or the passphrase is another one.
        FleetError: The disk refused.
    """
    if fleet_dir.exists() and any(fleet_dir.iterdir()):
        raise UsageError(
            f"{fleet_dir}: is not empty, and a backup overwrites nothing; name an empty folder: --fleet DIR"
        )
    files = _unpacked(data, passphrase)
    for name in sorted(files, key=lambda name: name == "published.json"):
        path = fleet_dir / name
        is_secret = PurePosixPath(name).parts[0] in {"keys", "secrets"}
        make_folder(fleet_dir)
        make_folder(path.parent, mode=0o700 if is_secret else 0o755)
        write_atomically(path, files[name].data, mode=PRIVATE if is_secret else files[name].mode & 0o755)
    return len(files)


def _paths(fleet_dir: Path, publication: Publication) -> Iterator[Path]:
    for path in sorted(fleet_dir.rglob("*")):
        if path.is_file() and path.relative_to(fleet_dir).parts[0] not in _LEFT_OUT and not path.name.endswith(".new"):
            yield path
    for file in (publication.timestamp, publication.snapshot, publication.targets, *publication.bins.values()):
        yield fleet_dir / "blobs" / file.sha256
    versions = (version for model in publication.plan.manifests.values() for version in model.values())
    manifests = {ref.sha256 for version in versions for ref in version.values()}
    for sha256 in sorted(manifests | {ref.sha256 for ref in publication.files.values()}):
        yield fleet_dir / "blobs" / sha256


def _unpacked(data: bytes, passphrase: bytes) -> dict[str, _File]:
    try:
        inflating = zlib.decompressobj()
        packed = inflating.decompress(unseal(data, passphrase), MAX_BACKUP_BYTES)
        backup = msgspec.msgpack.decode(packed, type=_Backup)
    except SealError as err:
        raise ConfigurationError(f"the backup {err}") from err
    except (zlib.error, msgspec.DecodeError) as err:
        raise ConfigurationError(f"the backup cannot be understood: {err}") from err
    for name in backup.files:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise ConfigurationError(f"the backup names a file outside of the fleet folder: {name!r}")
    return backup.files
