"""Artifacts are taken in whole, once, and never change."""

import pytest
from tests.fleet.repository.tools import add, files_of
from tests.models import artifact_folder
from tests.trust.simulator import PROFILE, write_artifact
from tests.trust.simulator import START as NOW

from edgeferry.fleet.errors import ArtifactError, UsageError
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.repository import Repository
from edgeferry.wire.desired import BlobRef


def test_real_artifacts_of_several_profiles_are_taken_in(repository, tmp_path):
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


def test_manifests_are_blobs_by_the_name_that_devices_know(repository, tmp_path):
    ref = repository.manifest_refs("digits", 1)[PROFILE]

    assert isinstance(ref, BlobRef)
    written = tmp_path / "artifacts" / "digits" / "1" / PROFILE / "artifact.json"
    assert repository.blob_path(ref.sha256).read_bytes() == written.read_bytes()


def test_the_same_artifact_again_changes_nothing(repository, tmp_path, folder):
    before = files_of(folder)

    repository.add_artifacts(tmp_path / "artifacts" / "digits" / "1")

    assert (repository.publish(NOW), files_of(folder)) == (2, before)


def test_a_published_version_never_changes(repository, tmp_path):
    changed = write_artifact(tmp_path / "other", salt="!")

    with pytest.raises(ArtifactError, match="digits 1 for raspberry-pi-4 was published with other bytes"):
        repository.add_artifacts(changed)

    repository.publish(NOW)
    assert repository.generation == 2


def test_a_damaged_file_leaves_nothing_behind(repository, tmp_path, folder):
    before = files_of(folder)
    broken = write_artifact(tmp_path / "artifacts", version=2)
    with (broken / PROFILE / "model.tflite").open("ab") as file:
        file.write(b"!")

    with pytest.raises(ArtifactError, match="differs from its artifact"):
        repository.add_artifacts(broken)

    assert files_of(folder) == before
    assert repository.versions("digits") == (1,)


def test_older_versions_are_no_longer_listed_but_can_be_wished_again(repository, tmp_path, folder):
    add(repository, tmp_path, *range(2, 8))
    repository.publish(NOW)
    path = f"models/digits/1/{PROFILE}/artifact.json"
    assert path not in Publication.load(folder).files
    assert repository.versions("digits") == tuple(range(1, 8))

    repository.wish("digits", 1, "all")
    repository.publish(NOW)

    assert path in Publication.load(folder).files


def test_a_version_below_the_listed_ones_is_remembered_though_it_is_not_listed(repository, tmp_path, folder):
    add(repository, tmp_path, *range(10, 16))
    generation = repository.publish(NOW)
    add(repository, tmp_path, 2)

    assert repository.publish(NOW) == generation
    assert 2 in Repository.open(folder).versions("digits")


@pytest.mark.parametrize("sha256", ["", "0" * 64, "../published.json", "A" * 64, "0" * 63 + "\n"])
def test_what_is_not_the_name_of_a_blob_has_no_file(repository, sha256):
    assert repository.blob_path(sha256) is None


def test_an_unknown_model_has_no_versions_and_no_manifests(repository):
    assert repository.versions("digit") == ()
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        repository.manifests("digit", 1)
