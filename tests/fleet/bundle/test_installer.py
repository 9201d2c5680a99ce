"""install.sh says what is wrong before it changes anything. What it does then is shown in tests/machines."""

import getpass
import subprocess
from pathlib import Path

import pytest

INSTALLER = Path(__file__).parents[3] / "fleet" / "bundle" / "install.sh"


def bundle(folder: Path, *, machine: str, pythons: str) -> Path:
    folder.mkdir()
    (folder / "install.sh").write_bytes(INSTALLER.read_bytes())
    (folder / "bundle").write_text(f"machine={machine}\npythons={pythons}\n")
    listed = subprocess.run(
        ["sha256sum", "bundle", "install.sh"], cwd=folder, capture_output=True, text=True, check=True
    )
    (folder / "SHA256SUMS").write_text(listed.stdout)
    return folder


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(folder / "install.sh")], capture_output=True, text=True, check=False)


as_root = pytest.mark.skipif(getpass.getuser() != "root", reason="what comes after the question for root")


@pytest.mark.skipif(getpass.getuser() == "root", reason="root may do it")
def test_without_root_it_asks_for_it(tmp_path: Path) -> None:
    done = run(bundle(tmp_path / "bundle", machine="aarch64", pythons="3.11"))

    assert (done.returncode, done.stderr) == (78, "install.sh: it changes the system: run it as root, with sudo\n")


@as_root
def test_a_bundle_for_another_machine_is_refused_and_says_what_was_found(tmp_path: Path) -> None:
    done = run(bundle(tmp_path / "bundle", machine="riscv64", pythons="3.11 3.13"))

    assert done.returncode == 78
    assert "the bundle is for riscv64 with Python 3.11 3.13; found here: " in done.stderr


@as_root
def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", machine="aarch64", pythons="3.11")
    (folder / "bundle").write_text("machine=x86_64\n")

    done = run(folder)

    assert done.returncode == 78
    assert "the bundle is damaged: copy it again" in done.stderr
