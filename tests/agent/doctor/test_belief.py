"""What the doctor reads out of kept metadata, with a real repository behind it."""

from pathlib import Path

import pytest

from edgeferry.agent.doctor.belief import Belief, believe, examine_trust
from edgeferry.agent.doctor.finding import Finding, Verdict
from tests.trust.simulator import Device, Fleet

MONTHS_MS = 200 * 86_400_000


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet whose one device has followed everything."""
    made = Fleet(tmp_path)
    made.enroll("cam-1")
    made.push(1)
    return made


@pytest.fixture
def device(fleet: Fleet, tmp_path: Path) -> Device:
    made = Device(tmp_path / "work", fleet.repository.roots()[1])
    made.follow(fleet.broker(), fleet.now_ms)
    return made


def belief_of(device: Device, now_ms: int) -> Belief:
    return believe(
        device.files,
        lambda ref: device.blobs.get(ref.sha256),
        device=device.name,
        profile=device.profile,
        root=device.root,
        now_ms=now_ms,
    )


def judged(belief: Belief) -> list[tuple[Verdict, str]]:
    return [(finding.verdict, finding.found) for finding in examine_trust(belief)]


def only(belief: Belief) -> Finding:
    (found,) = examine_trust(belief)
    return found


def test_fresh_metadata_is_fine_and_told_with_its_generation_and_its_end(fleet: Fleet, device: Device) -> None:
    belief = belief_of(device, fleet.now_ms)

    assert only(belief).verdict is Verdict.FINE
    assert f"generation {fleet.repository.generation}, root 1, believed until 2026-" in only(belief).found
    assert 0 < belief.issued_ms <= fleet.now_ms


def test_expired_metadata_is_a_problem_that_the_workstation_mends(fleet: Fleet, device: Device) -> None:
    found = only(belief_of(device, fleet.now_ms + MONTHS_MS))

    assert found.verdict is Verdict.PROBLEM
    assert "has expired" in found.found
    assert "edgeferry origin" in found.advice


def test_a_device_that_has_heard_nothing_yet_is_a_warning(fleet: Fleet, device: Device) -> None:
    device.files = {}

    assert only(belief_of(device, fleet.now_ms)).verdict is Verdict.WARNING


def test_a_damaged_file_is_a_warning_beside_what_is_still_believed(fleet: Fleet, device: Device) -> None:
    device.files["timestamp.json"] = b"rubbish"

    *damages, (belief, _) = judged(belief_of(device, fleet.now_ms))

    assert {verdict for verdict, _ in damages} == {Verdict.WARNING}
    assert "timestamp.json" in damages[0][1]
    assert belief is Verdict.FINE


def test_a_root_that_is_none_is_a_problem(fleet: Fleet, device: Device) -> None:
    device.root = b"rubbish"

    found = only(belief_of(device, fleet.now_ms))

    assert found.verdict is Verdict.PROBLEM
    assert "--renew" in found.advice


def test_a_model_without_an_artifact_for_this_profile_is_a_problem(fleet: Fleet, tmp_path: Path) -> None:
    fleet.enroll("cam-2", profile="raspberry-pi-5")
    device = Device(tmp_path / "other", fleet.repository.roots()[1], "cam-2", "raspberry-pi-5")
    device.follow(fleet.broker(), fleet.now_ms)

    (_, _), (verdict, found) = judged(belief_of(device, fleet.now_ms))

    assert verdict is Verdict.PROBLEM
    assert "digits 1 has no artifact for profile raspberry-pi-5" in found
