"""Two operators with a copy of the fleet folder each: the second one is told, and nothing of the first is lost."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.fleet.conftest import Done, Fleet, run_command
from tests.trust.simulator import Fleet as SimulatedFleet

from edgeferry.fleet.conflicts import Said, refuse_if_behind
from edgeferry.fleet.errors import ConflictError
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository


def other_operator(fleet: Fleet) -> Path:
    return shutil.copytree(fleet.folder, fleet.folder.parent / "copy")


def run_in(copy: Path, fleet: Fleet, *arguments: str) -> Done:
    return run_command(*arguments, fleet_dir=copy, broker_url=fleet.broker.url)


@pytest.mark.broker
def test_whoever_has_an_older_copy_is_told_before_anything_is_published(fleet: Fleet) -> None:
    fleet.add("pi-1")
    copy = other_operator(fleet)
    fleet.switch_on("pi-1")
    assert fleet.run("push", fleet.artifact(1)).exit_code == 0
    theirs = fleet.repository().timestamp()

    for command in (("push", fleet.artifact(2)), ("token", "pi-2", "-p", "generic-x86-64")):
        done = run_in(copy, fleet, *command)
        assert done.exit_code == 1
        assert "another copy of it has signed since; nothing of theirs is lost" in done.stderr

    assert Repository.open(copy).generation == 2
    assert fleet.repository().timestamp() == theirs
    assert fleet.run("push", fleet.artifact(3)).exit_code == 0


@pytest.mark.broker
def test_whoever_changes_keys_in_an_older_copy_is_told(fleet: Fleet) -> None:
    copy = other_operator(fleet)
    assert fleet.run("keys", "rotate", "snapshot").exit_code == 0

    done = run_in(copy, fleet, "keys", "rotate", "timestamp")

    assert done.exit_code == 1
    assert "root 2 is published, and it is not this fleet folder's" in done.stderr
    assert len(Repository.open(copy).roots()) == 1


def said_by(repository: Repository) -> Said:
    return Said(repository.timestamp(), repository.roots())


def test_two_who_sign_the_same_generation_are_told(tmp_path: Path) -> None:
    fleet = SimulatedFleet(tmp_path)
    other = Repository.open(shutil.copytree(fleet.folder, tmp_path / "copy"))
    other.inventory.add("cam-9", "raspberry-pi-4")
    other.publish(fleet.now)
    fleet.enroll("cam-1")

    with pytest.raises(ConflictError, match="generation 2 is published with other content"):
        refuse_if_behind(fleet.repository, said_by(other))


def test_two_who_make_the_same_root_are_told(tmp_path: Path) -> None:
    fleet = SimulatedFleet(tmp_path)
    other = Repository.open(shutil.copytree(fleet.folder, tmp_path / "copy"))
    for repository in (fleet.repository, other):
        Rekeying(repository).rotate(KeyRole.TIMESTAMP, fleet.now)

    with pytest.raises(ConflictError, match="root 2 is published, and it is not"):
        refuse_if_behind(fleet.repository, said_by(other))


@pytest.mark.parametrize("forged", [b"", b"garbage", b'{"signed":{"_type":"timestamp","version":99}}'])
def test_a_hostile_broker_cannot_hold_up_an_operator_with_news_of_its_own(tmp_path: Path, forged: bytes) -> None:
    fleet, stranger = SimulatedFleet(tmp_path), SimulatedFleet(tmp_path / "stranger")
    old = said_by(fleet.repository)
    for _ in range(3):
        stranger.repository.renew(datetime(2026, 6, 1, tzinfo=UTC))
        Rekeying(stranger.repository).rotate(KeyRole.TIMESTAMP, stranger.now)
    fleet.enroll("cam-1")

    for said in (old, said_by(stranger.repository), Said(forged, {2: forged})):
        refuse_if_behind(fleet.repository, said)
