"""Verdicts are remembered only when they are good, and only for the very same bytes."""

import pytest
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature

from edgeferry.agent.trust import signatures
from edgeferry.agent.trust.signatures import RememberingKey


@pytest.fixture
def signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


@pytest.fixture
def key(signer: CryptoSigner) -> RememberingKey:
    public = signer.public_key
    return RememberingKey.from_dict(public.keyid, public.to_dict())


def test_a_good_signature_stays_good(signer, key):
    signature = signer.sign(b"payload")

    for _ in range(2):
        key.verify_signature(signature, b"payload")


def test_nothing_is_good_because_something_like_it_was(signer, key):
    signature = signer.sign(b"payload")
    key.verify_signature(signature, b"payload")
    stranger = CryptoSigner.generate_ed25519()
    other = RememberingKey.from_dict(stranger.public_key.keyid, stranger.public_key.to_dict())
    impostor = RememberingKey.from_dict(key.keyid, stranger.public_key.to_dict())

    for bad_key, bad_signature, bad_payload in (
        (key, signature, b"payloae"),
        (key, Signature(signature.keyid, "00" + signature.signature[2:]), b"payload"),
        (key, Signature(other.keyid, signature.signature), b"payload"),
        (other, signature, b"payload"),
        (impostor, signature, b"payload"),
        (other, Signature(other.keyid, signature.signature), b"payload"),
    ):
        for _ in range(2):
            with pytest.raises(UnverifiedSignatureError):
                bad_key.verify_signature(bad_signature, bad_payload)


def test_the_memory_is_bounded(signer, key):
    for number in range(signatures._REMEMBERED + 20):
        payload = str(number).encode()
        key.verify_signature(signer.sign(payload), payload)

    assert len(RememberingKey._verified) == signatures._REMEMBERED
