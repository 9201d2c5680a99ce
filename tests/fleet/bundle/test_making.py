"""A bundle holds the agent's wheel, what it needs for one kind of machine, and an installer that checks all of it."""

import subprocess
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from tests.fleet.conftest import Run

from edgeferry.device_profiles import load_profile
from edgeferry.fleet.bundle import own_wheel as wheels
from edgeferry.fleet.bundle.making import make_bundle, pythons_of
from edgeferry.fleet.errors import FleetError, UsageError


def installed(folder: Path) -> PathDistribution:
    """Lay out an installation as pip does, with what it adds, and return it."""
    information = folder / "edgeferry-9.1.dist-info"
    information.mkdir(parents=True)
    (folder / "edgeferry").mkdir()
    files = {
        "edgeferry/__init__.py": "version = 1\n",
        "edgeferry/unit.service": "[Unit]\n",
        "edgeferry-9.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: edgeferry\nVersion: 9.1\n",
        "edgeferry-9.1.dist-info/WHEEL": "Wheel-Version: 1.0\n",
        "edgeferry-9.1.dist-info/entry_points.txt": "[console_scripts]\n",
        "edgeferry-9.1.dist-info/INSTALLER": "pip\n",
        "edgeferry/__pycache__/__init__.pyc": "bytecode",
        "../bin/edgeferry": "#!/bin/sh\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (information / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    return PathDistribution(information)


def test_an_installation_is_packed_into_the_wheel_that_it_came_from(tmp_path: Path) -> None:
    wheel = wheels._packed(installed(tmp_path / "site"), tmp_path)

    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        record = packed.read("edgeferry-9.1.dist-info/RECORD").decode().splitlines()
    assert wheel.name == "edgeferry-9.1-py3-none-any.whl"
    assert names == {
        "edgeferry/__init__.py",
        "edgeferry/unit.service",
        *(f"edgeferry-9.1.dist-info/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "RECORD")),
    }
    assert {line.split(",")[0] for line in record} == names


def test_the_same_installation_makes_the_same_bytes(tmp_path: Path) -> None:
    one = wheels._packed(installed(tmp_path / "site"), tmp_path).read_bytes()
    two = wheels._packed(PathDistribution(tmp_path / "site" / "edgeferry-9.1.dist-info"), tmp_path).read_bytes()

    assert one == two


def test_an_installation_that_lost_a_file_is_told(tmp_path: Path) -> None:
    found = installed(tmp_path / "site")
    (tmp_path / "site" / "edgeferry" / "__init__.py").unlink()

    with pytest.raises(FleetError, match=r"lacks \['edgeferry/__init__.py'\]"):
        wheels._packed(found, tmp_path)


@pytest.mark.parametrize(
    ("profile", "asked", "made_for"),
    [
        ("raspberry-pi-4", (), ("3.11", "3.13")),
        ("raspberry-pi-4", ("3.12",), ("3.12",)),
        ("generic-x86-64", ("3.13", "3.11"), ("3.13", "3.11")),
    ],
)
def test_a_bundle_is_for_the_pythons_of_debian_unless_told(
    profile: str, asked: tuple[str, ...], made_for: tuple[str, ...]
) -> None:
    assert pythons_of(load_profile(profile), asked) == made_for


def test_a_python_without_a_runtime_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Python 3\.9 has no runtime for raspberry-pi-4; there are 3\.11"):
        pythons_of(load_profile("raspberry-pi-4"), ("3.9",))


def test_a_device_with_another_runtime_is_refused_with_a_way_out(run_edgeferry: Run, tmp_path: Path) -> None:
    done = run_edgeferry("bundle", "--for", "raspberry-pi-32bit", "-o", str(tmp_path / "bundle"))

    assert done.exit_code == 2
    assert "install 64-bit Raspberry Pi OS" in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(UsageError, match="holds something else"):
        make_bundle(tmp_path, load_profile("generic-x86-64"), ("3.11",), print)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.acceptance
def test_a_bundle_for_a_pi_is_whole_and_notices_damage(run_edgeferry: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    done = run_edgeferry("bundle", "--for", "raspberry-pi-4", "--python", "3.11", "-o", str(bundle), "--json")
    assert done.exit_code == 0, done.stderr
    check = ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"]

    whole = subprocess.run(check, cwd=bundle, capture_output=True, check=False)
    names = {path.name.split("-")[0] for path in (bundle / "wheels").iterdir()}
    (bundle / "wheels" / next(path.name for path in (bundle / "wheels").iterdir())).write_bytes(b"cut")
    damaged = subprocess.run(check, cwd=bundle, capture_output=True, check=False)

    assert (whole.returncode, damaged.returncode) == (0, 1)
    assert {"edgeferry", "ai_edge_litert", "numpy", "tuf", "pip"} <= names
    assert not {"tensorflow", "cryptography", "keras"} & names
    assert done.json["machine"] == "aarch64"
    assert all("x86_64" not in path.name for path in (bundle / "wheels").iterdir())
