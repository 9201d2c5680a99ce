"""What the agent takes from the machine it runs on: a folder in memory, a free port, names and versions."""

import errno
import hashlib
import logging
import os
import platform
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from edgeferry import __version__
from edgeferry.agent.errors import AgentError, ConfigError, StoreError

__all__ = ["check_free", "check_grpc", "memory_folder", "versions"]

logger = logging.getLogger(__name__)


@contextmanager
def memory_folder(state_dir: Path) -> Iterator[Path]:
    """Yield a folder in memory for what need not last: the service manager's, else one in /dev/shm.

    The latter has the same name at each start, so that a killed agent leaves nothing behind for long; the caller holds
    the lock of ``state_dir``, so nobody else is in it.

    Raises:
        StoreError: There is no such folder, or somebody else has made one of that name.
    """
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if runtime:
        yield Path(runtime)
        return
    parent = next((path for path in ("/dev/shm", tempfile.gettempdir()) if os.access(path, os.W_OK)), None)  # noqa: S108 - a folder of our own is made below it
    if parent is None:
        raise StoreError(f"no folder in memory can be written; set RUNTIME_DIRECTORY for the agent of {state_dir}")
    name = hashlib.sha256(bytes(state_dir.absolute())).hexdigest()[:16]
    folder = Path(parent) / f"edgeferry-{os.geteuid()}-{name}"
    _make_own(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_own(folder: Path) -> None:
    """Make a folder of ours alone below one where everybody may make some, or take the one that we left."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as err:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise StoreError(f"{folder} was made by somebody else; remove it, or set RUNTIME_DIRECTORY") from err


def check_free(address: str, patience_s: float = 5.0) -> None:
    """Return when nobody listens on ``address``; a serving process of a killed agent is given time to end.

    Raises:
        AgentError: Somebody does, or the address is not this machine's.
    """
    host, _, port = address.rpartition(":")
    ends_s = time.monotonic() + patience_s
    while True:
        try:
            with socket.create_server((host.strip("[]"), int(port)), family=_family_of(host)):
                return
        except (OSError, ValueError, OverflowError) as err:
            if time.monotonic() >= ends_s or not isinstance(err, OSError) or err.errno != errno.EADDRINUSE:
                raise AgentError(f"listen: cannot listen on {address}: {err}; choose another HOST:PORT") from err
        time.sleep(0.2)


def check_grpc() -> None:
    """Return when gRPC can be answered.

    Raises:
        ConfigError: grpcio is not installed; the serving process would say so again and again.
    """
    if find_spec("grpc") is None:
        raise ConfigError("listen.grpc needs grpcio: pip install 'edgeferry[grpc]', or leave it out")


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def versions(runtime: str) -> dict[str, str]:
    """Return the versions of edgeferry, Python, the operating system and the package ``runtime``, where installed."""
    found = {"edgeferry": __version__, "python": platform.python_version(), "os": _os_name()}
    try:
        found["runtime"] = f"{runtime} {version(runtime)}"
    except PackageNotFoundError:
        logger.warning("%s is not installed: no model can be served; install edgeferry[agent]", runtime)
    return found


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
