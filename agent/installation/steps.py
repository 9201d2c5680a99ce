"""What an installation does to a machine: commands, and changes of the disk that survive an interruption.

Imported before the agent's dependencies are there: the standard library alone.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgeferry.agent.errors import AgentError, ConfigError
from edgeferry.agent.fsops import Disk, explained

__all__ = ["InstallationError", "folder", "held", "must", "published", "run", "say"]

_COMMAND_TIMEOUT_S = 900.0  # a slow card takes minutes to unpack numpy
_LAST_LINES = 5
_LOCK_POLL_S = 0.2


class InstallationError(AgentError):
    """A step of an installation failed; what was done stays, and the same command goes on from there."""


def say(text: str) -> None:
    """Tell the person what is being done."""
    print(f"edgeferry-agent: {text}", file=sys.stderr, flush=True)  # noqa: T201 - click may not be there yet


def run(command: Sequence[str], *, timeout_s: float = _COMMAND_TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run a command and return how it ended.

    Raises:
        InstallationError: It is not there, or did not end in time.
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except FileNotFoundError as err:
        raise InstallationError(f"{command[0]} is not here; install it, then run the same again") from err
    except subprocess.TimeoutExpired as err:
        raise InstallationError(f"`{' '.join(command)}` did not end within {timeout_s:.0f} s") from err


def must(command: Sequence[str], what: str, *, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
    """Run a command that has to end well, and return what it printed.

    Raises:
        InstallationError: It did not; with its last words.
    """
    done = run(command, timeout_s=timeout_s)
    if done.returncode:
        words = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-_LAST_LINES:]
        said = "\n  ".join(words) or "nothing was said"
        raise InstallationError(f"cannot {what}: `{command[0]}` ended with {done.returncode}:\n  {said}")
    return done.stdout


def folder(path: Path, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Have a folder with this mode and owner; what is above it can be entered by everybody."""
    if not path.parent.is_dir():
        folder(path.parent, 0o755)
    with explained(path, "make the folder"):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
        if owner:
            os.chown(path, *owner)
    Disk().sync_directory(path.parent)


def published(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Replace a file that others read, in one step, where it differs; tell whether it did."""
    if path.exists() and path.read_bytes() == data:
        path.chmod(mode)
        return False
    folder(path.parent, 0o755)
    Disk().write(path, data)
    path.chmod(mode)
    return True


@contextmanager
def held(lock: Path, *, patience_s: float = 300.0) -> Iterator[None]:
    """Keep a second installation away during the block; wait for one that is at work, as after a lost connection.

    Raises:
        ConfigError: One was at work for all of ``patience_s``.
    """
    folder(lock.parent, 0o755)
    with lock.open("w") as file:
        deadline_s = time.monotonic() + patience_s
        if not _taken(file):
            say("another installation is at work on this device; waiting for it to end")
        while not _taken(file):
            if time.monotonic() >= deadline_s:
                raise ConfigError("another installation is at work on this device; wait until it has ended")
            time.sleep(_LOCK_POLL_S)
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
