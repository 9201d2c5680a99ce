"""A device that nobody deceives believes what was published, and asks for no more than it lacks."""

from pathlib import Path

import pytest

from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.fleet.documents import Canary
from edgeferry.fleet.inventory import Device as Member
from edgeferry.fleet.keys import KeyRole
from edgeferry.wire.desired import BlobRef
from edgeferry.wire.messages import Reason
from tests.trust.simulator import PROFILE, Device, Fleet


def versions(resolved: Resolved) -> dict[str, int]:
    return {model: wish.version for model, wish in resolved.wishes.items()}


def test_a_new_device_learns_what_to_run(fleet, new_device):
    followed = new_device.follow(fleet.broker(), fleet.now_ms)

    resolved = followed.resolved
    assert versions(resolved) == {"digits": 1}
    assert resolved.manifests["digits"] == fleet.repository.manifests("digits", 1)["raspberry-pi-4"]
    assert resolved.wishes["digits"].manifest == fleet.repository.manifest_refs("digits", 1)["raspberry-pi-4"]
    assert (resolved.groups, resolved.generation, resolved.root_version) == (("porch",), fleet.repository.generation, 1)
    assert (resolved.issued_ms, resolved.refusals, resolved.metadata) == (fleet.now_ms, {}, None)
    assert resolved.expires_ms == fleet.now_ms + 60 * 24 * 3600 * 1000


def test_a_new_device_needs_eight_rounds_and_less_than_64_kb(fleet, new_device):
    followed = new_device.follow(fleet.broker(), fleet.now_ms)

    # snapshot; targets; bins of all and cam-1; their documents; bin of porch; its document; bin of the manifest; it
    assert followed.rounds <= 8
    assert followed.fetched_bytes < 64 * 1024


def test_a_push_costs_a_device_five_rounds_and_less_than_48_kb(fleet, device):
    fleet.push(2)

    followed = device.follow(fleet.broker(), fleet.now_ms)

    assert versions(followed.resolved) == {"digits": 2}
    assert followed.rounds <= 5  # snapshot; bins; documents; bin of the manifest; the manifest
    assert followed.fetched_bytes < 48 * 1024


def test_differences_that_are_offered_are_learned_without_another_round(fleet, device):
    fleet.push(2)
    rounds = device.follow(fleet.broker(), fleet.now_ms).rounds
    fleet.push(3)
    repository = fleet.repository
    old, new = (repository.manifests("digits", version)[PROFILE].blob("model").ref() for version in (2, 3))
    repository.offer_difference(repository.manifest_refs("digits", 3)[PROFILE], old, new)
    fleet.publish()

    followed = device.follow(fleet.broker(), fleet.now_ms)

    (difference,) = followed.resolved.differences
    assert (difference.base, difference.made) == (old.sha256, new.sha256)
    assert fleet.blob(difference.sha256) is not None
    assert followed.rounds <= rounds


def test_what_has_not_changed_is_not_fetched_again(fleet, device):
    followed = device.follow(fleet.broker(), fleet.now_ms)

    assert (followed.rounds, followed.fetched_bytes) == (0, 0)
    assert versions(followed.resolved) == {"digits": 1}


def test_a_push_to_another_device_costs_a_snapshot_and_what_shares_a_bin(fleet, device):
    fleet.enroll("cam-2")
    fleet.push(2, "cam-2")

    followed = device.follow(fleet.broker(), fleet.now_ms)

    assert versions(followed.resolved) == {"digits": 1}
    assert followed.rounds <= 2
    assert followed.fetched_bytes < 48 * 1024


def test_everything_that_can_be_known_to_be_missing_is_asked_for_at_once(fleet, new_device):
    broker = fleet.broker()

    asked = []
    while isinstance(seen := new_device.look(broker, fleet.now_ms), Missing):
        asked.append(len(seen.blobs))
        new_device.blobs |= {ref.sha256: broker.give(ref) for ref in seen.blobs}

    assert asked[:4] == [1, 1, 2, 2]


def test_a_device_of_no_group_follows_the_wishes_for_all(fleet, tmp_path):
    fleet.enroll("cam-2")
    device = Device(tmp_path / "run", fleet.repository.roots()[1], "cam-2")

    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved

    assert (versions(resolved), resolved.groups) == ({"digits": 1}, ())


def test_a_device_that_is_not_in_the_inventory_follows_the_wishes_for_all(fleet, tmp_path):
    device = Device(tmp_path / "run", fleet.repository.roots()[1], "stranger")

    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved

    assert (versions(resolved), resolved.groups) == ({"digits": 1}, ())


def test_a_device_in_two_groups_follows_both(fleet, tmp_path):
    fleet.enroll("cam-2", "garden", "night")
    fleet.push(2, "group:garden")
    fleet.push(1, "group:night", name="owls")
    device = Device(tmp_path / "run", fleet.repository.roots()[1], "cam-2")

    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved

    assert (versions(resolved), resolved.groups) == ({"digits": 2, "owls": 1}, ("garden", "night"))


def test_a_device_that_changes_groups_follows_the_new_one(fleet, device):
    fleet.enroll("cam-2", "garden")
    fleet.push(2, "group:garden")
    fleet.repository.inventory.add("cam-1", "raspberry-pi-4", ["garden"], replace=True)
    fleet.publish()

    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved

    assert (versions(resolved), resolved.groups) == ({"digits": 2}, ("garden",))


def test_a_wish_for_one_device_wins_over_its_groups_and_all(fleet, device):
    fleet.push(2, "group:porch")
    fleet.push(3, "cam-1")

    assert versions(device.follow(fleet.broker(), fleet.now_ms).resolved) == {"digits": 3}


def test_a_model_that_nobody_wishes_any_more_is_wished_no_more(fleet, device):
    fleet.repository.unwish("digits", "all")
    fleet.publish()

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes == {}


def test_a_model_without_an_artifact_for_the_profile_is_refused_and_the_others_are_not(fleet, device):
    fleet.push(4, name="owls", profile="coral-dev-board")

    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved

    version, problem = resolved.refusals["owls"]
    assert (version, problem.reason) == (4, Reason.NO_ARTIFACT_FOR_PROFILE)
    assert "owls 4 has no artifact for profile raspberry-pi-4" in problem.detail
    assert versions(resolved) == {"digits": 1}


def test_a_retry_is_another_deployment_of_the_same_version(fleet, device):
    before = device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"]
    fleet.push(1, retry=True)

    after = device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"]

    assert (after.version, after.manifest) == (before.version, before.manifest)
    assert after.deployment_id() != before.deployment_id()


def test_a_rollback_moves_nothing_but_metadata(fleet, device):
    fleet.push(2)
    device.follow(fleet.broker(), fleet.now_ms)
    fleet.push(1)

    followed = device.follow(fleet.broker(), fleet.now_ms)

    assert versions(followed.resolved) == {"digits": 1}
    assert followed.rounds <= 3  # snapshot; bins; documents: the manifest is still here


def test_a_renewed_timestamp_moves_the_expiry_and_nothing_else(fleet, device):
    before = device.follow(fleet.broker(), fleet.now_ms).resolved
    fleet.wait(days=31)
    assert fleet.repository.renew(fleet.now)

    after = device.follow(fleet.broker(), fleet.now_ms).resolved

    assert after.expires_ms == before.expires_ms + 31 * 24 * 3600 * 1000
    assert after.wishes == before.wishes


def test_a_device_whose_clock_says_1970_follows_and_learns_a_better_time(fleet, new_device):
    resolved = new_device.follow(fleet.broker(), now_ms=0).resolved

    assert versions(resolved) == {"digits": 1}
    assert resolved.issued_ms == new_device.client.issued_ms == fleet.now_ms


@pytest.mark.parametrize("now_ms", [-1, 10**18])
def test_a_clock_beyond_all_calendars_is_no_error_of_its_own(fleet, device, now_ms):
    if now_ms < 0:
        assert versions(device.follow(fleet.broker(), now_ms).resolved) == {"digits": 1}
        return

    with pytest.raises(TrustError) as refused:
        device.follow(fleet.broker(), now_ms)

    assert refused.value.problem.reason is Reason.METADATA_EXPIRED


def test_what_was_read_is_named_so_that_it_can_be_kept(fleet, device):
    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved
    device.blobs = {sha256: data for sha256, data in device.blobs.items() if sha256 in resolved.documents}
    device.boot()

    assert device.remember(fleet.now_ms) == resolved
    assert isinstance(device.look(fleet.broker(), fleet.now_ms), Resolved)


def test_the_timestamp_may_come_before_the_roots(fleet, device):
    fleet.rotate(KeyRole.TIMESTAMP)
    broker = fleet.broker()
    early = fleet.broker()
    early.roots = {1: broker.roots[1]}

    assert device.look(early, fleet.now_ms, final=False) == Missing(blobs=(), roots=(2,))

    assert device.follow(broker, fleet.now_ms).resolved.root_version == 2


def test_a_blob_that_is_missing_has_a_name_and_a_size(fleet, new_device):
    missing = new_device.look(fleet.broker(), fleet.now_ms)

    snapshot = fleet.publication().snapshot
    assert missing == Missing(blobs=(BlobRef(sha256=snapshot.sha256, size_bytes=snapshot.size_bytes),), roots=())


def test_ten_thousand_devices_cost_one_of_them_kilobytes(tmp_path: Path):
    fleet = Fleet(tmp_path)
    fleet.repository.inventory.extend(Member(id=f"cam-{i}", profile=PROFILE) for i in range(10_000))
    fleet.push(1)
    device = Device(tmp_path / "run", fleet.repository.roots()[1], "cam-7")
    first = device.follow(fleet.broker(), fleet.now_ms)
    fleet.push(2, "cam-7")

    second = device.follow(fleet.broker(), fleet.now_ms)

    assert first.fetched_bytes < 96 * 1024
    assert second.fetched_bytes < 64 * 1024
    assert versions(second.resolved) == {"digits": 2}


def test_a_canary_is_resolved_beside_the_stable_version(fleet, device):
    fleet.push(2)
    fleet.repository.wish("digits", 1, "all", canary=Canary(2, 10))
    fleet.publish()

    resolved = device.follow(fleet.broker(), fleet.now_ms).resolved

    assert versions(resolved) == {"digits": 1, "digits/canary": 2}
    canary = resolved.wishes["digits/canary"]
    assert (canary.model, canary.label, canary.percent) == ("digits", "canary", 10)
    assert resolved.manifests["digits/canary"].version == 2
