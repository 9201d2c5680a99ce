"""Differences that are offered to devices: signed with their manifest, and kept no longer than that is listed."""

from pathlib import Path

import pytest
from tests.fleet.repository.tools import add
from tests.trust.simulator import PROFILE
from tests.trust.simulator import START as NOW
from tuf.api.metadata import Metadata, Targets

from edgeferry.fleet.publication import Publication
from edgeferry.fleet.repository import Repository
from edgeferry.wire.desired import DifferenceRef, manifest_path, offered_differences


def offer(repository: Repository, base: int, made: int) -> bool:
    old, new = (repository.manifests("digits", version)[PROFILE].blob("model").ref() for version in (base, made))
    return repository.offer_difference(repository.manifest_refs("digits", made)[PROFILE], old, new)


def signed(folder: Path, repository: Repository, version: int) -> tuple[DifferenceRef, ...]:
    """Return what the bins say beside the manifest of a version."""
    path = manifest_path("digits", version, PROFILE)
    for file in Publication.load(folder).bins.values():
        blob = repository.blob_path(file.sha256)
        assert blob is not None
        listed = Metadata[Targets].from_bytes(blob.read_bytes()).signed.targets
        if path in listed:
            return offered_differences(listed[path].custom)
    raise AssertionError(f"{path} is not listed")


@pytest.fixture
def two_versions(repository: Repository, tmp_path: Path) -> Repository:
    add(repository, tmp_path, 2)
    repository.publish(NOW)
    return repository


def test_what_is_offered_is_signed_with_the_manifest_and_can_be_served(two_versions: Repository, folder: Path) -> None:
    before = Publication.load(folder)

    assert offer(two_versions, 1, 2)
    two_versions.publish(NOW)

    (difference,) = signed(folder, two_versions, 2)
    base, made = (two_versions.manifests("digits", version)[PROFILE].blob("model") for version in (1, 2))
    assert (difference.base, difference.made) == (base.sha256, made.sha256)
    path = two_versions.blob_path(difference.sha256)
    assert path is not None
    assert path.stat().st_size == difference.size_bytes < made.size_bytes
    changed = [name for name, file in Publication.load(folder).bins.items() if before.bins[name] != file]
    assert len(changed) == 1


def test_it_is_offered_as_well_by_whoever_opens_the_fleet_next(two_versions: Repository, folder: Path) -> None:
    offer(two_versions, 1, 2)
    generation = two_versions.publish(NOW)

    other = Repository.open(folder)

    assert len(other.differences_to(other.manifest_refs("digits", 2)[PROFILE])) == 1
    assert other.publish(NOW) == generation  # nothing to say


def test_what_saves_little_is_not_offered(two_versions: Repository, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("edgeferry.fleet.differences.MAX_SHARE", 0.0)
    generation = two_versions.generation

    assert not offer(two_versions, 1, 2)

    assert two_versions.publish(NOW) == generation
    assert signed(folder, two_versions, 2) == ()


def test_with_a_version_that_is_no_longer_listed_its_differences_go(
    two_versions: Repository, folder: Path, tmp_path: Path
) -> None:
    offer(two_versions, 1, 2)
    two_versions.publish(NOW)
    assert Publication.load(folder).plan.differences

    add(two_versions, tmp_path, 3, 4, 5, 6, 7)
    two_versions.publish(NOW)

    assert Publication.load(folder).plan.differences == {}


def test_of_many_the_newest_stay(two_versions: Repository) -> None:
    manifest = two_versions.manifest_refs("digits", 2)[PROFILE]
    many = [DifferenceRef(f"{at:064x}", "b" * 64, "c" * 64, at) for at in range(20)]
    plan = Publication.load(two_versions._folder).plan

    plan = plan.with_differences(manifest, many[:10]).with_differences(manifest, many[5:])

    assert plan.differences[manifest.sha256] == tuple(many[4:])
