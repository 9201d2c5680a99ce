"""Makes a bundle for one kind of device: the agent's wheel, what it needs as wheels for that machine, an installer.

install.sh    run as root on the device
wheels/       for every version of Python that was asked for, and pip itself
bundle        which machine, Pythons and version it is for
SHA256SUMS    of all of these; install.sh checks them
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edgeferry.device_profiles import DeviceProfile
from edgeferry.device_profiles.profile import Arch, RuntimePackage
from edgeferry.fleet.bundle.own_wheel import own_wheel
from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.files import explained, make_folder

__all__ = ["DEBIAN_PYTHONS", "Bundle", "make_bundle", "pythons_of"]

DEBIAN_PYTHONS = ("3.11", "3.13")  # of Debian and Raspberry Pi OS 12 and 13
_DOWNLOAD_TIMEOUT_S = 1800
# What glibc 2.36 of Debian 12 can load (PEP 600); the older names are aliases of 2_17.
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on the disk."""

    path: Path
    machine: str
    pythons: tuple[str, ...]
    size_bytes: int


def pythons_of(profile: DeviceProfile, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the versions of Python that a bundle for ``profile`` is made for.

    Raises:
        UsageError: One that was asked for cannot run the agent there, or the profile's runtime has no such wheels.
    """
    if profile.runtime.package is not RuntimePackage.AI_EDGE_LITERT:
        raise UsageError(
            f"{profile.name} runs models with {profile.runtime.package}, for which there is no bundle; install 64-bit "
            "Raspberry Pi OS, or the agent by hand"
        )
    known = profile.runtime.python
    wrong = [python for python in asked if python not in known]
    if wrong:
        raise UsageError(f"Python {', '.join(wrong)} has no runtime for {profile.name}; there are {', '.join(known)}")
    return asked or tuple(python for python in known if python in DEBIAN_PYTHONS) or known


def make_bundle(
    target: Path,
    profile: DeviceProfile,
    pythons: tuple[str, ...],
    tell: Callable[[str], None],
    *,
    online: bool = False,
) -> Bundle:
    """Make the bundle ``target``, in one step: until it is whole, what was there before stays.

    Args:
        target: Folder that is made, or replaced where it is a bundle already.
        profile: Of the devices that it is for.
        pythons: As `pythons_of` returns them.
        tell: Takes a sentence about what is being done.
        online: Leave out everything but the agent and pip; the device fetches the rest from the index.

    Raises:
        UsageError: ``target`` is there and no bundle.
        FleetError: A wheel cannot be had, or the disk refused.
    """
    if target.exists() and not (target / "bundle").exists() and any(target.iterdir()):
        raise UsageError(f"{target} is there and holds something else; name a folder that is new or empty")
    make_folder(target.absolute().parent)
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}.") as place:
        made = Path(place) / "bundle"
        wheels = made / "wheels"
        wheels.mkdir(parents=True)
        tell("building the agent's wheel")
        wheel = own_wheel(wheels)
        for python in pythons:
            tell(f"collecting wheels for {profile.hardware.arch} and Python {python}")
            _download(["pip"] if online else [f"{wheel}[agent]", "pip"], wheels, profile.hardware.arch, python)
        _write_rest(made, profile.hardware.arch, pythons, online=online)
        with explained(target):
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
    size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Bundle(target, str(profile.hardware.arch), pythons, size_bytes)


def _download(requirements: list[str], wheels: Path, arch: Arch, python: str) -> None:
    platforms = [option for name in _PLATFORMS for option in ("--platform", f"{name}_{arch}")]
    abi = f"cp{python.replace('.', '')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--dest", str(wheels), "--only-binary=:all:", *platforms, "--python-version", python]
    command += ["--implementation", "cp", "--abi", abi, "--abi", "abi3", "--abi", "none"]
    done = subprocess.run(
        [*command, *requirements], capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False
    )
    if done.returncode:
        said = "\n  ".join(line for line in done.stderr.strip().splitlines()[-4:])
        raise FleetError(f"not every wheel for {arch} and Python {python} can be had: pip says\n  {said}")


def _write_rest(bundle: Path, arch: Arch, pythons: tuple[str, ...], *, online: bool) -> None:
    index = "use" if online else "none"
    (bundle / "bundle").write_text(f"machine={arch}\npythons={' '.join(pythons)}\nindex={index}\n")
    installer = bundle / "install.sh"
    installer.write_bytes(files("edgeferry.fleet.bundle").joinpath("install.sh").read_bytes())
    installer.chmod(0o755)
    listed = sorted(path for path in bundle.rglob("*") if path.is_file())
    sums = [f"{_sha256(path)}  {path.relative_to(bundle)}\n" for path in listed]
    (bundle / "SHA256SUMS").write_text("".join(sums))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
