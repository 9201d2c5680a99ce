"""What a push would do to a device and how far it has got: decided without a network."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fleet.fakes import PROFILE, write_artifact
from tests.fleet.reports import (
    DEPLOYMENT,
    OTHER_DEPLOYMENT,
    PROBLEM,
    TOPICS,
    ended,
    heard,
    running,
    state,
    telemetry,
    view,
)

from edgeferry.device_profiles import DeviceProfile, Swap, load_profile
from edgeferry.fleet.delivery import Delivery, _at_the_end, raise_unless_done
from edgeferry.fleet.errors import FleetError, PendingError, UsageError
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.push import (
    OFFLINE_GRACE_S,
    Plan,
    Progress,
    Standing,
    Target,
    plan_for,
    progress_of,
    refuse_what_cannot_be,
)
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import ArtifactManifest, DifferenceRef, decode_manifest
from edgeferry.wire.messages import Info, LabelState, Outcome, TransferState
from edgeferry.wire.topics import TopicKind

TARGET = Target("pi", "digits", 2, DEPLOYMENT, generation=5)


@pytest.fixture
def manifest(tmp_path: Path) -> ArtifactManifest:
    folder = write_artifact(tmp_path, "digits", 2)
    return decode_manifest((folder / PROFILE / "artifact.json").read_bytes())


def plan(manifest: ArtifactManifest, fleet: FleetView, **changes: Any) -> Plan:
    changed = msgspec.structs.replace(manifest, **changes)
    return plan_for(Device("pi", PROFILE), {PROFILE: changed}, load_profile(PROFILE), fleet.get("pi"), 0.0)


def progress(fleet: FleetView, *, now: float = 0.0, began_at: float = 0.0, target: Target = TARGET) -> Progress:
    return progress_of(target, fleet.get("pi"), now=now, began_at=began_at)


def test_a_new_version_moves_its_model_and_its_selftest(manifest: ArtifactManifest) -> None:
    planned = plan(manifest, heard(state(running(1))))

    assert (planned.moved_bytes, planned.scheme, planned.fits) == (201_000, "int8", True)


@pytest.mark.parametrize("had", [running(2), running(1, previous=2)])
def test_what_a_device_has_is_not_moved(manifest: ArtifactManifest, had: Any) -> None:
    assert plan(manifest, heard(state(had))).moved_bytes == 0


def test_of_what_a_device_can_make_the_smallest_difference_is_moved(manifest: ArtifactManifest) -> None:
    model, selftest = (blob.sha256 for blob in manifest.blobs)
    differences = [DifferenceRef(base * 64, model, "d" * 64, size) for base, size in (("a", 50), ("b", 40), ("c", 30))]

    planned = plan_for(
        Device("pi", PROFILE),
        {PROFILE: manifest},
        load_profile(PROFILE),
        heard(state(running(1))).get("pi"),
        0.0,
        held={"a" * 64, "b" * 64, selftest},
        differences=differences,
    )

    assert (planned.moved_bytes, planned.whole_bytes, planned.saved_bytes) == (40, 200_000, 199_960)


def test_a_profile_without_an_artifact_is_an_obstacle(manifest: ArtifactManifest) -> None:
    planned = plan_for(Device("pi", "other"), {PROFILE: manifest}, None, view().get("pi"), 0.0)

    assert planned.obstacle == f"no artifact for profile other, only for {PROFILE}; convert with -p other"
    assert not planned.fits


def test_a_model_beyond_the_budget_is_an_obstacle(manifest: ArtifactManifest) -> None:
    planned = plan(manifest, view(), memory_bytes=10**12)

    assert planned.obstacle.startswith("digits 2 needs 1000000.0 MB of memory, profile generic-x86-64 allows")


def test_a_profile_that_is_not_known_here_has_no_budget(manifest: ArtifactManifest) -> None:
    manifest = msgspec.structs.replace(manifest, memory_bytes=10**12)

    assert not plan_for(Device("pi", PROFILE), {PROFILE: manifest}, None, view().get("pi"), 0.0).obstacle


def test_a_disk_that_is_nearly_full_is_a_doubt(manifest: ArtifactManifest) -> None:
    planned = plan(manifest, heard(telemetry=telemetry(disk_free_bytes=67_000_000)))

    assert planned.doubt == "has 67.0 MB of disk left, needs 0.2 MB and a floor of 67.1 MB"
    assert not planned.obstacle


def test_nobody_addressed_is_refused() -> None:
    with pytest.raises(UsageError, match="no device is addressed"):
        refuse_what_cannot_be([])


def test_obstacles_are_refused_with_their_number(manifest: ArtifactManifest) -> None:
    stopped = plan(manifest, view(), memory_bytes=10**12)

    with pytest.raises(UsageError, match=r"^pi \(and 1 more\): digits 2 needs .*nothing was published$"):
        refuse_what_cannot_be([stopped, stopped])
    with pytest.raises(UsageError, match=r"^pi: digits 2"):
        refuse_what_cannot_be([stopped])


def test_what_fits_is_not_refused(manifest: ArtifactManifest) -> None:
    refuse_what_cannot_be([plan(manifest, view())])


def test_a_device_that_knows_the_wish_and_runs_the_version_is_active() -> None:
    assert progress(heard(state(running(2, deployment=DEPLOYMENT)))).standing is Standing.ACTIVE


@pytest.mark.parametrize("deployment", ["", DEPLOYMENT])
def test_what_ran_before_the_push_is_active_at_once_even_offline(deployment: str) -> None:
    before = heard(state(running(2, deployment=deployment), generation=4), online=False)

    assert progress(before).standing is Standing.ACTIVE


def test_a_device_on_its_way_to_another_version_is_not_active_yet() -> None:
    on_its_way = running(2, wanted=3, deployment=OTHER_DEPLOYMENT, phase="fetching")

    assert progress(heard(state(on_its_way, generation=4))).standing is Standing.WORKING


def test_a_quarantined_version_is_not_active() -> None:
    assert progress(heard(state(running(2, quarantined=True)))).standing is Standing.WORKING


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ROLLED_BACK])
def test_a_deployment_that_failed_is_final_with_its_reason(outcome: Outcome) -> None:
    found = progress(heard(state(running(1, wanted=2, deployment=DEPLOYMENT, last=ended(2, outcome)))))

    assert (found.standing, found.is_final) == (Standing.FAILED, True)
    assert found.reason == f"{outcome.replace('_', ' ')}: SELFTEST_MISMATCH: 4 of 8 differ"


def test_a_failure_without_a_reason_is_told_as_one() -> None:
    found = progress(heard(state(running(1, wanted=2, last=ended(2, Outcome.FAILED, problem=None)))))

    assert found.reason == "no reason given"


def test_the_failure_of_an_earlier_attempt_is_not_this_ones() -> None:
    last = ended(2, Outcome.FAILED, deployment=OTHER_DEPLOYMENT)

    assert progress(heard(state(running(1, wanted=2, phase="trying", last=last)))).standing is Standing.WORKING


def test_a_generation_under_an_older_root_supersedes_nothing() -> None:
    rushed_ahead = heard(state(running(1, wanted=1), generation=10**9))  # a thief's, whose key root 2 has replaced

    found = progress(rushed_ahead, target=dataclasses.replace(TARGET, root_version=2))

    assert found.standing is Standing.WORKING


def test_a_later_push_of_another_version_supersedes_this_one() -> None:
    found = progress(heard(state(running(1, wanted=3), generation=6)))

    assert (found.standing, found.reason) == (Standing.FAILED, "superseded: version 3 has been published since")
    assert progress(heard(state(generation=6))).reason.startswith("superseded: version 0")


def test_a_device_that_was_never_heard_or_was_offline_before_is_pending() -> None:
    assert progress(view()).standing is Standing.PENDING
    assert progress(heard(online=False, at=0.0), now=1.0, began_at=0.5).standing is Standing.PENDING


def test_a_device_that_goes_away_during_the_push_has_a_while_to_come_back() -> None:
    gone = heard(state(running(1)), at=0.0)
    gone.apply(TOPICS.device("pi", TopicKind.AVAILABILITY), b"offline", 10.0)

    assert progress(gone, now=10.0 + OFFLINE_GRACE_S - 0.1, began_at=5.0).standing is Standing.WORKING
    assert progress(gone, now=10.0 + OFFLINE_GRACE_S, began_at=5.0).standing is Standing.PENDING


def test_a_device_that_has_not_seen_the_wish_is_waking() -> None:
    assert progress(heard(state(running(1), generation=4))).phase == "waking"
    assert progress(heard()).phase == "waking"


def test_a_transfer_is_told_in_bytes() -> None:
    transfer = TransferState(sha256="a" * 64, done_bytes=1, total_bytes=2)

    found = progress(heard(state(running(1, wanted=2, phase="fetching", transfer=transfer))))

    assert (found.phase, found.done_bytes, found.total_bytes) == ("fetching", 1, 2)


@pytest.mark.parametrize("why", [{"metadata": PROBLEM}, {"waiting": PROBLEM}])
def test_what_holds_a_device_up_is_told(why: dict[str, Any]) -> None:
    assert progress(heard(state(running(1, wanted=2), **why))).reason == "SELFTEST_MISMATCH: 4 of 8 differ"


def test_all_active_is_done() -> None:
    raise_unless_done({"pi": Progress(Standing.ACTIVE)})


def test_a_failure_weighs_more_than_a_device_that_is_offline() -> None:
    both = {"a": Progress(Standing.PENDING, reason="offline"), "b": Progress(Standing.FAILED, reason="why")}

    with pytest.raises(FleetError, match="not active on 1 of 2 devices: b: why") as raised:
        raise_unless_done(both)

    assert raised.value.exit_code == 1


def test_many_offline_devices_are_counted_and_some_named() -> None:
    many = {f"pi-{number}": Progress(Standing.PENDING) for number in range(7)}

    with pytest.raises(PendingError, match=r"7 of 7 devices are offline: pi-0; .*; pi-4; and 2 more"):
        raise_unless_done(many)


def test_whoever_is_not_done_at_the_timeout_has_failed() -> None:
    delivery = Delivery((TARGET,), 30.0)

    late = _at_the_end(Progress(Standing.WORKING, "trying", reason="BUSY"), delivery.timeout_s)

    assert (late.standing, late.reason) == (Standing.FAILED, "still trying after 30 s: BUSY")


CANARY = Target("pi", "digits", 2, DEPLOYMENT, generation=5, label="canary", percent=10)


def with_canary(labels: dict[str, int], **canary: Any) -> FleetView:
    fields: dict[str, Any] = {"wanted": 2, "phase": "idle", "percent": 10, "deployment": DEPLOYMENT}
    model = running(1, labels={"stable": 1, **labels}, others={"canary": LabelState(**{**fields, **canary})})
    return heard(state(model))


def test_a_canary_is_active_when_its_label_names_it_with_its_share() -> None:
    assert progress(with_canary({"canary": 2}), target=CANARY).standing is Standing.ACTIVE
    assert progress(with_canary({"canary": 2}, percent=5), target=CANARY).standing is Standing.WORKING
    assert progress(with_canary({}), target=CANARY).standing is Standing.WORKING
    assert progress(heard(state(running(1))), target=CANARY).standing is Standing.WORKING


def test_a_canary_that_was_rolled_back_has_failed_although_the_stable_version_is_well() -> None:
    fleet = with_canary({}, last=ended(2, Outcome.ROLLED_BACK))

    assert progress(fleet, target=CANARY).reason == "rolled back: SELFTEST_MISMATCH: 4 of 8 differ"


def test_a_canary_counts_on_a_device_that_has_gone_away_with_it() -> None:
    fleet = with_canary({"canary": 2})
    fleet.apply(TOPICS.device("pi", TopicKind.AVAILABILITY), b"offline", 0.0)

    assert progress(fleet, target=CANARY).standing is Standing.ACTIVE


def test_a_canary_is_withdrawn_when_its_label_names_nothing_any_more() -> None:
    nothing = Target("pi", "digits", 0, "", generation=5, label="canary")

    assert progress(with_canary({"canary": 2}), target=nothing).standing is Standing.WORKING
    assert progress(heard(state(running(1))), target=nothing).standing is Standing.ACTIVE
    assert progress(heard(state()), target=nothing).standing is Standing.ACTIVE


def test_where_no_canary_was_there_is_none_to_withdraw_from_a_device_that_is_away() -> None:
    nothing = Target("pi", "digits", 0, "", generation=5, label="canary")

    found = progress(heard(state(running(1), generation=4), online=False), target=nothing)

    assert found.standing is Standing.ACTIVE


def test_a_canary_needs_room_for_two_and_an_agent_that_knows_labels(manifest: ArtifactManifest) -> None:
    profile = load_profile(PROFILE)
    small = replace(profile, serving=replace(profile.serving, swap=Swap.STOP_FIRST))
    old = heard(state(running(1)))
    old.apply(TOPICS.device("pi", TopicKind.INFO), encode(Info(v=1, id="pi", profile=PROFILE, boot="b")), 0.0)

    def obstacle(profile: DeviceProfile, fleet: FleetView) -> str:
        manifests = {PROFILE: manifest}
        return plan_for(Device("pi", PROFILE), manifests, profile, fleet.get("pi"), 0.0, label="canary").obstacle

    assert "holds one version at a time (swap: stop_first)" in obstacle(small, view())
    assert obstacle(profile, old) == "its agent knows no labels, so it would ignore the canary; update edgeferry there"
    assert obstacle(profile, view()) == ""
