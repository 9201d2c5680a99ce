"""What a command publishes is there for the next one, whole, and signed only where it changed."""

import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.models import artifact_folder
from tests.trust.simulator import PROFILE, START, write_artifact
from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from edgeferry.fleet.errors import ArtifactError, BusyError, ConfigurationError, FleetError, UsageError
from edgeferry.fleet.files import folder_lock
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.signing import document_keys_of
from edgeferry.wire.desired import BlobRef

NOW = START


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "fleet"


@pytest.fixture
def repository(folder, tmp_path) -> Repository:
    """A fleet of cam-1 (porch), cam-2 (porch, garden) and door, which knows digits 1 and wishes nothing."""
    repository = Repository.create(folder, now=NOW)
    repository.inventory.add("cam-1", PROFILE, ["porch"])
    repository.inventory.add("cam-2", PROFILE, ["porch", "garden"])
    repository.inventory.add("door", "coral-dev-board")
    repository.add_artifacts(write_artifact(tmp_path / "artifacts"))
    repository.publish(NOW)
    return repository


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def add(repository: Repository, tmp_path: Path, *versions: int, name: str = "digits") -> None:
    for version in versions:
        repository.add_artifacts(write_artifact(tmp_path / "artifacts", name, version))


class TestCreating:
    def test_a_new_fleet_is_signed_and_says_nothing(self, folder):
        repository = Repository.create(folder, now=NOW)

        assert (repository.generation, list(repository.roots())) == (1, [1])
        assert (repository.models(), repository.inventory.devices) == ((), {})
        timestamp = Metadata[Timestamp].from_bytes(repository.timestamp()).signed
        assert timestamp.unrecognized_fields == {"root_version": 1, "issued_ms": int(NOW.timestamp() * 1000)}

    def test_a_new_fleet_has_256_bins_in_a_handful_of_files(self, folder):
        Repository.create(folder, now=NOW)

        assert len(Publication.load(folder).bins) == 256
        assert (
            len(list((folder / "blobs").iterdir())) == 6
        )  # snapshot, timestamp, targets, a document, its bin, the others

    def test_keys_are_hidden_from_other_users(self, folder):
        Repository.create(folder, now=NOW)

        modes = {path.stat().st_mode & 0o777 for path in (folder / "keys").iterdir()}
        assert ((folder / "keys").stat().st_mode & 0o777, modes) == (0o700, {0o600})
        assert len(list((folder / "keys").iterdir())) == 5

    def test_lifetimes_are_those_of_the_protocol(self, folder):
        expiries = Repository.create(folder, now=NOW).expiries()

        days = {role: (expiry - NOW).days for role, expiry in expiries.items()}
        assert days == {"root": 730, "targets": 365, "documents": 365, "snapshot": 60, "timestamp": 60}

    def test_a_fleet_is_not_made_twice(self, repository, folder):
        before = files_of(folder)

        with pytest.raises(UsageError, match="there is a fleet already"):
            Repository.create(folder, now=NOW)
        assert files_of(folder) == before

    def test_what_was_interrupted_is_begun_again(self, folder):
        Repository.create(folder, now=NOW)
        (folder / "published.json").unlink()

        assert Repository.create(folder, now=NOW).generation == 1

    def test_a_clock_of_another_zone_is_the_same_clock(self, folder):
        repository = Repository.create(folder, now=NOW.astimezone())

        assert repository.expiries()[KeyRole.TIMESTAMP] == NOW + timedelta(days=60)


class TestOpening:
    def test_what_was_published_is_there_for_the_next_command(self, repository, folder):
        repository.wish("digits", 1, "all")
        repository.publish(NOW)

        again = Repository.open(folder)

        assert again.generation == repository.generation == 3
        assert again.timestamp() == repository.timestamp()
        assert again.roots() == repository.roots()
        assert again.wishes_of("cam-1")["digits"].labels == {"stable": 1}

    def test_a_folder_without_a_fleet_is_told(self, tmp_path):
        with pytest.raises(
            ConfigurationError, match="no fleet is here; make one with `edgeferry init`, or say --fleet"
        ):
            Repository.open(tmp_path)

    @pytest.mark.parametrize("content", ["", "{}", "[]", "\x00"])
    def test_a_file_that_cannot_be_understood_is_told(self, repository, folder, content):
        (folder / "published.json").write_text(content)

        with pytest.raises(ConfigurationError, match=r"published\.json: cannot be understood"):
            Repository.open(folder)

    def test_a_file_of_a_later_edgeferry_is_told(self, repository, folder):
        path = folder / "published.json"
        path.write_text(path.read_text().replace('"format":1', '"format":2', 1))

        with pytest.raises(ConfigurationError, match="format 2, wanted 1; update edgeferry"):
            Repository.open(folder)

    def test_a_blob_that_is_lost_or_damaged_is_told(self, repository, folder):
        path = repository.blob_path(Publication.load(folder).timestamp.sha256)
        path.write_bytes(b"rotten")
        with pytest.raises(ConfigurationError, match="is missing or damaged; restore"):
            repository.timestamp()
        path.unlink()
        with pytest.raises(ConfigurationError, match="is missing or damaged; restore"):
            repository.timestamp()

    def test_a_lost_root_is_told(self, repository, folder):
        (folder / "roots" / "1.root.json").unlink()

        with pytest.raises(FleetError, match=r"1\.root\.json: No such file"):
            repository.roots()

    def test_another_commands_publication_is_taken_over(self, repository, folder, tmp_path):
        other = Repository.open(folder)
        assert not repository.reload()

        other.inventory.add("cam-3", PROFILE)
        add(other, tmp_path, 2)
        other.publish(NOW)

        assert repository.reload()
        assert (repository.versions("digits"), "cam-3" in repository.inventory.devices) == ((1, 2), True)


class TestArtifacts:
    def test_real_artifacts_of_several_profiles_are_taken_in(self, repository, tmp_path):
        folder = artifact_folder(tmp_path / "real", name="faces", version=4, profile="raspberry-pi-4").parent
        artifact_folder(tmp_path / "real", name="faces", version=4, profile="coral-dev-board", seed=2)

        added = repository.add_artifacts(folder)
        repository.publish(NOW)

        assert [manifest.profile for manifest in added] == ["coral-dev-board", "raspberry-pi-4"]
        assert repository.manifests("faces", 4) == {manifest.profile: manifest for manifest in added}
        assert (repository.models(), repository.versions("faces")) == (("digits", "faces"), (4,))
        for manifest in added:
            for blob in manifest.blobs:
                path = repository.blob_path(blob.sha256)
                assert path.read_bytes() == (folder / manifest.profile / blob.path).read_bytes()

    def test_manifests_are_blobs_by_the_name_that_devices_know(self, repository, tmp_path):
        ref = repository.manifest_refs("digits", 1)[PROFILE]

        assert isinstance(ref, BlobRef)
        written = tmp_path / "artifacts" / "digits" / "1" / PROFILE / "artifact.json"
        assert repository.blob_path(ref.sha256).read_bytes() == written.read_bytes()

    def test_the_same_artifact_again_changes_nothing(self, repository, tmp_path, folder):
        before = files_of(folder)

        repository.add_artifacts(tmp_path / "artifacts" / "digits" / "1")

        assert (repository.publish(NOW), files_of(folder)) == (2, before)

    def test_a_published_version_never_changes(self, repository, tmp_path):
        changed = write_artifact(tmp_path / "other", salt="!")

        with pytest.raises(ArtifactError, match="digits 1 for raspberry-pi-4 was published with other bytes"):
            repository.add_artifacts(changed)

        repository.publish(NOW)
        assert repository.generation == 2

    def test_a_damaged_file_leaves_nothing_behind(self, repository, tmp_path, folder):
        before = files_of(folder)
        broken = write_artifact(tmp_path / "artifacts", version=2)
        with (broken / PROFILE / "model.tflite").open("ab") as file:
            file.write(b"!")

        with pytest.raises(ArtifactError, match="differs from its artifact"):
            repository.add_artifacts(broken)

        assert files_of(folder) == before
        assert repository.versions("digits") == (1,)

    def test_older_versions_are_no_longer_listed_but_can_be_wished_again(self, repository, tmp_path, folder):
        add(repository, tmp_path, *range(2, 8))
        repository.publish(NOW)
        path = f"models/digits/1/{PROFILE}/artifact.json"
        assert path not in Publication.load(folder).files
        assert repository.versions("digits") == tuple(range(1, 8))

        repository.wish("digits", 1, "all")
        repository.publish(NOW)

        assert path in Publication.load(folder).files

    def test_a_version_below_the_listed_ones_is_remembered_though_it_is_not_listed(self, repository, tmp_path, folder):
        add(repository, tmp_path, *range(10, 16))
        generation = repository.publish(NOW)
        add(repository, tmp_path, 2)

        assert repository.publish(NOW) == generation
        assert 2 in Repository.open(folder).versions("digits")

    @pytest.mark.parametrize("sha256", ["", "0" * 64, "../published.json", "A" * 64, "0" * 63 + "\n"])
    def test_what_is_not_the_name_of_a_blob_has_no_file(self, repository, sha256):
        assert repository.blob_path(sha256) is None

    def test_an_unknown_model_has_no_versions_and_no_manifests(self, repository):
        assert repository.versions("digit") == ()
        with pytest.raises(UsageError, match="did you mean 'digits'"):
            repository.manifests("digit", 1)


class TestWishing:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("digits", 1, "cam1"), "device 'cam1' is not in the inventory; did you mean 'cam-1'"),
            (("digits", 1, "group:porsh"), "group 'porsh' has no devices; did you mean 'porch'"),
            (("digitz", 1, "all"), "model 'digitz' was never added to this fleet; did you mean 'digits'"),
            (("digits", 2, "all"), "model 'digits' has no version 2; there are 1"),
        ],
    )
    def test_a_name_that_does_not_exist_is_told_at_once_and_changes_nothing(self, repository, arguments, message):
        with pytest.raises(UsageError, match=message):
            repository.wish(*arguments)

        assert repository.publish(NOW) == 2

    def test_a_wish_is_known_before_it_is_published(self, repository, folder):
        repository.wish("digits", 1, "group:porch")

        assert repository.wishes_of("cam-1").keys() == {"digits"}
        assert repository.wishes_of("door") == {}
        assert Repository.open(folder).wishes_of("cam-1") == {}

    def test_wishes_of_an_unknown_device_are_an_error(self, repository):
        with pytest.raises(UsageError, match="did you mean 'door'"):
            repository.wishes_of("dor")

    def test_a_withdrawn_wish_is_gone(self, repository):
        repository.wish("digits", 1, "all")
        repository.publish(NOW)

        repository.unwish("digits", "all")

        assert repository.publish(NOW) == 4
        assert repository.wishes_of("cam-1") == {}

    def test_wishes_of_two_commands_come_together(self, repository, folder, tmp_path):
        other = Repository.open(folder)
        add(other, tmp_path, 1, name="owls")
        other.wish("owls", 1, "all")
        repository.wish("digits", 1, "all")

        other.publish(NOW)
        repository.publish(NOW)

        assert Repository.open(folder).wishes_of("door").keys() == {"digits", "owls"}

    def test_a_wish_that_another_command_made_impossible_is_told_and_changes_nothing(self, repository, folder):
        other = Repository.open(folder)
        repository.wish("digits", 1, "group:porch")
        other.wish("digits", 1, "group:garden")
        other.publish(NOW)

        with pytest.raises(UsageError, match="'cam-2' is in the groups 'garden' and 'porch'"):
            repository.publish(NOW)
        assert Repository.open(folder).wishes_of("cam-1") == {}

    def test_groups_that_contradict_each_other_after_a_change_of_the_inventory_are_not_signed(self, repository):
        repository.inventory.add("new", PROFILE, ["attic"])
        for group in ("porch", "attic"):
            repository.wish("digits", 1, f"group:{group}")
        repository.publish(NOW)
        repository.inventory.add("cam-1", PROFILE, ["porch", "attic"], replace=True)

        with pytest.raises(UsageError, match="'cam-1' is in the groups 'attic' and 'porch'"):
            repository.publish(NOW)

        repository.inventory.add("cam-1", PROFILE, ["porch"], replace=True)
        repository.publish(NOW)

    def test_a_device_that_is_removed_takes_its_wishes_with_it(self, repository):
        repository.wish("digits", 1, "cam-1")
        repository.publish(NOW)
        repository.inventory.remove("cam-1")
        repository.publish(NOW)
        repository.inventory.add("cam-1", PROFILE)

        repository.publish(NOW)

        assert repository.wishes_of("cam-1") == {}


class TestPublishing:
    def test_nothing_to_say_signs_nothing(self, repository, folder):
        before = files_of(folder)

        assert repository.publish(NOW + timedelta(days=1)) == 2
        assert not repository.renew(NOW + timedelta(days=1))
        assert files_of(folder) == before

    def test_only_what_changed_is_signed(self, repository, folder):
        before = Publication.load(folder)

        repository.wish("digits", 1, "cam-1")
        repository.publish(NOW)

        after = Publication.load(folder)
        changed = [name for name in before.bins if before.bins[name] != after.bins[name]]
        assert len(changed) == 1
        assert after.bins[changed[0]].version == before.bins[changed[0]].version + 1
        assert after.targets == before.targets
        assert after.snapshot.version == before.snapshot.version + 1

    def test_a_push_signs_and_writes_in_a_fraction_of_a_second(self, repository):
        repository.wish("digits", 1, "all")
        began = datetime.now(UTC)

        repository.publish(NOW)

        assert datetime.now(UTC) - began < timedelta(seconds=2)  # 20 ms on an idle machine

    def test_a_folder_in_use_is_told(self, repository, folder):
        other = Repository.open(folder, lock_timeout_s=0.05)
        other.wish("digits", 1, "all")

        with folder_lock(folder / "lock"), pytest.raises(BusyError, match="is changing this fleet"):
            other.publish(NOW)

        assert other.publish(NOW) == 3

    def test_a_lost_key_is_told_and_changes_nothing(self, repository, folder):
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

    def test_pushing_needs_neither_the_root_key_nor_the_targets_key(self, repository, folder):
        for role in (KeyRole.ROOT, KeyRole.TARGETS):
            for path in (folder / "keys").glob(f"{role}-*"):
                path.unlink()

        repository.wish("digits", 1, "all")

        assert repository.publish(NOW) == 3

    def test_targets_without_keys_for_documents_are_told(self):
        with pytest.raises(ConfigurationError, match="names no keys for documents"):
            document_keys_of(Metadata(Targets()).to_bytes())


class TestTime:
    @pytest.mark.parametrize(("days", "renewed"), [(29, False), (31, True), (61, True), (400, True)])
    def test_snapshot_and_timestamp_are_renewed_at_half_life(self, repository, days, renewed):
        now = NOW + timedelta(days=days)

        assert repository.renew(now) is renewed

        left = repository.expiries()[KeyRole.TIMESTAMP] - now
        assert left == timedelta(days=60 if renewed else 60 - days)

    def test_documents_and_targets_are_renewed_at_half_life(self, repository):
        now = NOW + timedelta(days=183)

        repository.renew(now)

        expiries = repository.expiries()
        assert expiries[KeyRole.TARGETS] == expiries[KeyRole.DOCUMENTS] == now + timedelta(days=365)
        assert list(repository.roots()) == [1]

    def test_the_root_is_renewed_at_half_life(self, repository):
        now = NOW + timedelta(days=366)

        repository.renew(now)

        assert list(repository.roots()) == [1, 2]
        assert repository.expiries()[KeyRole.ROOT] == now + timedelta(days=730)
        old, new = (Metadata[Root].from_bytes(data) for data in repository.roots().values())
        old.signed.verify_delegate(Root.type, new.signed_bytes, new.signatures)

    def test_a_daemon_shortens_what_lives_longer_than_it_wants(self, repository):
        week = timedelta(days=7)

        assert repository.renew(NOW, lifetime=week)
        assert not repository.renew(NOW + timedelta(days=3), lifetime=week)
        assert repository.renew(NOW + timedelta(days=4), lifetime=week)
        assert repository.expiries()[KeyRole.SNAPSHOT] == NOW + timedelta(days=11)

    def test_a_clock_that_goes_back_does_not_take_the_signatures_with_it(self, repository, folder):
        repository.wish("digits", 1, "all")

        repository.publish(NOW - timedelta(days=20_000))

        assert Publication.load(folder).issued_ms == int(NOW.timestamp() * 1000)
        assert repository.expiries()[KeyRole.TIMESTAMP] == NOW + timedelta(days=60)


class TestRotating:
    @pytest.mark.parametrize("role", list(KeyRole))
    def test_a_new_key_signs_from_now_on(self, repository, folder, role):
        (old,) = (folder / "keys").glob(f"{role}-*")

        repository.rotate(role, NOW)
        old.unlink()

        repository.wish("digits", 1, "all")
        repository.publish(NOW)
        assert list(repository.roots()) == ([1] if role is KeyRole.DOCUMENTS else [1, 2])
        for path in (folder / "keys").glob(f"{role}-*"):
            path.unlink()
        with pytest.raises(ConfigurationError, match=f"0 of the fleet's {role} keys are here"):
            repository.publish(NOW + timedelta(days=366))

    def test_a_new_root_is_signed_by_the_keys_of_the_old_one_and_by_its_own(self, repository):
        repository.rotate(KeyRole.ROOT, NOW)

        old, new = (Metadata[Root].from_bytes(data) for data in repository.roots().values())
        for root in (old.signed, new.signed):
            root.verify_delegate(Root.type, new.signed_bytes, new.signatures)
        assert old.signed.roles["root"].keyids != new.signed.roles["root"].keyids

    def test_a_lost_timestamp_key_is_replaced_with_the_root_key(self, repository, folder):
        for path in (folder / "keys").glob("timestamp-*"):
            path.unlink()

        repository.rotate(KeyRole.TIMESTAMP, NOW)

        repository.wish("digits", 1, "all")
        assert repository.publish(NOW) == 4


class TestCrashing:
    def test_killed_at_any_moment_of_a_publication_leaves_the_old_or_the_new_one(
        self, repository, folder, tmp_path, monkeypatch
    ):
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
            repository.rotate(KeyRole.TIMESTAMP, NOW)

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

    def test_killed_at_any_moment_of_the_beginning_can_be_begun_again(self, folder, tmp_path, monkeypatch):
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
    def test_a_full_disk_leaves_what_was_published(self, repository, folder, monkeypatch, allowed):
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

    def test_the_inventory_outlives_a_publication_that_failed(self, repository, folder):
        for path in (folder / "keys").glob("timestamp-*"):
            path.unlink()
        repository.inventory.add("cam-9", PROFILE)

        with pytest.raises(ConfigurationError):
            repository.publish(NOW)

        assert "cam-9" in Inventory.load(folder).devices
