"""What a device keeps brings it back to where it was, and no damage to it brings it back further."""

import shutil

import pytest
from tuf.api.metadata import Metadata, Root

from edgeferry.agent.trust import Missing, Resolved, TrustClient, TrustError
from edgeferry.fleet.keys import KeyRole
from edgeferry.wire.messages import Code, Reason
from tests.trust.simulator import Device, Fleet, forged

KEPT = ["timestamp.json", "resolved.timestamp.json", "snapshot.json"]


def flipped(data: bytes, at: int = -30) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at:][1:]


def test_the_kept_files_are_few_and_have_plain_names(device):
    assert sorted(device.files) == ["1.root.json", *sorted(KEPT)]


def test_after_a_restart_the_device_believes_what_it_did_without_any_network(fleet, device):
    before = device.remember(fleet.now_ms)

    device.boot()

    assert device.remember(fleet.now_ms) == before
    assert before.wishes["digits"].version == 1
    assert device.client.damage == {}
    assert device.client.issued_ms == before.issued_ms


def test_before_the_first_refresh_there_is_nothing_to_believe(fleet, new_device):
    assert new_device.remember(fleet.now_ms) is None
    assert new_device.client.damage == {}
    assert (new_device.client.root_version, new_device.client.issued_ms) == (1, 0)


def test_a_device_that_was_off_for_months_believes_what_it_did_and_says_that_it_has_expired(fleet, device):
    fleet.wait(days=90)

    resolved = device.remember(fleet.now_ms)

    assert resolved.wishes["digits"].version == 1
    assert (resolved.metadata.code, resolved.metadata.reason) == (Code.FAILED_PRECONDITION, Reason.METADATA_EXPIRED)
    assert "2026-04-30 12:00 UTC" in resolved.metadata.detail


def test_a_device_that_was_off_for_months_follows_again(fleet, device):
    fleet.wait(days=90)
    fleet.push(2)
    device.boot()

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 2


def test_a_restart_amid_fetching_goes_back_to_what_was_complete_and_on_from_there(fleet, device):
    fleet.push(2)
    broker = fleet.broker()
    while isinstance(seen := device.look(broker, fleet.now_ms), Missing):
        assert device.remember(fleet.now_ms).wishes["digits"].version == 1
        device.blobs |= {ref.sha256: broker.give(ref) for ref in seen.blobs}
        device.boot()

    assert seen.wishes["digits"].version == 2
    assert device.remember(fleet.now_ms) == seen


def test_without_its_blobs_the_device_has_to_read_everything_again(fleet, device):
    device.blobs.clear()
    device.boot()

    assert device.remember(fleet.now_ms) is None
    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 1


def test_a_damaged_blob_is_reported_and_not_believed(fleet, device):
    for sha256 in device.blobs:
        device.blobs[sha256] = b"rotten"
    device.boot()

    assert device.remember(fleet.now_ms) is None
    assert device.client.damage["resolved.timestamp.json"].reason is Reason.BLOB_MISMATCH


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize(
    "damage", [flipped, lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\0" * 99]
)
def test_no_damaged_file_lets_an_older_timestamp_in(fleet, device, name, damage):
    older = fleet.broker()
    fleet.push(2)
    device.follow(fleet.broker(), fleet.now_ms)
    device.files = {**device.files, name: damage(device.files[name])}

    device.boot()

    with pytest.raises(TrustError) as error:
        device.look(older, fleet.now_ms)
    assert error.value.problem.reason is Reason.METADATA_ROLLBACK
    assert isinstance(device.look(fleet.broker(), fleet.now_ms), Resolved)
    assert sorted(device.files) == ["1.root.json", *sorted(KEPT)]


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json"])
def test_a_damaged_file_is_reported(fleet, device, name):
    device.files[name] = flipped(device.files[name])

    device.boot()

    problem = device.client.damage[name]
    assert problem.code is Code.DATA_LOSS
    assert problem.detail.startswith(f"the kept {name} cannot be believed any more")


def test_an_older_file_in_the_place_of_the_newest_is_reported(fleet, device):
    older = device.files["timestamp.json"]
    fleet.push(2)
    device.follow(fleet.broker(), fleet.now_ms)
    device.files["timestamp.json"] = older

    device.boot()

    assert device.client.damage["timestamp.json"].reason is Reason.METADATA_ROLLBACK


def test_a_damaged_resolved_timestamp_is_reported_when_it_is_needed(fleet, device):
    device.files["resolved.timestamp.json"] = flipped(device.files["resolved.timestamp.json"])
    device.boot()

    assert device.remember(fleet.now_ms) is None
    assert device.client.damage["resolved.timestamp.json"].code is Code.DATA_LOSS


def test_when_every_file_is_damaged_the_device_begins_again_from_the_root_that_it_joined_with(fleet, device):
    device.files = dict.fromkeys(device.files, b"rotten")

    device.boot()

    assert device.client.damage.keys() == {"1.root.json", "timestamp.json"}
    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 1


def test_files_that_do_not_belong_there_are_left_alone(fleet, device):
    device.files |= {"notes.txt": b"hello", "0.root.json": b"", "../1.root.json": b""}

    device.boot()

    assert "notes.txt" not in device.client.files()
    assert device.remember(fleet.now_ms).wishes["digits"].version == 1


def test_the_roots_in_between_are_kept_and_followed_after_a_restart(fleet, device):
    for role in (KeyRole.ROOT, KeyRole.SNAPSHOT, KeyRole.TIMESTAMP):
        fleet.rotate(role)
    device.follow(fleet.broker(), fleet.now_ms)

    device.boot()

    assert device.client.root_version == 4
    assert {"2.root.json", "3.root.json", "4.root.json"} <= device.files.keys()
    assert device.remember(fleet.now_ms).root_version == 4


def test_a_lost_root_is_waited_for_and_no_older_one_is_used(fleet, device):
    fleet.rotate(KeyRole.TIMESTAMP)
    device.follow(fleet.broker(), fleet.now_ms)
    device.files["2.root.json"] = b"rotten"
    hostile = fleet.broker()
    del hostile.roots[2]

    device.boot()

    assert device.client.damage.keys() == {"2.root.json"}
    assert device.look(hostile, fleet.now_ms, final=False) == Missing(blobs=(), roots=(2,))
    with pytest.raises(TrustError) as error:
        device.look(hostile, fleet.now_ms, final=True)
    assert error.value.problem.reason is Reason.METADATA_ROLLBACK
    device.boot()  # the floor outlasts another restart
    with pytest.raises(TrustError):
        device.look(hostile, fleet.now_ms, final=True)
    assert device.follow(fleet.broker(), fleet.now_ms).resolved.root_version == 2
    device.boot()
    assert device.client.damage == {}


def test_a_lost_root_does_not_make_the_newest_timestamp_forgotten(fleet, device):
    fleet.rotate(KeyRole.ROOT)
    device.follow(fleet.broker(), fleet.now_ms)
    older = fleet.broker()
    fleet.push(2)
    assert isinstance(device.look(fleet.broker(), fleet.now_ms), Missing)
    device.files["2.root.json"] = b"rotten"

    device.boot()

    with pytest.raises(TrustError) as error:
        device.look(older, fleet.now_ms)
    assert error.value.problem.reason is Reason.METADATA_ROLLBACK


def test_a_lost_root_is_waited_for_whatever_the_timestamp_says(fleet, device):
    fleet.rotate(KeyRole.SNAPSHOT)
    device.follow(fleet.broker(), fleet.now_ms)
    device.files["2.root.json"] = b"rotten"
    silent = forged(fleet, {"timestamp": lambda signed: signed.unrecognized_fields.clear()})
    del silent.roots[2]

    device.boot()

    assert device.look(silent, fleet.now_ms, final=False) == Missing(blobs=(), roots=(2,))


def test_a_lost_root_and_no_timestamp_is_reported_too(fleet, device):
    fleet.rotate(KeyRole.SNAPSHOT)
    device.follow(fleet.broker(), fleet.now_ms)
    device.files = {"2.root.json": b"rotten"}

    device.boot()

    assert device.client.damage.keys() == {"2.root.json"}


def test_a_newcomer_may_begin_with_the_newest_root(fleet, tmp_path):
    for _ in range(3):
        fleet.rotate(KeyRole.ROOT)
    device = Device(tmp_path / "late", fleet.repository.roots()[4])

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.root_version == 4


def test_a_device_that_joins_again_with_a_newer_root_keeps_what_it_believes(fleet, device):
    fleet.rotate(KeyRole.ROOT)
    device.root = fleet.repository.roots()[2]

    device.boot()

    assert device.remember(fleet.now_ms).wishes["digits"].version == 1


def test_a_device_that_joins_another_fleet_forgets_the_first(fleet, device, tmp_path):
    for _ in range(2):
        fleet.rotate(KeyRole.ROOT)
    device.follow(fleet.broker(), fleet.now_ms)
    other = Fleet(tmp_path / "other")
    other.enroll("cam-1")
    other.push(9)
    device.root = other.repository.roots()[1]

    device.boot()

    assert device.remember(other.now_ms) is None
    assert device.client.damage == {}
    assert device.follow(other.broker(), other.now_ms).resolved.wishes["digits"].version == 9


def test_a_timestamp_without_an_issue_time_tells_no_time(fleet, device):
    for value in ("soon", -1, 2**60, True):
        broker = forged(fleet, {"timestamp": lambda s, v=value: s.unrecognized_fields.update(issued_ms=v)})
        device.boot()
        before = device.client.issued_ms

        resolved = Device(device._work_dir / "x", device.root).follow(broker, fleet.now_ms).resolved

        assert resolved.issued_ms == 0
        assert device.client.issued_ms == before


@pytest.mark.parametrize("root", [b"", b"{}", b"\xff" * 99])
def test_a_root_that_is_none_is_told_at_once(tmp_path, root):
    with pytest.raises(TrustError) as error:
        TrustClient(device="cam-1", profile="p", files={}, bootstrap_root=root, work_dir=tmp_path / "run")

    assert error.value.problem.reason is Reason.METADATA_MALFORMED


def test_a_root_that_did_not_sign_itself_is_told_at_once(fleet, tmp_path):
    metadata: Metadata[Root] = Metadata.from_bytes(fleet.repository.roots()[1])
    metadata.signatures.clear()

    with pytest.raises(TrustError) as error:
        Device(tmp_path / "run", metadata.to_bytes())

    assert error.value.problem.reason is Reason.METADATA_UNSIGNED


def test_a_working_folder_that_cannot_be_written_is_told(fleet, device, tmp_path):
    fleet.push(2)
    shutil.rmtree(tmp_path / "run" / "cam-1" / "newest")
    (tmp_path / "run" / "cam-1" / "newest").write_bytes(b"in the way")

    with pytest.raises(TrustError) as error:
        device.client.refresh(
            roots={}, timestamp=fleet.broker().timestamp, blob=lambda _: None, now_ms=fleet.now_ms, final=True
        )

    assert error.value.problem.reason is Reason.DISK_FAULT
