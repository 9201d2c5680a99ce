"""Signatures that were verified once in this process are not verified again.

Where the `cryptography` package is absent, as on devices, one verification costs 5 ms on a desktop and ten times that
on a small board. A refresh begins from the trusted root each time, and most of what it reads has not changed.
"""

import hashlib
from typing import ClassVar

from securesystemslib.signer import KEY_FOR_TYPE_AND_SCHEME, Signature, SSlibKey

__all__ = ["RememberingKey", "remember_signatures"]

_REMEMBERED = 256


class RememberingKey(SSlibKey):
    """An ed25519 key that remembers which signatures over which bytes were good."""

    _verified: ClassVar[dict[tuple[str, str, str, str, bytes], None]] = {}

    def verify_signature(self, signature: Signature, data: bytes) -> None:
        """Return when ``signature`` over ``data`` is this key's.

        Raises:
            UnverifiedSignatureError: It is not.
        """
        # Everything that the verdict depends on; only good verdicts are kept.
        seen = (
            self.keyid,
            self.keyval["public"],
            signature.keyid,
            signature.signature,
            hashlib.sha256(data).digest(),
        )
        if seen in self._verified:
            return
        super().verify_signature(signature, data)
        if len(self._verified) >= _REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[seen] = None


def remember_signatures() -> None:
    """Let python-tuf make its ed25519 keys of this kind from now on."""
    KEY_FOR_TYPE_AND_SCHEME["ed25519", "ed25519"] = RememberingKey
