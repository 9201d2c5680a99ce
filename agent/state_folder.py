"""What can be told of an agent from the outside: its state folder, read without changing anything in it.

A running agent goes on undisturbed: no lock is taken, and nothing is mended.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeferry.agent.errors import StoreError
from edgeferry.agent.fsops import explained
from edgeferry.agent.spool import newest_events
from edgeferry.agent.state import AgentState, decode_state
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import Event

__all__ = ["StateFolder", "holder_of", "read_state_folder"]

LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class StateFolder:
    """What an agent has left on its disk.

    Attributes:
        state: What it remembers; None when the file is damaged, or was written by another version.
        events: The newest of them, oldest first; those that are not in the spool yet are the last.
        pid: The process that holds the folder; 0 when nobody does, None when the system does not tell who.
    """

    state: AgentState | None
    events: tuple[Event, ...]
    pid: int | None


def read_state_folder(directory: Path) -> StateFolder:
    """Return what is in an agent's state folder.

    Raises:
        StoreError: There is no such folder, or this user may not read it.
    """
    with explained(directory, "look into"):
        names = {path.name for path in directory.iterdir()}
    state = _state(directory / "state") if "state" in names else AgentState()
    spooled = newest_events(directory / "spool") if "spool" in names else []
    said = {event.seq for event in spooled}
    unsaid = [event for event in state.outbox if event.seq not in said] if state else []
    return StateFolder(state, (*spooled, *unsaid), holder_of(directory / "lock"))


def holder_of(lock: Path, locks: Path = LOCKS) -> int | None:
    """Return the process that has locked the file ``lock``; 0 for none, None when it cannot be told.

    The system's own list is read (proc_locks(5)): to try the lock would be to take it from an agent that just starts.
    """
    try:
        found = lock.stat()
        lines = locks.read_text().splitlines()
    except FileNotFoundError:
        return 0 if locks.exists() else None
    except OSError:
        return None
    return _holder(lines, f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}")


def _holder(lines: Iterable[str], file: str) -> int | None:
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, "WRITE", pid, place, *_] if place == file:
                return int(pid) if int(pid) > 0 else None  # 0 or -1: a process of another namespace
    return 0


def _state(path: Path) -> AgentState | None:
    try:
        return decode_state(path.read_bytes())
    except WireError:
        return None
    except OSError as err:
        raise StoreError(f"cannot read {path}: {err.strerror}") from err
