"""Whoever rules the broker and the origins, or holds some of the keys, cannot make a device believe anything else."""

import hashlib
import json
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, TargetFile

from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.fleet.keys import KeyRole
from edgeferry.wire.desired import all_document_path, device_document_path
from edgeferry.wire.messages import Reason
from tests.trust.simulator import PROFILE, Broker, Device, Fleet, forged

MANIFEST = f"models/digits/1/{PROFILE}/artifact.json"
BIN = "the bin of cam-1"  # stands for its name, which depends on the hash of a path
ROLES = ["timestamp", "snapshot", "targets", BIN]


def role_of(fleet: Fleet, role: str) -> str:
    return fleet.bin_of("cam-1") if role == BIN else role


def nothing(_signed) -> None:
    """Change nothing but the version."""


def refused(device: Device, broker: Broker, now_ms: int) -> TrustError:
    """Return why ``broker`` is refused, and make sure that the device believes what it did before."""
    before = device.remember(now_ms)
    with pytest.raises(TrustError) as error:
        device.follow(broker, now_ms)
    after = device.remember(now_ms)
    assert before
    assert after
    assert (after.wishes, after.manifests, after.generation) == (before.wishes, before.manifests, before.generation)
    return error.value


def reason(device: Device, broker: Broker, now_ms: int) -> Reason:
    return refused(device, broker, now_ms).problem.reason


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
    fleet.repository.rotate(KeyRole.ROOT, fleet.now)
    fleet.repository.rotate(KeyRole.DOCUMENTS, fleet.now)
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


def test_another_timestamp_of_the_same_version_changes_nothing(fleet, device):
    before = dict(device.files)

    def same_version(signed) -> None:
        signed.version -= 1

    device.look(forged(fleet, {"timestamp": same_version}), fleet.now_ms)

    assert device.files == before


def test_a_timestamp_that_names_an_older_snapshot_is_refused(fleet, device):
    def name_older(signed) -> None:
        signed.snapshot_meta.version -= 2

    broker = forged(fleet, {"timestamp": name_older})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_ROLLBACK


def test_a_snapshot_that_lists_an_older_bin_is_refused(fleet, device):
    old = fleet.publication().bins[fleet.bin_of("cam-1")]
    fleet.push(2, "cam-1")
    device.follow(fleet.broker(), fleet.now_ms)

    def list_older(signed) -> None:
        signed.meta[f"{fleet.bin_of('cam-1')}.json"] = old.meta()

    broker = forged(fleet, {"snapshot": list_older})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_ROLLBACK


def test_a_snapshot_that_calls_an_older_bin_newer_is_refused(fleet, device):
    old = fleet.publication().bins[fleet.bin_of("cam-1")]
    fleet.push(2, "cam-1")

    def mix_and_match(signed) -> None:
        meta = signed.meta[f"{fleet.bin_of('cam-1')}.json"]
        signed.meta[f"{fleet.bin_of('cam-1')}.json"] = MetaFile(meta.version, old.size_bytes, {"sha256": old.sha256})

    broker = forged(fleet, {"snapshot": mix_and_match})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_ROLLBACK


def test_a_snapshot_that_leaves_a_bin_out_is_refused(fleet, device):
    def leave_out(signed) -> None:
        del signed.meta[f"{fleet.bin_of('cam-1')}.json"]

    assert reason(device, forged(fleet, {"snapshot": leave_out}), fleet.now_ms) is Reason.METADATA_MALFORMED


def test_a_snapshot_of_one_generation_with_a_bin_of_another_is_not_taken(fleet, device):
    old = fleet.publication().bins[fleet.bin_of("cam-1")]
    fleet.push(2, "cam-1")
    broker, new = fleet.broker(), fleet.publication().bins[fleet.bin_of("cam-1")]
    broker.altered[new.sha256] = fleet.blob(old.sha256)

    assert reason(device, broker, fleet.now_ms) is Reason.BLOB_MISMATCH


def test_thieves_of_snapshot_and_timestamp_keys_cannot_name_another_model(fleet, device):
    fleet.push(2, "cam-1")
    thief = fleet.signers(KeyRole.SNAPSHOT) + fleet.signers(KeyRole.TIMESTAMP)

    def install(signed) -> None:
        signed.targets[device_document_path("cam-1")] = TargetFile(9, {"sha256": hashlib.sha256(b"{}").hexdigest()}, "")

    name = fleet.bin_of("cam-1")
    broker = forged(fleet, {name: install}, signed_by={name: thief})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED


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


def test_a_true_manifest_of_another_profile_is_refused(fleet, device):
    fleet.push(7, name="owls")
    fleet.push(7, name="owls", profile="coral-dev-board")
    files = fleet.publication().files
    own, other = f"models/owls/7/{PROFILE}/artifact.json", "models/owls/7/coral-dev-board/artifact.json"

    def swap(signed) -> None:
        signed.targets[own] = TargetFile(files[other].size_bytes, {"sha256": files[other].sha256}, own)

    resolved = device.follow(forged(fleet, {_bin_listing(fleet, own): swap}), fleet.now_ms).resolved

    version, problem = resolved.refusals["owls"]
    assert (version, problem.reason) == (7, Reason.MANIFEST_MISMATCH)
    assert "coral-dev-board" in problem.detail
    assert "digits" in resolved.wishes


def test_a_manifest_that_cannot_be_understood_is_refused_and_the_others_are_not(fleet, device):
    fleet.push(7, name="owls")
    path = f"models/owls/7/{PROFILE}/artifact.json"
    body = b'{"format":9}'

    def replace(signed) -> None:
        signed.targets[path] = TargetFile(len(body), {"sha256": hashlib.sha256(body).hexdigest()}, path)

    broker = forged(fleet, {_bin_listing(fleet, path): replace})
    broker.put(body)
    resolved = device.follow(broker, fleet.now_ms).resolved

    assert resolved.refusals["owls"][1].reason is Reason.MANIFEST_MISMATCH
    assert "digits" in resolved.wishes


@pytest.mark.parametrize("body", [b"{}", b'{"format":2,"models":{}}', b"not JSON", b"\xff" * 40])
def test_a_signed_document_that_cannot_be_understood_changes_nothing(fleet, device, body):
    path = device_document_path("cam-1")

    def replace(signed) -> None:
        signed.targets[path] = TargetFile(len(body), {"sha256": hashlib.sha256(body).hexdigest()}, path)

    broker = forged(fleet, {fleet.bin_of("cam-1"): replace})
    broker.put(body)

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_MALFORMED


def test_signed_groups_that_contradict_each_other_change_nothing(fleet, device):
    fleet.enroll("cam-2", "garden")
    fleet.push(2, "group:porch")
    fleet.push(3, "group:garden")
    path = device_document_path("cam-1")
    body = b'{"format":1,"models":{},"groups":["garden","porch"]}'

    def replace(signed) -> None:
        signed.targets[path] = TargetFile(len(body), {"sha256": hashlib.sha256(body).hexdigest()}, path)

    broker = forged(fleet, {fleet.bin_of("cam-1"): replace})
    broker.put(body)
    error = refused(device, broker, fleet.now_ms)

    assert error.problem.reason is Reason.METADATA_MALFORMED
    assert "'garden' and 'porch' both name model 'digits'" in error.problem.detail


def test_a_timestamp_of_more_than_16_kib_is_refused(fleet, device):
    def swell(signed) -> None:
        signed.unrecognized_fields["ballast"] = "x" * 16 * 1024

    broker = forged(fleet, {"timestamp": swell})

    for final in (False, True):
        with pytest.raises(TrustError) as error:
            device.look(broker, fleet.now_ms, final=final)
        assert error.value.problem.reason is Reason.METADATA_MALFORMED


def test_a_root_of_more_than_64_kib_is_refused(fleet, device):
    broker = fleet.broker()
    broker.roots[2] = broker.roots[1] + b" " * 64 * 1024

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_MALFORMED


@pytest.mark.parametrize("length", [300_000, 2**40])
def test_a_thief_of_the_timestamp_key_cannot_name_an_endless_snapshot(fleet, device, length):
    def endless(signed) -> None:
        signed.snapshot_meta.length = length

    assert reason(device, forged(fleet, {"timestamp": endless}), fleet.now_ms) is Reason.METADATA_MALFORMED


def test_a_thief_of_the_snapshot_key_cannot_name_an_endless_bin(fleet, device):
    def endless(signed) -> None:
        meta = signed.meta[f"{fleet.bin_of('cam-1')}.json"]
        meta.length, meta.hashes, meta.version = 2**40, {"sha256": "0" * 64}, meta.version + 1

    assert reason(device, forged(fleet, {"snapshot": endless}), fleet.now_ms) is Reason.METADATA_MALFORMED


def test_an_endless_document_is_refused_before_it_is_asked_for(fleet, device):
    def endless(signed) -> None:
        signed.targets[device_document_path("cam-1")].length = 300_000

    assert reason(device, forged(fleet, {fleet.bin_of("cam-1"): endless}), fleet.now_ms) is Reason.METADATA_MALFORMED


@pytest.mark.parametrize("hashes", [None, {"sha512": "0" * 128}, {"sha256": "../../etc/passwd"}])
def test_a_snapshot_that_is_named_without_a_usable_hash_is_refused(fleet, device, hashes):
    def unname(signed) -> None:
        signed.snapshot_meta.hashes = hashes

    assert reason(device, forged(fleet, {"timestamp": unname}), fleet.now_ms) is Reason.METADATA_MALFORMED


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


def test_a_snapshot_that_expired_while_blobs_were_fetched_is_told_before_more_is_asked_for(fleet, device):
    def live_longer(signed) -> None:
        signed.expires += timedelta(days=100)

    broker = forged(fleet, {fleet.bin_of("cam-1"): nothing, "timestamp": live_longer})
    missing = device.look(broker, fleet.now_ms)
    device.blobs |= {ref.sha256: broker.give(ref) for ref in missing.blobs}
    assert isinstance(device.look(broker, fleet.now_ms), Missing)
    fleet.wait(days=61)

    with pytest.raises(TrustError, match=r"snapshot\.json is expired"):
        device.look(broker, fleet.now_ms)


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

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED
    assert device.client.root_version == 1


def test_an_unverified_timestamp_can_make_a_device_wait_for_roots_but_not_for_more_than_256(fleet, device):
    timestamp = json.loads(fleet.broker().timestamp)
    timestamp["signed"]["root_version"] = 2**60
    broker = fleet.broker()
    broker.timestamp = json.dumps(timestamp).encode()

    missing = device.look(broker, fleet.now_ms, final=False)

    assert missing == Missing(blobs=(), roots=tuple(range(2, 258)))
    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED


def test_a_version_that_a_thief_rushed_ahead_is_forgotten_with_his_key(fleet, device):
    def rush(signed) -> None:
        signed.version = 2**50

    device.follow(forged(fleet, {"timestamp": rush}), fleet.now_ms)
    assert reason(device, fleet.broker(), fleet.now_ms) is Reason.METADATA_ROLLBACK

    fleet.repository.rotate(KeyRole.SNAPSHOT, fleet.now)
    fleet.repository.rotate(KeyRole.TIMESTAMP, fleet.now)

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.generation == fleet.repository.generation


def test_a_clock_that_a_thief_put_forward_is_right_again_with_a_new_key(fleet, device):
    root_expires = fleet.repository.expiries()[KeyRole.ROOT]

    def hurry(signed) -> None:
        signed.expires = root_expires
        signed.unrecognized_fields["issued_ms"] = int(root_expires.timestamp() * 1000)

    assert isinstance(device.look(forged(fleet, {"timestamp": hurry}), fleet.now_ms), Missing)
    assert device.client.issued_ms == int(root_expires.timestamp() * 1000)

    fleet.wait(days=1)
    fleet.repository.rotate(KeyRole.SNAPSHOT, fleet.now)
    fleet.repository.rotate(KeyRole.TIMESTAMP, fleet.now)

    with pytest.raises(TrustError) as error:
        device.look(fleet.broker(), device.client.issued_ms)
    assert error.value.problem.reason is Reason.METADATA_EXPIRED
    assert device.client.issued_ms == fleet.now_ms
    assert isinstance(device.follow(fleet.broker(), device.client.issued_ms).resolved, Resolved)


def test_a_clock_cannot_be_put_beyond_the_root(fleet, device):
    def hurry(signed) -> None:
        signed.expires = fleet.now + timedelta(days=9_999)
        signed.unrecognized_fields["issued_ms"] = fleet.now_ms + 9_000 * 24 * 3600 * 1000

    before = device.client.issued_ms

    device.look(forged(fleet, {"timestamp": hurry}), fleet.now_ms)

    assert device.client.issued_ms == before


def _bin_listing(fleet: Fleet, path: str) -> str:
    """Return the role that lists ``path``."""
    for name, file in fleet.publication().bins.items():
        if path.encode() in (fleet.blob(file.sha256) or b""):
            return name
    raise AssertionError(f"nothing lists {path}")
