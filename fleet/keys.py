"""The private keys of a fleet: one file each in ``keys/``, readable by their owner only.

    ROLE-KEYID.pem       open: PKCS #8
    ROLE-KEYID.locked    the same, sealed with the fleet's passphrase

A file is named after the role and the key's id, so a new key never takes the place of an old one: which keys count
is said by the signed root alone. The keys of snapshot and timestamp are always open: an origin signs with them while
nobody is there, and they cannot change what devices run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import PRIVATE, explained, names_in, sync_folder, write_atomically
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.sealing import SealError, seal, unseal

__all__ = ["LOCKABLE", "KeyFile", "KeyFolder", "KeyRole", "load_key"]

_SHOWN = 16  # characters of a key's id, enough to tell a fleet's keys apart


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


LOCKABLE = (KeyRole.ROOT, KeyRole.TARGETS, KeyRole.DOCUMENTS)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key on the disk: what it may sign, the beginning of its id, and whether a passphrase opens it."""

    role: KeyRole
    keyid: str
    path: Path

    @property
    def is_locked(self) -> bool:
        """Return whether a passphrase opens it."""
        return self.path.suffix == ".locked"


class KeyFolder:
    """The key files in ``folder``, which must exist; ``passphrase`` opens those that are locked."""

    def __init__(self, folder: Path, passphrase: Passphrase | None = None) -> None:
        self._folder = folder
        self._passphrase = passphrase or Passphrase()
        self._opened: dict[Path, CryptoSigner] = {}  # opening one takes half a second and 128 MiB

    def create(self, role: KeyRole) -> CryptoSigner:
        """Make and save a new ed25519 key for ``role``; it is locked where the fleet's other keys are.

        Raises:
            FleetError: The disk refused, or the passphrase cannot be had.
        """
        signer = CryptoSigner.generate_ed25519()
        has_passphrase = self._passphrase.is_given or any(file.is_locked for file in self.files())
        secret = self._opening_secret() if role in LOCKABLE and has_passphrase else b""
        self._write(role, signer.public_key.keyid, signer.private_bytes, secret)
        return signer

    def signers(self, role: KeyRole, keyids: Iterable[str]) -> list[CryptoSigner]:
        """Return the keys of ``role`` that are here, of those that ``keyids`` names.

        Raises:
            ConfigurationError: A key file is open to other users, damaged, or locked with another passphrase.
        """
        return [self._signer(file, keyid) for keyid in keyids if (file := self._file(role, keyid))]

    def at_hand(self, role: KeyRole, keyids: Iterable[str], *, asking: bool = False) -> int:
        """Return how many of these keys can sign; without ``asking`` those for which nobody has to be asked."""
        files = [file for keyid in keyids if (file := self._file(role, keyid))]
        return sum(asking or not file.is_locked or self._passphrase.is_given for file in files)

    def files(self) -> list[KeyFile]:
        """Return all key files, in the order of their names; an open one stands for a locked one of the same key."""
        found: dict[tuple[str, str], KeyFile] = {}
        for path in names_in(self._folder):
            role, _, keyid = path.stem.partition("-")
            if role in list(KeyRole) and path.suffix in {".pem", ".locked"}:
                found.setdefault((role, keyid), KeyFile(KeyRole(role), keyid, path))
                if path.suffix == ".pem":
                    found[role, keyid] = KeyFile(KeyRole(role), keyid, path)
        return list(found.values())

    def lock(self, secret: bytes) -> list[KeyFile]:
        """Lock every key that may be locked with ``secret``, whatever locked it before; return them.

        Each key is there at each moment: the locked file is written before the open one goes.

        Raises:
            ConfigurationError: One cannot be opened; those before it have changed already.
        """
        return [self._rewritten(file, secret) for file in self.files() if file.role in LOCKABLE]

    def unlock(self) -> list[KeyFile]:
        """Leave every key open; return those that were locked.

        Raises:
            ConfigurationError: One cannot be opened.
        """
        return [self._rewritten(file, b"") for file in self.files() if file.is_locked]

    def _signer(self, file: KeyFile, keyid: str) -> CryptoSigner:
        if file.path in self._opened:
            return self._opened[file.path]
        signer = load_key(file.path, self._passphrase, keyid)
        if file.is_locked:
            self._opened[file.path] = signer
        return signer

    def _rewritten(self, file: KeyFile, secret: bytes) -> KeyFile:
        signer = load_key(file.path, self._passphrase)
        written = self._write(file.role, signer.public_key.keyid, signer.private_bytes, secret)
        if written.path != file.path:
            with explained(file.path):
                file.path.unlink()
            sync_folder(self._folder)
        return written

    def _write(self, role: KeyRole, keyid: str, pem: bytes, secret: bytes) -> KeyFile:
        path = self._folder / f"{role}-{keyid[:_SHOWN]}.{'locked' if secret else 'pem'}"
        write_atomically(path, seal(pem, secret) if secret else pem, mode=PRIVATE)
        return KeyFile(role, keyid[:_SHOWN], path)

    def _opening_secret(self) -> bytes:
        """Return the passphrase; where keys are locked already it has to open one of them, so that all have the same.

        Raises:
            ConfigurationError: It does not.
        """
        for file in self.files():
            if file.is_locked:
                load_key(file.path, self._passphrase)
                break
        return self._passphrase.checked(self._passphrase.get("the fleet's keys"))

    def _file(self, role: KeyRole, keyid: str) -> KeyFile | None:
        for suffix in ("pem", "locked"):
            path = self._folder / f"{role}-{keyid[:_SHOWN]}.{suffix}"
            if path.exists():
                return KeyFile(role, keyid[:_SHOWN], path)
        return None


def load_key(path: Path, passphrase: Passphrase, keyid: str = "") -> CryptoSigner:
    """Return the key in ``path``, which has to be the one with ``keyid`` where that is given.

    Raises:
        ConfigurationError: The file is open to other users, damaged, or locked with another passphrase.
    """
    with explained(path):
        mode = path.stat().st_mode & 0o777
        data = path.read_bytes()
    if mode & 0o077:
        raise ConfigurationError(f"{path}: other users may read this key (mode {mode:04o}); run: chmod 600 {path}")
    try:
        if path.suffix == ".locked":
            data = unseal(data, passphrase.get(str(path)))
        key = load_pem_private_key(data, password=None)
    except SealError as err:
        raise ConfigurationError(f"{path}: {err}") from err
    except (ValueError, TypeError) as err:
        raise ConfigurationError(f"{path}: is not a private key: {err}; restore it from a backup") from err
    if not isinstance(key, Ed25519PrivateKey) or keyid not in {"", CryptoSigner(key).public_key.keyid}:
        raise ConfigurationError(f"{path}: is another key than its name says; restore it from a backup")
    return CryptoSigner(key)
