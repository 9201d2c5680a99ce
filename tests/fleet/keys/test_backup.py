"""A backup is one file that a passphrase opens, and brings a fleet back that devices follow."""

import stat
import zlib
from pathlib import Path

import msgspec
import pytest
from tests.fleet.conftest import Run
from tests.fleet.keys.conftest import must
from tests.fleet.repository.tools import files_of
from tests.trust.simulator import Device, Fleet, reason

from edgeferry.fleet.backup import back_up, restore
from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.sealing import seal
from edgeferry.wire.messages import Reason


@pytest.fixture
def backup(locked: Run, passphrase_file: Path, tmp_path: Path) -> Path:
    """Return the backup of a fleet whose keys are locked with the same passphrase."""
    file = tmp_path / "fleet.backup"
    must(locked("keys", "backup", str(file), "--passphrase-file", str(passphrase_file)))
    return file


def test_a_backup_brings_everything_back(
    locked: Run, backup: Path, fleet_dir: Path, passphrase_file: Path, tmp_path: Path
) -> None:
    place = tmp_path / "restored"

    must(locked("keys", "restore", str(backup), "--fleet", str(place), "--passphrase-file", str(passphrase_file)))

    there, back = files_of(fleet_dir), files_of(place)
    assert {name: data for name, data in there.items() if name != "lock"} == back
    for path in [*(place / "keys").iterdir(), *(place / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "keys").stat().st_mode) == 0o700


def test_a_backup_shows_nothing_and_is_its_owners_alone(backup: Path, fleet_dir: Path) -> None:
    password = (fleet_dir / "secrets" / "passwords.json").read_bytes().split(b'"')[3]

    assert password not in backup.read_bytes()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_nothing_is_overwritten(locked: Run, backup: Path, fleet_dir: Path, passphrase_file: Path) -> None:
    before = files_of(fleet_dir)
    secret = ("--passphrase-file", str(passphrase_file))

    into_fleet = locked("keys", "restore", str(backup), *secret)
    onto_backup = locked("keys", "backup", str(backup), *secret)

    assert (into_fleet.exit_code, onto_backup.exit_code) == (2, 2)
    assert "is not empty" in into_fleet.stderr
    assert files_of(fleet_dir) == before


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", seal(b"garbage", b"correct horse battery staple")],
    ids=["nothing", "garbage", "sealed garbage"],
)
def test_what_is_no_backup_is_told_and_leaves_nothing(
    locked: Run, passphrase_file: Path, tmp_path: Path, content: bytes
) -> None:
    file, place = tmp_path / "file", tmp_path / "restored"
    file.write_bytes(content)

    done = locked("keys", "restore", str(file), "--fleet", str(place), "--passphrase-file", str(passphrase_file))

    assert done.exit_code == 78
    assert "the backup" in done.stderr
    assert not place.exists()


def test_a_backup_cannot_write_outside_of_the_fleet_folder(tmp_path: Path) -> None:
    evil = msgspec.msgpack.encode({"format": 1, "files": {"../evil": [0o644, b"x"]}})

    with pytest.raises(ConfigurationError, match="outside of the fleet folder"):
        restore(seal(zlib.compress(evil), b"passphrase"), b"passphrase", tmp_path / "fleet")


def test_devices_that_have_seen_newer_metadata_follow_an_old_backup_after_two_rotations(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.enroll("cam-1")
    fleet.push(1)
    data, _ = back_up(fleet.folder, fleet.publication(), b"passphrase")
    for version in (2, 3, 4):
        fleet.push(version)
    device = Device(tmp_path / "run", fleet.repository.roots()[1])
    device.follow(fleet.broker(), fleet.now_ms)
    fleet.wait(days=1)

    restore(data, b"passphrase", tmp_path / "restored")
    fleet.folder = tmp_path / "restored"
    fleet.repository = Repository.open(fleet.folder)
    fleet.push(5)
    assert reason(device, fleet.broker(), fleet.now_ms) is Reason.METADATA_ROLLBACK

    for role in (KeyRole.SNAPSHOT, KeyRole.TIMESTAMP):
        assert Rekeying(fleet.repository).rotate(role, fleet.now)

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 5
