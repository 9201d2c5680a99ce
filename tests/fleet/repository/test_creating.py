"""A new fleet is whole, and what was published is there for the next command."""

from datetime import timedelta

import pytest
from tests.fleet.repository.tools import add, files_of
from tests.trust.simulator import PROFILE
from tests.trust.simulator import START as NOW
from tuf.api.metadata import Metadata, Timestamp

from edgeferry.fleet.errors import ConfigurationError, FleetError, UsageError
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.repository import Repository


def test_a_new_fleet_is_signed_and_says_nothing(folder):
    repository = Repository.create(folder, now=NOW)

    assert (repository.generation, list(repository.roots())) == (1, [1])
    assert (repository.models(), repository.inventory.devices) == ((), {})
    timestamp = Metadata[Timestamp].from_bytes(repository.timestamp()).signed
    assert timestamp.unrecognized_fields == {"root_version": 1, "issued_ms": int(NOW.timestamp() * 1000)}


def test_a_new_fleet_has_256_bins_in_a_handful_of_files(folder):
    Repository.create(folder, now=NOW)

    assert len(Publication.load(folder).bins) == 256
    assert len(list((folder / "blobs").iterdir())) == 6  # snapshot, timestamp, targets, a document, its bin, the others


def test_keys_are_hidden_from_other_users(folder):
    Repository.create(folder, now=NOW)

    modes = {path.stat().st_mode & 0o777 for path in (folder / "keys").iterdir()}
    assert ((folder / "keys").stat().st_mode & 0o777, modes) == (0o700, {0o600})
    assert len(list((folder / "keys").iterdir())) == 5


def test_lifetimes_are_those_of_the_protocol(folder):
    expiries = Repository.create(folder, now=NOW).expiries()

    days = {role: (expiry - NOW).days for role, expiry in expiries.items()}
    assert days == {"root": 730, "targets": 365, "documents": 365, "snapshot": 60, "timestamp": 60}


def test_a_fleet_is_not_made_twice(repository, folder):
    before = files_of(folder)

    with pytest.raises(UsageError, match="there is a fleet already"):
        Repository.create(folder, now=NOW)
    assert files_of(folder) == before


def test_what_was_interrupted_is_begun_again(folder):
    Repository.create(folder, now=NOW)
    (folder / "published.json").unlink()

    assert Repository.create(folder, now=NOW).generation == 1


def test_a_clock_of_another_zone_is_the_same_clock(folder):
    repository = Repository.create(folder, now=NOW.astimezone())

    assert repository.expiries()[KeyRole.TIMESTAMP] == NOW + timedelta(days=60)


def test_what_was_published_is_there_for_the_next_command(repository, folder):
    repository.wish("digits", 1, "all")
    repository.publish(NOW)

    again = Repository.open(folder)

    assert again.generation == repository.generation == 3
    assert again.timestamp() == repository.timestamp()
    assert again.roots() == repository.roots()
    assert again.wishes_of("cam-1")["digits"].labels == {"stable": 1}


def test_a_folder_without_a_fleet_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no fleet is here; make one with `edgeferry init`, or say --fleet"):
        Repository.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "\x00"])
def test_a_file_that_cannot_be_understood_is_told(repository, folder, content):
    (folder / "published.json").write_text(content)

    with pytest.raises(ConfigurationError, match=r"published\.json: cannot be understood"):
        Repository.open(folder)


def test_a_file_of_a_later_edgeferry_is_told(repository, folder):
    path = folder / "published.json"
    path.write_text(path.read_text().replace('"format":1', '"format":2', 1))

    with pytest.raises(ConfigurationError, match="format 2, wanted 1; update edgeferry"):
        Repository.open(folder)


def test_a_blob_that_is_lost_or_damaged_is_told(repository, folder):
    path = repository.blob_path(Publication.load(folder).timestamp.sha256)
    path.write_bytes(b"rotten")
    with pytest.raises(ConfigurationError, match="is missing or damaged; restore"):
        repository.timestamp()
    path.unlink()
    with pytest.raises(ConfigurationError, match="is missing or damaged; restore"):
        repository.timestamp()


def test_a_lost_root_is_told(repository, folder):
    (folder / "roots" / "1.root.json").unlink()

    with pytest.raises(FleetError, match=r"1\.root\.json: No such file"):
        repository.roots()


def test_another_commands_publication_is_taken_over(repository, folder, tmp_path):
    other = Repository.open(folder)
    assert not repository.reload()

    other.inventory.add("cam-3", PROFILE)
    add(other, tmp_path, 2)
    other.publish(NOW)

    assert repository.reload()
    assert (repository.versions("digits"), "cam-3" in repository.inventory.devices) == ((1, 2), True)
