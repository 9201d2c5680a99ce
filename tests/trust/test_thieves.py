"""Whoever has stolen some of the keys gets no further than these keys reach, and a new key ends even that."""

import hashlib
from datetime import timedelta

import pytest
from tuf.api.metadata import MetaFile, TargetFile

from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.fleet.keys import KeyRole
from edgeferry.wire.desired import device_document_path
from edgeferry.wire.messages import Reason
from tests.trust.simulator import PROFILE, Fleet, forged, nothing, reason, refused


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


def test_thieves_of_snapshot_and_timestamp_keys_cannot_name_another_model(fleet, device):
    fleet.push(2, "cam-1")
    thief = fleet.signers(KeyRole.SNAPSHOT) + fleet.signers(KeyRole.TIMESTAMP)

    def install(signed) -> None:
        signed.targets[device_document_path("cam-1")] = TargetFile(9, {"sha256": hashlib.sha256(b"{}").hexdigest()}, "")

    name = fleet.bin_of("cam-1")
    broker = forged(fleet, {name: install}, signed_by={name: thief})

    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED


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


def test_a_version_that_a_thief_rushed_ahead_is_forgotten_with_his_key(fleet, device):
    def rush(signed) -> None:
        signed.version = 2**50

    device.follow(forged(fleet, {"timestamp": rush}), fleet.now_ms)
    assert reason(device, fleet.broker(), fleet.now_ms) is Reason.METADATA_ROLLBACK

    fleet.rotate(KeyRole.SNAPSHOT)
    fleet.rotate(KeyRole.TIMESTAMP)

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.generation == fleet.repository.generation


def test_a_clock_that_a_thief_put_forward_is_right_again_with_a_new_key(fleet, device):
    root_expires = fleet.repository.expiries()[KeyRole.ROOT]

    def hurry(signed) -> None:
        signed.expires = root_expires
        signed.unrecognized_fields["issued_ms"] = int(root_expires.timestamp() * 1000)

    assert isinstance(device.look(forged(fleet, {"timestamp": hurry}), fleet.now_ms), Missing)
    assert device.client.issued_ms == int(root_expires.timestamp() * 1000)

    fleet.wait(days=1)
    fleet.rotate(KeyRole.SNAPSHOT)
    fleet.rotate(KeyRole.TIMESTAMP)

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
