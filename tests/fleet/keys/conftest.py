"""Fixtures of the tests of keys: passphrases in files, and a fleet whose keys are locked."""

import shutil
from pathlib import Path

import pytest
from tests.brokers import free_port
from tests.fleet.conftest import Done, Run, run_command

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    """Return a file with the passphrase, which its owner alone may read."""
    path = tmp_path / "passphrase"
    path.touch(mode=0o600)
    path.write_text(PASSPHRASE + "\n")
    return path


@pytest.fixture
def edgeferry(run_edgeferry: Run) -> Run:
    """Return `edgeferry` on a fleet without a broker, whose keys lie open as they did before they could be locked."""
    done = run_edgeferry("init", "--broker", f"mqtt://127.0.0.1:{free_port()}")
    assert done.exit_code == 0, done.stderr
    return run_edgeferry


@pytest.fixture(scope="session")
def locked_fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fleet folder whose keys are locked; it is copied, because locking takes a while."""
    folder = tmp_path_factory.mktemp("locked") / "fleet"
    url = f"mqtt://127.0.0.1:{free_port()}"
    must(run_command("init", "--broker", url, "--passphrase-file", "-", fleet_dir=folder, stdin=PASSPHRASE))
    return folder


@pytest.fixture
def locked(run_edgeferry: Run, fleet_dir: Path, locked_fleet: Path) -> Run:
    """Return `edgeferry` on a fleet without a broker, whose keys are locked."""
    shutil.copytree(locked_fleet, fleet_dir)
    return run_edgeferry


def must(done: Done) -> Done:
    """Return ``done`` when it has succeeded."""
    assert done.exit_code == 0, done.stderr
    return done
