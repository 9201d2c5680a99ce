"""An environment is made of wheels alone, with a real venv and a real pip, and counts once it is whole."""

import sys
import zipfile
from pathlib import Path

import pip
import pytest

from edgeferry.agent.errors import ConfigError
from edgeferry.agent.installation import environment as subject
from edgeferry.agent.installation.environment import environment_from_wheels, is_complete
from edgeferry.agent.installation.places import COMPLETE
from edgeferry.agent.installation.steps import InstallationError
from tests.agent.installation.machine import Machine

# What the trial of a new environment imports.
MODULES = ("numpy", "ai_edge_litert.interpreter", "edgeferry.agent.assembly", "edgeferry.agent.serving.process")


def small_wheel(folder: Path, *, version: str = "9.1", requires: str = "", broken: bool = False) -> None:
    """Write a wheel with the agent's name and modules, and nothing in them."""
    information = f"edgeferry-{version}.dist-info"
    needs = (
        f"Provides-Extra: agent\nRequires-Dist: {requires}; extra == 'agent'\n"
        if requires
        else "Provides-Extra: agent\n"
    )
    content = {
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: edgeferry\nVersion: {version}\n{needs}",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    for module in MODULES:
        content[module.replace(".", "/") + ".py"] = "raise ImportError('libstdc++.so.6 is missing')" if broken else ""
    with zipfile.ZipFile(folder / f"edgeferry-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in content.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{information}/RECORD", "".join(f"{name},,\n" for name in [*content, f"{information}/RECORD"]))


@pytest.fixture(scope="session")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the pip that runs here as a wheel that can be run."""
    path = tmp_path_factory.mktemp("pip") / "pip.whl"
    package = Path(pip.__file__).parent
    with zipfile.ZipFile(path, "w") as wheel:
        for file in package.rglob("*.py"):
            wheel.write(file, file.relative_to(package.parent))
        for file in [*package.rglob("*.pem"), *package.rglob("*.txt"), *package.rglob("*.json")]:
            wheel.write(file, file.relative_to(package.parent))
    return path.read_bytes()


@pytest.fixture
def wheels(tmp_path: Path, pip_wheel: bytes) -> Path:
    """Return a folder with pip and the agent."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    (folder / "pip-1.0-py3-none-any.whl").write_bytes(pip_wheel)
    return folder


def test_it_is_made_once_and_can_be_run(machine: Machine, wheels: Path) -> None:
    small_wheel(wheels)

    made = environment_from_wheels(machine.places, wheels)
    inode = (made / "pyvenv.cfg").stat().st_ino
    again = environment_from_wheels(machine.places, wheels)

    assert made.parent == machine.places.versions
    assert made.name.startswith(f"9.1-cp{sys.version_info.major}{sys.version_info.minor}-")
    assert is_complete(made)
    assert (made / "bin" / "python").exists()
    assert again == made
    assert (made / "pyvenv.cfg").stat().st_ino == inode


def test_what_an_interruption_left_is_made_anew(machine: Machine, wheels: Path) -> None:
    small_wheel(wheels)
    made = environment_from_wheels(machine.places, wheels)
    (made / COMPLETE).unlink()
    (made / "half").touch()

    assert environment_from_wheels(machine.places, wheels) == made

    assert is_complete(made)
    assert not (made / "half").exists()


def test_the_service_can_read_it_whatever_the_umask_of_root(machine: Machine, wheels: Path) -> None:
    small_wheel(wheels)

    made = environment_from_wheels(machine.places, wheels)

    for path in (machine.places.program, machine.places.versions, made, made / "pyvenv.cfg"):
        assert path.stat().st_mode & 0o005 == 0o005 or (path.is_file() and path.stat().st_mode & 0o004)


def test_a_wheel_that_is_missing_is_named_and_nothing_counts(machine: Machine, wheels: Path) -> None:
    small_wheel(wheels, requires="msgspec>=0.20")

    with pytest.raises(InstallationError, match=r"cannot install the agent into it(.|\n)*msgspec"):
        environment_from_wheels(machine.places, wheels)

    assert not any(map(is_complete, machine.places.versions.iterdir()))


def test_a_runtime_that_does_not_load_on_this_machine_is_told_before_anything_is_switched(
    machine: Machine, wheels: Path
) -> None:
    small_wheel(wheels, broken=True)

    with pytest.raises(InstallationError, match=r"cannot run the agent(.|\n)*libstdc\+\+.so.6 is missing"):
        environment_from_wheels(machine.places, wheels)


def test_a_folder_without_the_agent_is_no_bundle(machine: Machine, wheels: Path) -> None:
    with pytest.raises(ConfigError, match=r"found 0 files edgeferry-\*.whl, wanted one"):
        environment_from_wheels(machine.places, wheels)


def test_a_python_that_is_too_old_is_told(machine: Machine, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_wheel(wheels)
    monkeypatch.setattr(subject.sys, "version_info", (3, 9, 2))

    with pytest.raises(ConfigError, match=r"Python 3\.9\.2 was found, wanted 3\.11 to 3\.13"):
        environment_from_wheels(machine.places, wheels)


def test_a_full_card_is_told_before_anything_is_unpacked(
    machine: Machine, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_wheel(wheels)
    monkeypatch.setattr(subject, "_LEAST_ROOM_BYTES", 1 << 62)

    with pytest.raises(InstallationError, match="MiB are free, wanted"):
        environment_from_wheels(machine.places, wheels)

    assert list(machine.places.versions.iterdir()) == []
