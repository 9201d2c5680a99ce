"""`bench` as a user runs it, against a fake device on real brokers, and what it keeps."""

from pathlib import Path

import pytest
from tests.fleet.conftest import Fleet
from tests.fleet.fakes import PROFILE, FakeDevice

from edgeferry.device_profiles.measurements import read

pytestmark = pytest.mark.broker


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share" / "edgeferry" / "measurements.json"


@pytest.fixture
def device(fleet: Fleet) -> FakeDevice:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1")
    pushed = fleet.run("push", fleet.artifact(7))
    assert pushed.exit_code == 0, pushed.stderr
    return device


def test_the_figure_is_told_and_kept(fleet: Fleet, device: FakeDevice, kept: Path) -> None:
    done = fleet.run("bench", "pi-1", str(fleet.build / "digits" / "7"), "--seconds", "2")

    assert done.exit_code == 0, done.stderr
    assert "digits 7  int8    4        200   9.50 ms  10.25 ms" in done.stdout
    (one,) = read(kept)
    assert (one.device, one.profile, one.model, one.version, one.p50_ms) == ("pi-1", PROFILE, "digits", 7, 9.5)


@pytest.mark.parametrize("artifact", ["digits", "digits:7"])
def test_a_model_may_be_named(fleet: Fleet, device: FakeDevice, kept: Path, artifact: str) -> None:
    done = fleet.run("bench", "pi-1", artifact, "--json")

    assert (done.json["version"], done.json["p50_ms"]) == (7, 9.5)
    assert len(read(kept)) == 1


def test_a_version_that_was_not_pushed_is_refused(fleet: Fleet, device: FakeDevice, kept: Path) -> None:
    done = fleet.run("bench", "pi-1", fleet.artifact(8))

    assert done.exit_code == 1
    assert "pi-1: UNKNOWN_MODEL" in done.stderr
    assert not kept.exists()


def test_other_bytes_under_the_same_version_are_refused(
    fleet: Fleet, device: FakeDevice, kept: Path, tmp_path: Path
) -> None:
    fleet.build = tmp_path / "another build"

    done = fleet.run("bench", "pi-1", fleet.artifact(7))

    assert done.exit_code == 1
    assert "pi-1 has other bytes as digits 7" in done.stderr
    assert not kept.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pi-2", "digits"), "pi-2"),
        (("pi-1", "../digits"), "is neither a folder nor the name of a model"),
        (("pi-1", "digits:new"), "version 'new'; wanted MODEL, MODEL:VERSION or a folder DIR/NAME/N"),
        (("pi-1", "digits", "--seconds", "31"), "31"),
        (("pi-1", "digits"), "pi-1 is unknown; see `edgeferry devices`"),
    ],
)
def test_what_makes_no_sense_is_told(fleet: Fleet, kept: Path, arguments: tuple[str, ...], said: str) -> None:
    fleet.add("pi-1")

    done = fleet.run("bench", *arguments)

    assert done.exit_code == 2
    assert said in done.stderr


def test_an_artifact_for_another_kind_of_device_is_told(fleet: Fleet, kept: Path) -> None:
    fleet.add("pi-1")

    done = fleet.run("bench", "pi-1", fleet.artifact(7, profiles=("raspberry-pi-4",)))

    assert done.exit_code == 2
    assert f"has artifacts for raspberry-pi-4, the device is a {PROFILE}" in done.stderr


def test_a_damaged_file_of_measurements_is_told_and_left_alone(fleet: Fleet, device: FakeDevice, kept: Path) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")

    done = fleet.run("bench", "pi-1", "digits")

    assert done.exit_code == 1
    assert "does not hold measurements" in done.stderr
    assert kept.read_text() == "mine"
