"""Bytes that only a passphrase opens: locked private keys, and backups.

The format is one line of JSON and the encrypted bytes below it:

    {"edgeferry":"sealed","format":1,"kdf":"scrypt","n":131072,"r":8,"p":1,"salt":"...","cipher":"aes-256-gcm","nonce":"..."}

scrypt (RFC 7914) makes the key from the passphrase, with 128 MiB of memory; AES-256-GCM encrypts, and authenticates the
line as well. Both are the `cryptography` package's. docs/trust.md opens such a file without edgeferry.
"""

import os
from functools import lru_cache
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

__all__ = ["SealError", "is_sealed", "seal", "unseal"]

_COST = 1 << 17  # 128 MiB and half a second; OWASP's password storage guide gives it for r=8, p=1
_MAX_HEAD_BYTES = 1024
_MARK = b'{"edgeferry":"sealed",'


class SealError(Exception):
    """Sealed bytes cannot be opened; the text is the second half of a sentence."""


class _Head(msgspec.Struct, frozen=True):
    """What has to be known to open the rest; only the costs that `seal` uses are taken: a file names no others."""

    edgeferry: Literal["sealed"]
    format: Literal[1]
    kdf: Literal["scrypt"]
    n: Literal[131072]
    r: Literal[8]
    p: Literal[1]
    salt: bytes
    cipher: Literal["aes-256-gcm"]
    nonce: bytes


def seal(data: bytes, passphrase: bytes) -> bytes:
    """Return ``data`` so that only ``passphrase`` opens it."""
    salt, nonce = _salt(passphrase), os.urandom(12)
    head = _Head("sealed", 1, "scrypt", 131072, 8, 1, salt, "aes-256-gcm", nonce)
    line = msgspec.json.encode(head) + b"\n"
    return line + AESGCM(_key(passphrase, salt)).encrypt(nonce, data, line)


def unseal(sealed: bytes, passphrase: bytes) -> bytes:
    """Return what was sealed with ``passphrase``.

    Raises:
        SealError: It is another passphrase, or the bytes are damaged or no sealed bytes at all.
    """
    line, newline, body = sealed[:_MAX_HEAD_BYTES].partition(b"\n")
    try:
        head = msgspec.json.decode(line, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise SealError(f"is not a sealed file of this version of edgeferry: {err}") from err
    body = sealed[len(line) + len(newline) :]
    try:
        return AESGCM(_key(passphrase, head.salt)).decrypt(head.nonce, body, line + newline)
    except (InvalidTag, ValueError) as err:  # ValueError: a nonce of a length that cannot be
        raise SealError("does not open: the passphrase is another one, or the file is damaged") from err


def is_sealed(data: bytes) -> bool:
    """Tell whether ``data`` begins as sealed bytes do."""
    return data.startswith(_MARK)


@lru_cache(maxsize=1)
def _salt(_passphrase: bytes) -> bytes:
    """Return a new salt for each passphrase and process: what one command seals opens with one run of scrypt."""
    return os.urandom(16)


@lru_cache(maxsize=4)
def _key(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(passphrase)
