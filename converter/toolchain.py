"""Which tools made something: their versions, told without importing any of them."""

import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path

__all__ = ["PACKAGES", "own_sources", "processor", "versions"]

PACKAGES = (
    "edgeferry",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "litert-quantizer",
    "ai-edge-litert",
    "numpy",
    "pillow",
)

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOMS = ("converter", "inference", "wire")  # what a child process may run of ours


def versions() -> dict[str, str]:
    """Return the versions of the packages that can change what a conversion makes, and of Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of tensorflow and tensorflow-cpu is always absent
    return found


@cache
def own_sources() -> str:
    """Return the SHA-256 of our own code that children run, so that a change of it is seen without a new version."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted((_PACKAGE / room).resolve().rglob("*.py")):
            digest.update(f"{room}/{path.name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def processor() -> str:
    """Return what kind of processor this is: runtimes choose their kernels by it, and times are its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model", "CPU part"))]
    return f"{platform.machine()} {' '.join(sorted(set(named)))}".strip()
