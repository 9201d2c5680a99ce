"""Private keys are their owner's alone, and a key file is what its name says."""

import stat

import pytest
from securesystemslib.signer import CryptoSigner

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.keys import KeyFolder, KeyRole


@pytest.fixture
def keys(tmp_path) -> KeyFolder:
    return KeyFolder(tmp_path)


def test_a_key_signs_the_same_after_a_restart(keys):
    made = keys.create(KeyRole.TIMESTAMP)

    (loaded,) = keys.signers(KeyRole.TIMESTAMP, [made.public_key.keyid])

    assert loaded.sign(b"payload") == made.sign(b"payload")


def test_a_key_file_is_readable_by_its_owner_alone(keys, tmp_path):
    keys.create(KeyRole.ROOT)

    (path,) = tmp_path.iterdir()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name.startswith("root-")


def test_a_new_key_does_not_take_the_place_of_the_old_one(keys):
    ids = [keys.create(KeyRole.ROOT).public_key.keyid for _ in range(2)]

    assert [signer.public_key.keyid for signer in keys.signers(KeyRole.ROOT, ids)] == ids


def test_a_key_of_another_role_or_place_is_not_there(keys):
    keyid = keys.create(KeyRole.ROOT).public_key.keyid

    assert keys.signers(KeyRole.TARGETS, [keyid]) == []
    assert keys.signers(KeyRole.ROOT, ["0" * 64]) == []


def test_a_key_that_others_may_read_is_refused(keys, tmp_path):
    keyid = keys.create(KeyRole.ROOT).public_key.keyid
    (path,) = tmp_path.iterdir()
    path.chmod(0o640)

    with pytest.raises(
        ConfigurationError, match=rf"other users may read this key \(mode 0640\); run: chmod 600 {path}"
    ):
        keys.signers(KeyRole.ROOT, [keyid])


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_not_a_key_is_told(keys, tmp_path, content):
    keyid = keys.create(KeyRole.ROOT).public_key.keyid
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="is not a private key"):
        keys.signers(KeyRole.ROOT, [keyid])


@pytest.mark.parametrize("make", [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa])
def test_a_key_under_the_name_of_another_is_told(keys, tmp_path, make):
    keyid = keys.create(KeyRole.ROOT).public_key.keyid
    (path,) = tmp_path.iterdir()
    path.write_bytes(make().private_bytes)

    with pytest.raises(ConfigurationError, match="is another key than its name says"):
        keys.signers(KeyRole.ROOT, [keyid])
