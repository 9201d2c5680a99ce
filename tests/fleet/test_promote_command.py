"""`push --canary`, `promote` and `rollback` of a canary as a user runs them, against fake devices on real brokers."""

import msgspec
import pytest
from tests.fleet.conftest import Fleet
from tests.fleet.fakes import FakeDevice, replace_state

from edgeferry.wire.messages import LabelTelemetry, Outcome

pytestmark = pytest.mark.broker


@pytest.fixture
def device(fleet: Fleet) -> FakeDevice:
    """A device on which version 1 is stable and version 2 the canary, with a tenth of the requests."""
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1")
    fleet.run("push", fleet.artifact(1))
    pushed = fleet.run("push", fleet.artifact(2), "--canary", "10%")
    assert pushed.exit_code == 0, pushed.stderr
    return device


def labels_of(device: FakeDevice) -> dict[str, int]:
    return device.state.models["digits"].labels


def test_a_canary_runs_beside_the_version_that_answers(fleet: Fleet, device: FakeDevice) -> None:
    wish = fleet.repository().wishes_of("pi-1")["digits"]

    assert labels_of(device) == {"stable": 1, "canary": 2}
    assert device.state.models["digits"].others["canary"].percent == 10
    assert (wish.labels, wish.settings) == ({"stable": 1, "canary": 2}, {"canary_percent": 10})


def test_its_share_is_changed_by_pushing_it_again(fleet: Fleet, device: FakeDevice) -> None:
    fetched = dict(device.fetched)

    raised = fleet.run("push", str(fleet.build / "digits" / "2"), "--canary", "50", "--json")

    assert raised.exit_code == 0, raised.stderr
    assert (raised.json[0]["label"], raised.json[0]["standing"]) == ("canary", "active")
    assert device.state.models["digits"].others["canary"].percent == 50
    assert device.fetched == fetched


def test_it_becomes_the_version_that_answers_and_nothing_is_moved(fleet: Fleet, device: FakeDevice) -> None:
    fetched = dict(device.fetched)

    planned = fleet.run("promote", "digits", "--dry-run", "--json")
    promoted = fleet.run("promote", "digits")

    assert planned.json[0]["moved_bytes"] == 0
    assert promoted.exit_code == 0, promoted.stderr
    assert "active on 1 of 1 devices" in promoted.stdout
    assert labels_of(device) == {"stable": 2}
    assert device.fetched == fetched


def test_the_version_before_can_stay_loaded(fleet: Fleet, device: FakeDevice) -> None:
    fleet.run("promote", "digits", "--keep-previous")

    assert labels_of(device) == {"stable": 2, "previous": 1}
    fleet.run("push", fleet.artifact(3), "--canary", "5%")
    assert fleet.repository().wishes_of("pi-1")["digits"].labels == {"stable": 2, "canary": 3, "previous": 1}


def test_a_rollback_takes_the_canary_back_and_leaves_the_version_that_answers(fleet: Fleet, device: FakeDevice) -> None:
    back = fleet.run("rollback", "digits")

    assert back.exit_code == 0, back.stderr
    assert "taken back: the canary of 'digits' on pi-1; the version that answers stays" in back.stderr
    assert "withdrawn on 1 of 1 devices" in back.stdout
    assert labels_of(device) == {"stable": 1}


def test_a_push_of_another_version_withdraws_the_canary(fleet: Fleet, device: FakeDevice) -> None:
    fleet.run("push", fleet.artifact(3))

    assert labels_of(device) == {"stable": 3}


def test_the_status_shows_errors_and_latency_of_both_side_by_side(fleet: Fleet, device: FakeDevice) -> None:
    model = device.state.models["digits"]
    figures = LabelTelemetry(version=2, rps=1.0, total=40, errors_total=2, p50_ms=3.0, p95_ms=4.25)
    canary = msgspec.structs.replace(model.others["canary"], figures=figures)
    stable = msgspec.structs.replace(figures, version=1, total=360, errors_total=0, p95_ms=3.5)
    compared = msgspec.structs.replace(model, figures=stable, others={"canary": canary})
    device.say_state(replace_state(device.state, models={"digits": compared}))

    shown = fleet.run("status", "digits")
    told = fleet.run("status", "digits", "--json")

    assert shown.exit_code == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if "canary 10%" in line]
    assert all(figure in line for figure in ("40", "5.0%", "3.0 ms", "4.2 ms"))
    assert [(one["label"], one["figures"]["total"]) for one in told.json] == [("stable", 360), ("canary", 40)]


def test_the_monitor_names_the_canary_and_its_share(fleet: Fleet, device: FakeDevice) -> None:
    device.say_telemetry()

    assert "digits 1 (canary 2, 10%)" in fleet.run("monitor", "--once").stdout


def test_a_canary_that_fails_ends_the_push_with_its_reason(fleet: Fleet) -> None:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1", outcomes={2: Outcome.ROLLED_BACK})
    fleet.run("push", fleet.artifact(1))

    pushed = fleet.run("push", fleet.artifact(2), "--canary", "10%")
    promoted = fleet.run("promote", "digits")
    forced = fleet.run("promote", "digits", "--force")

    assert pushed.exit_code == 1
    assert "rolled back: SELFTEST_MISMATCH" in pushed.stderr
    assert labels_of(device) == {"stable": 1}
    assert promoted.exit_code == 2
    assert "the canary 2 of 'digits' does not serve on pi-1" in promoted.stderr
    assert forced.exit_code == 1  # tried as the stable version, and it fails again


def test_what_no_canary_can_stand_beside_is_told(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1")

    artifact = fleet.artifact(1)

    first = fleet.run("push", artifact, "--canary", "10%")
    fleet.run("push", artifact)
    same = fleet.run("push", artifact, "--canary", "10%")
    nobody = fleet.run("promote", "digits")

    assert "pi-1 runs no version of 'digits' for a canary to stand beside" in first.stderr
    assert "digits 1 is stable on pi-1, so it cannot be the canary there" in same.stderr
    assert "no device within all has a canary of 'digits'; push one with --canary 10%" in nobody.stderr
    assert {first.exit_code, same.exit_code, nobody.exit_code} == {2}


def test_devices_with_different_versions_each_keep_their_own_beside_the_canary(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")
    fleet.add("pi-3")
    one, two = fleet.switch_on("pi-1"), fleet.switch_on("pi-2")
    first, second, third = (fleet.artifact(version) for version in (1, 2, 3))
    fleet.run("push", first, "--to", "all", "--timeout", "2")
    fleet.run("push", second, "--to", "pi-2")

    fleet.run("push", third, "--canary", "10%", "--to", "pi-1")
    pushed = fleet.run("push", third, "--canary", "10%", "--to", "pi-2")
    promoted = fleet.run("promote", "digits")

    assert pushed.exit_code == 0, pushed.stderr
    assert promoted.exit_code == 0, promoted.stderr
    assert "left as they are, because they have no canary of 'digits': pi-3" in promoted.stderr
    assert labels_of(one) == labels_of(two) == {"stable": 3}
    assert fleet.repository().wishes_of("pi-3")["digits"].labels == {"stable": 1}


@pytest.mark.parametrize("share", ["101%", "-1", "ten", "0.5%"])
def test_a_share_that_is_none_is_refused(fleet: Fleet, share: str) -> None:
    fleet.add("pi-1")

    pushed = fleet.run("push", fleet.artifact(1), f"--canary={share}")

    assert pushed.exit_code == 2
    assert "--canary" in pushed.stderr
