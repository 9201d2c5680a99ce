"""Makes the virtual environment of one version of the agent, from wheels in a folder or from the index.

An environment cannot be moved, so it is made where it will run, and counts once it is marked as complete: what an
interruption left is made anew. ``python -m edgeferry.agent.installation.environment WHEELS [use]`` prints where it is;
install.sh runs that from the wheel itself, before anything is installed: the standard library alone.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

from edgeferry.agent.errors import AgentError, ConfigError
from edgeferry.agent.fsops import Disk
from edgeferry.agent.installation.places import COMPLETE, Places
from edgeferry.agent.installation.steps import InstallationError, folder, held, must, say

__all__ = ["environment_from_index", "environment_from_wheels", "is_complete"]

_PYTHONS = ((3, 11), (3, 14))  # the first that is not any more
_ROOM_FOR_ENVIRONMENT = 4  # times the wheels: unpacked, with bytecode
_LEAST_ROOM_BYTES = 64 << 20
_TRIAL = "import ai_edge_litert.interpreter, numpy, edgeferry.agent.assembly, edgeferry.agent.serving.process"


def environment_from_wheels(places: Places, wheels: Path, *, with_index: bool = False) -> Path:
    """Return a complete environment with the agent that lies in ``wheels``, beside everything that it needs.

    Args:
        places: Where it goes.
        wheels: Of the agent and of pip at least.
        with_index: Whether what is not there may be fetched from the index.

    Raises:
        ConfigError: There is no such wheel, or this Python cannot run it.
        InstallationError: There is no room, or a wheel for this machine is missing.
    """
    _check_python()
    wheel = _only(wheels, "edgeferry-*.whl")
    version = wheel.name.split("-")[1]
    pip = [f"{_only(wheels, 'pip-*.whl')}/pip"]
    source = [*([] if with_index else ["--no-index"]), "--find-links", str(wheels), f"edgeferry[agent]=={version}"]
    with held(places.lock):
        return _made(places, f"{version}-{_tag()}-{_digest(wheels)}", pip, source, _size_bytes(wheels))


def environment_from_index(places: Places, version: str) -> Path:
    """Return a complete environment with ``version`` of the agent, downloaded with the pip of this interpreter.

    Raises:
        ConfigError: This Python cannot run it.
        InstallationError: There is no room, or the index does not have it.
    """
    _check_python()
    with held(places.lock):
        return _made(places, f"{version}-{_tag()}-index", ["-m", "pip"], [f"edgeferry[agent]=={version}"], 0)


def is_complete(environment: Path) -> bool:
    """Return whether an environment was made to its end."""
    return (environment / COMPLETE).exists()


def _made(places: Places, name: str, pip: list[str], source: list[str], size_bytes: int) -> Path:
    environment = places.versions / name
    if is_complete(environment):
        return environment
    os.umask(0o022)  # the service reads what root installs
    folder(places.versions, 0o755)
    shutil.rmtree(environment, ignore_errors=True)
    _check_room(places.versions, max(_LEAST_ROOM_BYTES, _ROOM_FOR_ENVIRONMENT * size_bytes))
    say(f"making the environment {environment}")
    # Debian keeps ensurepip in a package of its own, so the environment gets no pip: another one installs into it.
    must([sys.executable, "-m", "venv", "--without-pip", str(environment)], "make a virtual environment")
    python = str(environment / "bin" / "python")
    command = [python, *pip] if pip[0] != "-m" else [sys.executable, *pip, "--python", python]
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    must([*command, "install", *options, *source], "install the agent into it")
    must([python, "-c", _TRIAL], "run the agent and its runtime on this machine")
    os.sync()  # all of it before the mark
    Disk().write(environment / COMPLETE, b"")
    return environment


def _check_python() -> None:
    first, end = _PYTHONS
    if not first <= sys.version_info[:2] < end:
        found = ".".join(map(str, sys.version_info[:3]))
        raise ConfigError(f"Python {found} was found, wanted 3.11 to 3.13 (Raspberry Pi OS 12 or newer has it)")


def _check_room(path: Path, wanted_bytes: int) -> None:
    free_bytes = shutil.disk_usage(path).free
    if free_bytes < wanted_bytes:
        raise InstallationError(f"{path}: {free_bytes >> 20} MiB are free, wanted {wanted_bytes >> 20}; make room")


def _only(wheels: Path, pattern: str) -> Path:
    found = sorted(wheels.glob(pattern))
    if len(found) != 1:
        raise ConfigError(f"{wheels}: found {len(found)} files {pattern}, wanted one; copy the whole bundle again")
    return found[0]


def _tag() -> str:
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def _digest(wheels: Path) -> str:
    """Return a name for what is in ``wheels``: two bundles of one version may differ."""
    total = hashlib.sha256()
    for wheel in sorted(wheels.glob("*.whl")):
        with wheel.open("rb") as file:
            total.update(wheel.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:10]


def _size_bytes(wheels: Path) -> int:
    tag = _tag()
    return sum(wheel.stat().st_size for wheel in wheels.glob("*.whl") if tag in wheel.name or "none-any" in wheel.name)


def main() -> int:
    """Make the environment from the wheels that the command line names, print its path, and return the exit code."""
    try:
        wheels, index = Path(sys.argv[1]).absolute(), sys.argv[2:]
        print(environment_from_wheels(Places(), wheels, with_index=index == ["use"]))  # noqa: T201 - the result
    except AgentError as err:
        say(str(err))
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
