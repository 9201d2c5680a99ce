from pathlib import Path

import pytest
from tests.trust.simulator import PROFILE, write_artifact
from tests.trust.simulator import START as NOW

from edgeferry.fleet.repository import Repository


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
