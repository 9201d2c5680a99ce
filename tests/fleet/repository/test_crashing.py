"""Whatever interrupts a command, a whole fleet is left."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from tests.fleet.repository.tools import add
from tests.trust.simulator import PROFILE
from tests.trust.simulator import START as NOW

from edgeferry.fleet.errors import ConfigurationError, FleetError
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository


def test_killed_at_any_moment_of_a_publication_leaves_the_old_or_the_new_one(repository, folder, tmp_path, monkeypatch):
    """Each sync is a moment at which the process may die: what is on the disk then has to be a fleet."""
    left: list[Path] = []
    real = os.fsync

    def keep_a_copy(descriptor: int) -> None:
        left.append(shutil.copytree(folder, tmp_path / f"left-{len(left)}"))
        real(descriptor)

    old = Repository.open(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", keep_a_copy)
        add(repository, tmp_path, 2)
        repository.wish("digits", 2, "all")
        Rekeying(repository).rotate(KeyRole.TIMESTAMP, NOW)

    assert len(left) > 15
    generations = []
    for copy in left:
        found = Repository.open(copy)
        generations.append(found.generation)
        new = found.generation != old.generation
        assert found.timestamp() == (repository if new else old).timestamp()
        assert found.roots() == (repository if new else old).roots()
        add(found, tmp_path, 2)
        found.wish("digits", 2, "all")
        found.publish(NOW)
        assert found.wishes_of("door")["digits"].versions == (2,)
    assert generations == sorted(generations)
    assert set(generations) == {2, 3}


def test_killed_at_any_moment_of_the_beginning_can_be_begun_again(folder, tmp_path, monkeypatch):
    left: list[Path] = []
    real = os.fsync

    def keep_a_copy(descriptor: int) -> None:
        left.append(shutil.copytree(folder, tmp_path / f"left-{len(left)}", dirs_exist_ok=True))
        real(descriptor)

    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", keep_a_copy)
        Repository.create(folder, now=NOW)

    assert len(left) > 15
    for copy in left[:-1]:
        assert Repository.create(copy, now=NOW).publish(NOW) == 1
    assert Repository.open(left[-1]).generation == 1


@pytest.mark.parametrize("allowed", range(6))
def test_a_full_disk_leaves_what_was_published(repository, folder, monkeypatch, allowed):
    left = [allowed]
    real = os.fsync

    def fill_up(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    repository.wish("digits", 1, "all")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        with pytest.raises(FleetError, match="make room on the disk"):
            repository.publish(NOW)

    assert Repository.open(folder).generation == 2
    assert not list(folder.rglob("*.new"))
    assert repository.publish(NOW) == 3


def test_the_inventory_outlives_a_publication_that_failed(repository, folder):
    for path in (folder / "keys").glob("timestamp-*"):
        path.unlink()
    repository.inventory.add("cam-9", PROFILE)

    with pytest.raises(ConfigurationError):
        repository.publish(NOW)

    assert "cam-9" in Inventory.load(folder).devices
