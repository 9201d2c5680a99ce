"""`push`, `rollback`, `status` and `infer` as a user runs them, against fake devices on real brokers."""

import random
import re

import pytest
from tests.fleet.conftest import Fleet

from edgeferry.wire.messages import Outcome

pytestmark = pytest.mark.broker


def test_a_push_ends_with_0_when_every_device_runs_the_version(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")
    one, two = fleet.switch_on("pi-1"), fleet.switch_on("pi-2")

    pushed = fleet.run("push", fleet.artifact(1))

    assert pushed.exit_code == 0, pushed.stderr
    assert "active on 2 of 2 devices" in pushed.stdout
    assert one.state.models["digits"].labels == two.state.models["digits"].labels == {"stable": 1}


def test_a_version_that_fails_ends_with_1_and_the_reason(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1", outcomes={1: Outcome.FAILED})

    pushed = fleet.run("push", fleet.artifact(1))

    assert pushed.exit_code == 1
    assert "pi-1: failed: SELFTEST_MISMATCH: 4 of 8 differ" in pushed.stderr


def test_a_failed_version_is_tried_again_when_it_is_asked_for(fleet: Fleet) -> None:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1", outcomes={1: Outcome.ROLLED_BACK})
    artifact = fleet.artifact(1)
    first = fleet.run("push", artifact)
    device.outcomes.clear()

    again = fleet.run("push", artifact)
    retried = fleet.run("push", artifact, "--retry")

    assert (first.exit_code, again.exit_code, retried.exit_code) == (1, 1, 0), retried.stderr
    assert "rolled back" in again.stderr


def test_a_device_that_is_offline_ends_the_push_with_3(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")
    fleet.switch_on("pi-1")

    pushed = fleet.run("push", fleet.artifact(1), "--json")

    assert pushed.exit_code == 3, pushed.stderr
    assert [(one["device"], one["standing"]) for one in pushed.json] == [("pi-1", "active"), ("pi-2", "pending")]
    assert "1 of 2 devices are offline: pi-2" in pushed.stderr


def test_a_device_that_hangs_ends_the_push_at_its_timeout(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1", outcomes={1: None})

    pushed = fleet.run("push", fleet.artifact(1), "--timeout", "2")

    assert pushed.exit_code == 1
    assert "pi-1: still fetching after 2 s" in pushed.stderr


def test_what_runs_already_is_active_at_once_and_moves_nothing(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1")
    artifact = fleet.artifact(1)
    fleet.run("push", artifact)

    plan = fleet.run("push", artifact, "--dry-run", "--json")
    again = fleet.run("push", artifact)

    assert plan.json[0]["moved_bytes"] == 0
    assert again.exit_code == 0, again.stderr


def test_a_dry_run_says_who_would_get_what_and_changes_nothing(fleet: Fleet) -> None:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1")
    device.say_telemetry(disk_free_bytes=1_000_000)
    generation = fleet.repository().generation

    planned = fleet.run("push", fleet.artifact(1), "--dry-run")

    assert planned.exit_code == 0, planned.stderr
    assert "digits 1" in planned.stdout
    assert "201.0 kB" in planned.stdout
    assert fleet.repository().generation == generation
    assert device.state.models == {}


def test_what_a_device_can_make_from_what_it_has_is_not_counted_as_moved(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")
    fleet.switch_on("pi-1")
    before = random.Random(1).randbytes(200_000)
    fleet.run("push", fleet.artifact(1, model=before), "--to", "pi-1")
    artifact = fleet.artifact(2, model=before[:-10])

    planned = fleet.run("push", artifact, "--dry-run", "--json")
    told = fleet.run("push", artifact, "--dry-run")
    pushed = fleet.run("push", artifact, "--to", "pi-1", "--json")

    one, two = planned.json
    assert one["whole_bytes"] == two["whole_bytes"] == two["moved_bytes"] == 200_990
    assert 1000 < one["moved_bytes"] < 1200
    assert [line.split()[-2] for line in told.stdout.splitlines()[1:]] == ["kB", "-"]
    assert (pushed.json[0]["moved_bytes"], pushed.json[0]["whole_bytes"]) == (one["moved_bytes"], 200_990)


def test_what_was_saved_is_said_by_what_was_sent(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1")
    before = random.Random(1).randbytes(200_000)
    first = fleet.run("push", fleet.artifact(1, model=before))

    pushed = fleet.run("push", fleet.artifact(2, model=before[:-10]))

    # this device of the tests does without differences, so all of the model was sent after all
    assert first.stdout == "active on 1 of 1 devices\n"
    assert re.search(
        r"active on 1 of 1 devices; sent 2\d\d\.\d kB where the whole would have been 201.0 kB", pushed.stdout
    )


def test_a_profile_without_an_artifact_stops_the_push_before_anything_is_published(fleet: Fleet) -> None:
    fleet.add("pi-1", profile="raspberry-pi-4")
    generation = fleet.repository().generation

    pushed = fleet.run("push", fleet.artifact(1))

    assert pushed.exit_code == 2
    assert "no artifact for profile raspberry-pi-4, only for generic-x86-64" in pushed.stderr
    assert fleet.repository().generation == generation


def test_a_group_is_pushed_to_without_the_others(fleet: Fleet) -> None:
    fleet.add("pi-1", "kitchens")
    fleet.add("pi-2")
    fleet.switch_on("pi-1")
    other = fleet.switch_on("pi-2")

    pushed = fleet.run("push", fleet.artifact(1), "--to", "group:kitchens")

    assert pushed.exit_code == 0, pushed.stderr
    assert other.state.models == {}


def test_an_altered_artifact_is_refused(fleet: Fleet) -> None:
    fleet.add("pi-1")
    artifact = fleet.artifact(1)
    model = fleet.build / "digits" / "1" / "generic-x86-64" / "model.tflite"
    model.write_bytes(bytes(200_000))

    pushed = fleet.run("push", artifact)

    assert pushed.exit_code == 1
    assert "model.tflite" in pushed.stderr


def test_a_rollback_without_a_version_takes_the_one_before(fleet: Fleet) -> None:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1")
    fleet.run("push", fleet.artifact(1))
    fleet.run("push", fleet.artifact(2))

    back = fleet.run("rollback", "digits")

    assert back.exit_code == 0, back.stderr
    assert device.state.models["digits"].labels == {"stable": 1}


def test_devices_that_had_different_versions_before_each_go_back_to_their_own(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")
    one, two = fleet.switch_on("pi-1"), fleet.switch_on("pi-2")
    fleet.run("push", fleet.artifact(1), "--to", "pi-1")
    fleet.run("push", fleet.artifact(2), "--to", "pi-2")
    fleet.run("push", fleet.artifact(3), "--to", "all")

    back = fleet.run("rollback", "digits", "--to", "all")

    assert back.exit_code == 0, back.stderr
    assert one.state.models["digits"].labels == {"stable": 1}
    assert two.state.models["digits"].labels == {"stable": 2}


def test_a_rollback_to_a_version_that_there_is_not_is_refused(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1")
    fleet.run("push", fleet.artifact(1))

    back = fleet.run("rollback", "digits", "--version", "9")
    nothing = fleet.run("rollback", "digits")

    assert back.exit_code == 2
    assert nothing.exit_code == 2
    assert (
        "no version of 'digits' from before was reported by pi-1; name one with --version; published: 1"
        in nothing.stderr
    )


def test_a_model_that_was_never_added_is_told(fleet: Fleet) -> None:
    fleet.add("pi-1")

    back = fleet.run("rollback", "nope")

    assert back.exit_code == 2
    assert "model 'nope' was never added to this fleet" in back.stderr


def test_a_device_without_a_version_before_is_left_as_it_is_when_others_go_back(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")  # it stays offline, and so has nothing to go back to
    old = fleet.switch_on("pi-1")
    fleet.run("push", fleet.artifact(1))
    fleet.run("push", fleet.artifact(2))

    back = fleet.run("rollback", "digits")

    assert back.exit_code == 0, back.stderr
    assert "left as they are, because they reported no version of 'digits' from before: pi-2" in back.stderr
    assert "active on 1 of 1 devices" in back.stdout
    assert old.state.models["digits"].labels == {"stable": 1}
    assert fleet.repository().wishes_of("pi-2")["digits"].labels == {"stable": 2}


def test_the_status_tells_why_wanted_and_running_differ(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1", outcomes={2: Outcome.FAILED})
    fleet.run("push", fleet.artifact(1))
    fleet.run("push", fleet.artifact(2))

    status = fleet.run("status", "digits", "--json")

    assert status.exit_code == 1
    assert (status.json[0]["wanted"], status.json[0]["running"]) == (2, 1)
    assert "SELFTEST_MISMATCH" in status.json[0]["why"]
    assert "push --retry" in fleet.run("status", "digits").stdout


def test_a_status_where_all_agree_ends_with_0(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1")
    fleet.run("push", fleet.artifact(1))

    assert fleet.run("status", "digits").exit_code == 0
