"""The private keys of a fleet: one file each in ``keys/``, readable by their owner only.

A file is named after the role and the key's id, so a new key never takes the place of an old one: which keys count
is said by the signed root alone.
"""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import PRIVATE, explained, write_atomically

__all__ = ["KeyFolder", "KeyRole"]


class KeyRole(StrEnum):
    """What a key may sign.

    ROOT says which keys count. TARGETS says which keys may sign documents. DOCUMENTS signs what devices shall run
    and which bytes that is. SNAPSHOT says which of these files belong together, TIMESTAMP which are the newest.
    """

    ROOT = "root"
    TARGETS = "targets"
    DOCUMENTS = "documents"
    SNAPSHOT = "snapshot"
    TIMESTAMP = "timestamp"


class KeyFolder:
    """The key files in ``folder``, which must exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, role: KeyRole) -> CryptoSigner:
        """Make and save a new ed25519 key for ``role``.

        Raises:
            FleetError: The disk refused.
        """
        signer = CryptoSigner.generate_ed25519()
        write_atomically(self._path(role, signer.public_key.keyid), signer.private_bytes, mode=PRIVATE)
        return signer

    def signers(self, role: KeyRole, keyids: Iterable[str]) -> list[CryptoSigner]:
        """Return the keys of ``role`` that are here, of those that ``keyids`` names.

        Raises:
            ConfigurationError: A key file is open to other users, or damaged.
        """
        return [_load(path, keyid) for keyid in keyids if (path := self._path(role, keyid)).exists()]

    def _path(self, role: KeyRole, keyid: str) -> Path:
        return self._folder / f"{role}-{keyid[:16]}.pem"


def _load(path: Path, keyid: str) -> CryptoSigner:
    with explained(path):
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    if mode & 0o077:
        raise ConfigurationError(f"{path}: other users may read this key (mode {mode:04o}); run: chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as err:
        raise ConfigurationError(f"{path}: is not a private key: {err}; restore it from a backup") from err
    if not isinstance(key, Ed25519PrivateKey) or (signer := CryptoSigner(key)).public_key.keyid != keyid:
        raise ConfigurationError(f"{path}: is another key than its name says; restore it from a backup")
    return signer
