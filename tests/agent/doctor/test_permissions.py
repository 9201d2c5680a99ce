"""Who may look into an agent's folder, and whose it is."""

import os
from pathlib import Path

import pytest

from edgeferry.agent.doctor.finding import Verdict
from edgeferry.agent.doctor.permissions import examine_permissions


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "password").touch(mode=0o600)
    return folder


def test_a_folder_of_its_own_is_fine(state_dir: Path) -> None:
    (found,) = examine_permissions(state_dir, (state_dir / "password", state_dir / "missing"))

    assert found.verdict is Verdict.FINE


@pytest.mark.parametrize(("name", "wanted"), [(".", "0700"), ("password", "0600")])
def test_what_others_may_read_is_a_problem(state_dir: Path, name: str, wanted: str) -> None:
    (state_dir / name).chmod(0o755)

    (found,) = examine_permissions(state_dir, (state_dir / "password",))

    assert found.verdict is Verdict.PROBLEM
    assert "0755" in found.found
    assert f"chmod {wanted} {state_dir / name}" in found.advice


def test_a_file_of_somebody_else_is_a_problem(state_dir: Path) -> None:
    (found,) = examine_permissions(state_dir, (), owner_uid=os.getuid() + 4242)

    assert found.verdict is Verdict.PROBLEM
    assert f"{state_dir / 'password'} belongs to " in found.found
    assert "chown" in found.advice
