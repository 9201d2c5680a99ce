"""What is sealed opens with its passphrase alone, and no altered byte goes unnoticed."""

import pytest

from edgeferry.fleet.sealing import SealError, is_sealed, seal, unseal

SEALED = seal(b"a secret", b"passphrase")


def test_the_passphrase_opens_it():
    assert unseal(SEALED, b"passphrase") == b"a secret"


def test_nothing_of_the_secret_can_be_seen():
    assert b"a secret" not in SEALED
    assert is_sealed(SEALED)
    assert seal(b"a secret", b"passphrase") != SEALED


def test_another_passphrase_does_not_open_it():
    with pytest.raises(SealError, match="the passphrase is another one"):
        unseal(SEALED, b"passphrasE")


@pytest.mark.parametrize("at", [40, 100, -20, -1])
def test_an_altered_byte_is_noticed(at):
    altered = bytearray(SEALED)
    altered[at] ^= 1

    with pytest.raises(SealError):
        unseal(bytes(altered), b"passphrase")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}\n", b"\xff" * 2000, SEALED.replace(b'"n":131072', b'"n":2097152')],
    ids=["nothing", "no header", "garbage", "too costly"],
)
def test_what_is_no_sealed_file_is_told_and_costs_no_memory(data):
    with pytest.raises(SealError, match="is not a sealed file"):
        unseal(data, b"passphrase")
