"""Facts about this machine for the doctor, read and never changed."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import psutil

from edgeferry.agent.clock import is_synchronised, now_ms
from edgeferry.agent.doctor.machine import Machine
from edgeferry.agent.doctor.service import PROPERTIES, UNIT
from edgeferry.agent.fsops import Disk, explained
from edgeferry.wire.desired import BlobRef

__all__ = ["gather_machine", "gather_service", "kept_blob", "kept_metadata"]

SYSTEMCTL_TIMEOUT_S = 10.0
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")  # of the unified hierarchy, cgroups(7)


def gather_machine(state_dir: Path, controllers: Path = CONTROLLERS) -> Machine:
    """Return what this machine is and has.

    Raises:
        StoreError: The state folder cannot be looked at.
    """
    usage = Disk().usage(state_dir)
    memory = psutil.virtual_memory()
    return Machine(
        now_ms=now_ms(),
        is_synchronised=is_synchronised(),
        free_bytes=usage.free_bytes,
        total_bytes=usage.total_bytes,
        is_read_only=bool(os.statvfs(state_dir).f_flag & os.ST_RDONLY),
        memory_bytes=memory.total,
        available_bytes=memory.available,
        has_memory_controller=_has_memory_controller(controllers),
        arch=os.uname().machine,
        cores=psutil.cpu_count() or 1,
    )


def gather_service() -> dict[str, str]:
    """Return what systemd shows of the agent's unit, by property; nothing where no systemd runs."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return {}
    command = [systemctl, "show", UNIT, f"--property={','.join(PROPERTIES)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):  # it is installed, and not what runs this machine: a container
        return {}
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines() if "=" in line)


def kept_metadata(state_dir: Path) -> dict[str, bytes]:
    """Return the metadata files that an agent has kept; none before its first start.

    Raises:
        StoreError: They cannot be read.
    """
    folder = state_dir / "tuf"
    with explained(folder, "read"):
        if not folder.is_dir():
            return {}
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == ".json"}


def kept_blob(state_dir: Path, blob: BlobRef) -> bytes | None:
    """Return a small blob's bytes, or None when it is not here, or is not what its name says."""
    try:
        data = (state_dir / "blobs" / blob.sha256).read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == blob.sha256 else None


def _has_memory_controller(controllers: Path) -> bool | None:
    try:
        return "memory" in controllers.read_text().split()
    except OSError:
        return None
