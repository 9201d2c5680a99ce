"""Whoever rules the broker and the origins, or holds some of the keys, cannot make a device believe anything else."""

import json
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.fleet.keys import KeyRole
from edgeferry.wire.desired import all_document_path, device_document_path
from edgeferry.wire.messages import Reason
from tests.trust.simulator import PROFILE, Device, Fleet, forged, nothing, reason, refused

MANIFEST = f"models/digits/1/{PROFILE}/artifact.json"
BIN = "the bin of cam-1"  # stands for its name, which depends on the hash of a path
ROLES = ["timestamp", "snapshot", "targets", BIN]


def role_of(fleet: Fleet, role: str) -> str:
    return fleet.bin_of("cam-1") if role == BIN else role


@pytest.mark.parametrize("role", ROLES)
def test_what_nobody_signed_is_refused(fleet, device, role):
    name = role_of(fleet, role)

    broker = forged(fleet, {name: nothing}, signed_by={name: []})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED


@pytest.mark.parametrize("role", ROLES)
def test_what_a_strange_key_signed_is_refused(fleet, device, role):
    name = role_of(fleet, role)

    broker = forged(fleet, {name: nothing}, signed_by={name: [CryptoSigner.generate_ed25519()]})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED


@pytest.mark.parametrize("role", ROLES)
def test_what_the_key_of_another_role_signed_is_refused(fleet, device, role):
    name = role_of(fleet, role)
    thief = fleet.signers(KeyRole.SNAPSHOT if role != "snapshot" else KeyRole.TIMESTAMP)

    broker = forged(fleet, {name: nothing}, signed_by={name: thief})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED


@pytest.mark.parametrize("role", ROLES)
def test_what_has_expired_is_refused(fleet, device, role):
    def expire(signed) -> None:
        signed.expires = fleet.now - timedelta(seconds=1)

    broker = forged(fleet, {role_of(fleet, role): expire})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_EXPIRED


@pytest.mark.parametrize("role", ROLES)
def test_true_signatures_over_the_next_version_are_believed(fleet, device, role):
    broker = forged(fleet, {role_of(fleet, role): nothing})

    assert device.follow(broker, fleet.now_ms).resolved.wishes.keys() == {"digits"}


@pytest.mark.parametrize("at", [0, 40, -2])
def test_a_timestamp_with_an_altered_byte_is_refused(fleet, device, at):
    fleet.push(2)
    broker = fleet.broker()
    altered = bytearray(broker.timestamp)
    altered[at] ^= 1
    broker.timestamp = bytes(altered)

    assert reason(device, broker, fleet.now_ms) in {Reason.METADATA_UNSIGNED, Reason.METADATA_MALFORMED}


def test_no_single_altered_byte_of_a_timestamp_goes_unnoticed(fleet, device):
    fleet.push(2)
    broker = fleet.broker()
    true = broker.timestamp

    for at in range(0, len(true), 7):
        broker.timestamp = true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :]
        with pytest.raises(TrustError):
            device.look(broker, fleet.now_ms)


@pytest.mark.parametrize("role", ["root", "snapshot", "targets", BIN, "document", "manifest"])
def test_an_altered_byte_is_refused(fleet, device, role):
    fleet.rotate(KeyRole.ROOT)
    fleet.rotate(KeyRole.DOCUMENTS)
    fleet.push(2)
    broker, publication = fleet.broker(), fleet.publication()
    if role == "root":
        broker.roots[2] = broker.roots[2].replace(b'"threshold":1', b'"threshold":2', 1)
        assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED
        return
    ref = {
        "snapshot": publication.snapshot,
        "targets": publication.targets,
        BIN: publication.bins[fleet.bin_of("cam-1")],
        "document": publication.files[all_document_path()],
        "manifest": publication.files[MANIFEST.replace("/1/", "/2/")],
    }[role]
    true = fleet.blob(ref.sha256)
    broker.altered[ref.sha256] = true[:-20] + bytes([true[-20] ^ 1]) + true[-19:]

    error = refused(device, broker, fleet.now_ms)

    assert error.problem.reason is Reason.BLOB_MISMATCH
    assert error.blob.sha256 == ref.sha256
    assert ref.sha256 in error.problem.detail


def test_an_altered_blob_may_be_fetched_again(fleet, device):
    fleet.push(2)
    broker = fleet.broker()
    snapshot = fleet.publication().snapshot
    broker.altered[snapshot.sha256] = b"\0" * snapshot.size_bytes
    error = refused(device, broker, fleet.now_ms)

    del device.blobs[error.blob.sha256]

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 2


def test_an_older_timestamp_is_refused(fleet, device):
    old = fleet.broker()
    fleet.push(2)
    device.follow(fleet.broker(), fleet.now_ms)

    assert reason(device, old, fleet.now_ms) is Reason.METADATA_ROLLBACK


def test_an_older_timestamp_is_refused_though_nothing_was_fetched_for_the_newer_one(fleet, device):
    old = fleet.broker()
    fleet.push(2)
    assert isinstance(device.look(fleet.broker(), fleet.now_ms), Missing)
    device.boot()

    assert reason(device, old, fleet.now_ms) is Reason.METADATA_ROLLBACK


def test_a_snapshot_of_one_generation_with_a_bin_of_another_is_not_taken(fleet, device):
    old = fleet.publication().bins[fleet.bin_of("cam-1")]
    fleet.push(2, "cam-1")
    broker, new = fleet.broker(), fleet.publication().bins[fleet.bin_of("cam-1")]
    broker.altered[new.sha256] = fleet.blob(old.sha256)

    assert reason(device, broker, fleet.now_ms) is Reason.BLOB_MISMATCH


def test_a_true_document_of_another_device_is_not_this_ones(fleet, device, tmp_path):
    fleet.enroll("cam-2")
    fleet.push(2, "cam-2")
    publication = fleet.publication()
    broker = fleet.broker()
    own, other = (publication.files[device_document_path(name)] for name in ("cam-1", "cam-2"))
    broker.altered[own.sha256] = fleet.blob(other.sha256)
    newcomer = Device(tmp_path / "newcomer", fleet.repository.roots()[1])

    with pytest.raises(TrustError) as error:
        newcomer.follow(broker, fleet.now_ms)

    assert error.value.problem.reason is Reason.BLOB_MISMATCH


def test_a_root_of_more_than_64_kib_is_refused(fleet, device):
    broker = fleet.broker()
    broker.roots[2] = broker.roots[1] + b" " * 64 * 1024

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_MALFORMED


@pytest.mark.parametrize(
    "timestamp", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 10_000, b'{"signed":{"root_version":"9"}}']
)
def test_garbage_in_the_place_of_a_timestamp_is_refused(fleet, device, timestamp):
    broker = fleet.broker()
    broker.timestamp = timestamp

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_MALFORMED


def test_metadata_of_one_role_is_not_another_ones(fleet, device):
    broker = fleet.broker()
    broker.timestamp = broker.roots[1]

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_MALFORMED


def test_a_fleet_that_was_made_anew_is_another_fleet(fleet, device, tmp_path):
    other = Fleet(tmp_path / "other")
    other.enroll("cam-1")
    other.push(9)

    error = refused(device, other.broker(), other.now_ms)

    assert error.problem.reason is Reason.METADATA_UNSIGNED
    assert "let it join with a new token" in error.problem.detail


def test_a_frozen_broker_is_noticed_when_the_timestamp_expires(fleet, device):
    frozen = fleet.broker()
    fleet.wait(days=59)
    assert isinstance(device.look(frozen, fleet.now_ms), Resolved)

    fleet.wait(days=2)

    assert reason(device, frozen, fleet.now_ms) is Reason.METADATA_EXPIRED


def test_what_has_expired_is_told_before_anything_is_asked_for(fleet, new_device):
    fleet.wait(days=61)

    for _ in range(2):  # the first look keeps nothing, the second finds the same timestamp again
        with pytest.raises(TrustError) as error:
            new_device.look(fleet.broker(), fleet.now_ms)
        assert error.value.problem.reason is Reason.METADATA_EXPIRED


def test_a_timestamp_that_expired_while_blobs_were_fetched_is_told_before_more_is_asked_for(fleet, device):
    fleet.push(2)
    assert isinstance(device.look(fleet.broker(), fleet.now_ms), Missing)
    fleet.wait(days=61)

    with pytest.raises(TrustError) as error:
        device.look(fleet.broker(), fleet.now_ms)

    assert error.value.problem.reason is Reason.METADATA_EXPIRED


def test_an_expired_root_is_refused_until_a_newer_one_comes(fleet, device):
    fleet.wait(days=731)
    old_root = fleet.broker().roots
    fleet.repository.renew(fleet.now)
    stale, fresh = fleet.broker(), fleet.broker()
    stale.roots = old_root

    assert reason(device, stale, fleet.now_ms) is Reason.METADATA_EXPIRED
    assert device.follow(fresh, fleet.now_ms).resolved.root_version == 2


def test_a_root_that_its_predecessor_did_not_sign_is_refused(fleet, device):
    stranger = CryptoSigner.generate_ed25519()
    metadata: Metadata[Root] = Metadata.from_bytes(fleet.repository.roots()[1])
    metadata.signed.version = 2
    metadata.signed.add_key(stranger.public_key, Root.type)
    metadata.signatures.clear()
    metadata.sign(stranger)
    broker = fleet.broker()
    broker.roots[2] = metadata.to_bytes()

    error = refused(device, broker, fleet.now_ms)

    assert error.problem.reason is Reason.METADATA_UNSIGNED
    assert error.root == 2
    assert device.client.root_version == 1


def test_a_timestamp_that_is_refused_is_no_reason_to_forget_true_roots(fleet, device):
    fleet.rotate(KeyRole.ROOT)
    broker = forged(fleet, {"timestamp": nothing}, signed_by={"timestamp": []})

    assert refused(device, broker, fleet.now_ms).root == 0
    assert device.client.root_version == 2


def test_an_unverified_timestamp_can_make_a_device_wait_for_roots_but_not_for_more_than_256(fleet, device):
    timestamp = json.loads(fleet.broker().timestamp)
    timestamp["signed"]["root_version"] = 2**60
    broker = fleet.broker()
    broker.timestamp = json.dumps(timestamp).encode()

    missing = device.look(broker, fleet.now_ms, final=False)

    assert missing == Missing(blobs=(), roots=tuple(range(2, 258)))
    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED
