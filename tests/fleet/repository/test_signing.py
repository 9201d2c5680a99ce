"""Only what changed, or has lived half of its life, is signed; keys can be replaced."""

from datetime import UTC, datetime, timedelta

import pytest
from tests.fleet.repository.tools import files_of
from tests.trust.simulator import START as NOW
from tuf.api.metadata import Metadata, Root, Targets

from edgeferry.fleet.errors import BusyError, ConfigurationError
from edgeferry.fleet.files import folder_lock
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.signing import document_keys_of


def test_nothing_to_say_signs_nothing(repository, folder):
    before = files_of(folder)

    assert repository.publish(NOW + timedelta(days=1)) == 2
    assert not repository.renew(NOW + timedelta(days=1))
    assert files_of(folder) == before


def test_only_what_changed_is_signed(repository, folder):
    before = Publication.load(folder)

    repository.wish("digits", 1, "cam-1")
    repository.publish(NOW)

    after = Publication.load(folder)
    changed = [name for name in before.bins if before.bins[name] != after.bins[name]]
    assert len(changed) == 1
    assert after.bins[changed[0]].version == before.bins[changed[0]].version + 1
    assert after.targets == before.targets
    assert after.snapshot.version == before.snapshot.version + 1


def test_a_push_signs_and_writes_in_a_fraction_of_a_second(repository):
    repository.wish("digits", 1, "all")
    began = datetime.now(UTC)

    repository.publish(NOW)

    assert datetime.now(UTC) - began < timedelta(seconds=2)  # 20 ms on an idle machine


def test_a_folder_in_use_is_told(repository, folder):
    other = Repository.open(folder, lock_timeout_s=0.05)
    other.wish("digits", 1, "all")

    with folder_lock(folder / "lock"), pytest.raises(BusyError, match="is changing this fleet"):
        other.publish(NOW)

    assert other.publish(NOW) == 3


def test_a_lost_key_is_told_and_changes_nothing(repository, folder):
    (path,) = (folder / "keys").glob("documents-*")
    content = path.read_bytes()
    path.unlink()
    repository.wish("digits", 1, "all")
    before = files_of(folder)

    with pytest.raises(ConfigurationError, match=rf"0 of the fleet's documents keys are here, 1 .*{path.name}"):
        repository.publish(NOW)

    assert files_of(folder) == before
    path.write_bytes(content)
    path.chmod(0o600)
    assert repository.publish(NOW) == 3


def test_pushing_needs_neither_the_root_key_nor_the_targets_key(repository, folder):
    for role in (KeyRole.ROOT, KeyRole.TARGETS):
        for path in (folder / "keys").glob(f"{role}-*"):
            path.unlink()

    repository.wish("digits", 1, "all")

    assert repository.publish(NOW) == 3


def test_targets_without_keys_for_documents_are_told():
    with pytest.raises(ConfigurationError, match="names no keys for documents"):
        document_keys_of(Metadata(Targets()).to_bytes())


@pytest.mark.parametrize(("days", "renewed"), [(29, False), (31, True), (61, True), (400, True)])
def test_snapshot_and_timestamp_are_renewed_at_half_life(repository, days, renewed):
    now = NOW + timedelta(days=days)

    assert repository.renew(now) is renewed

    left = repository.expiries()[KeyRole.TIMESTAMP] - now
    assert left == timedelta(days=60 if renewed else 60 - days)


def test_documents_and_targets_are_renewed_at_half_life(repository):
    now = NOW + timedelta(days=183)

    repository.renew(now)

    expiries = repository.expiries()
    assert expiries[KeyRole.TARGETS] == expiries[KeyRole.DOCUMENTS] == now + timedelta(days=365)
    assert list(repository.roots()) == [1]


def test_the_root_is_renewed_at_half_life(repository):
    now = NOW + timedelta(days=366)

    repository.renew(now)

    assert list(repository.roots()) == [1, 2]
    assert repository.expiries()[KeyRole.ROOT] == now + timedelta(days=730)
    old, new = (Metadata[Root].from_bytes(data) for data in repository.roots().values())
    old.signed.verify_delegate(Root.type, new.signed_bytes, new.signatures)


def test_a_daemon_shortens_what_lives_longer_than_it_wants(repository):
    week = timedelta(days=7)

    assert repository.renew(NOW, lifetime=week)
    assert not repository.renew(NOW + timedelta(days=3), lifetime=week)
    assert repository.renew(NOW + timedelta(days=4), lifetime=week)
    assert repository.expiries()[KeyRole.SNAPSHOT] == NOW + timedelta(days=11)


def test_a_clock_that_goes_back_does_not_take_the_signatures_with_it(repository, folder):
    repository.wish("digits", 1, "all")

    repository.publish(NOW - timedelta(days=20_000))

    assert Publication.load(folder).issued_ms == int(NOW.timestamp() * 1000)
    assert repository.expiries()[KeyRole.TIMESTAMP] == NOW + timedelta(days=60)


@pytest.mark.parametrize("role", list(KeyRole))
def test_a_new_key_signs_from_now_on(repository, folder, role):
    (old,) = (folder / "keys").glob(f"{role}-*")

    Rekeying(repository).rotate(role, NOW)
    old.unlink()

    repository.wish("digits", 1, "all")
    repository.publish(NOW)
    assert list(repository.roots()) == ([1] if role is KeyRole.DOCUMENTS else [1, 2])
    for path in (folder / "keys").glob(f"{role}-*"):
        path.unlink()
    with pytest.raises(ConfigurationError, match=f"0 of the fleet's {role} keys are here"):
        repository.publish(NOW + timedelta(days=731))


def test_a_new_root_is_signed_by_the_keys_of_the_old_one_and_by_its_own(repository):
    Rekeying(repository).rotate(KeyRole.ROOT, NOW)

    old, new = (Metadata[Root].from_bytes(data) for data in repository.roots().values())
    for root in (old.signed, new.signed):
        root.verify_delegate(Root.type, new.signed_bytes, new.signatures)
    assert old.signed.roles["root"].keyids != new.signed.roles["root"].keyids


def test_a_lost_timestamp_key_is_replaced_with_the_root_key(repository, folder):
    for path in (folder / "keys").glob("timestamp-*"):
        path.unlink()

    Rekeying(repository).rotate(KeyRole.TIMESTAMP, NOW)

    repository.wish("digits", 1, "all")
    assert repository.publish(NOW) == 4
