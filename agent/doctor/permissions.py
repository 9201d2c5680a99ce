"""Whether secrets are readable to nobody else, and whether the agent's user can work with its folder."""

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from edgeferry.agent.doctor.finding import Finding, fine, problem

__all__ = ["examine_permissions"]

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def examine_permissions(state_dir: Path, secrets: tuple[Path, ...], owner_uid: int | None = None) -> Iterator[Finding]:
    """Yield what is wrong with owners and modes, or that all is well.

    Args:
        state_dir: The agent's state folder.
        secrets: Files that only the agent's user may read, wherever they are.
        owner_uid: Of the agent's user; None to take the owner of the state folder.
    """
    folder = state_dir.stat()
    uid = folder.st_uid if owner_uid is None else owner_uid
    found = [*_open_to_others(state_dir, secrets), *_of_strangers(state_dir, uid)]
    yield from found or [fine("permissions", f"{state_dir} and the secrets belong to {_name(uid)} alone")]


def _open_to_others(state_dir: Path, secrets: tuple[Path, ...]) -> Iterator[Finding]:
    for path in (state_dir, *secrets):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue  # the configuration's examination has told
        if mode & OTHERS:
            wanted = "0700" if path == state_dir else "0600"
            yield problem(
                "permissions",
                f"{path} has mode {mode:04o}: others on this machine may look into it",
                f"sudo chmod {wanted} {path}; then a new password: `edgeferry token ID --renew`",
            )


def _of_strangers(state_dir: Path, uid: int) -> Iterator[Finding]:
    """Yield the first thing in the state folder that is somebody else's: an agent run by hand as root leaves some."""
    for folder, folders, files in os.walk(state_dir):
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            try:
                owner = path.lstat().st_uid
            except FileNotFoundError:
                continue  # the agent goes on working
            if owner != uid:
                yield problem(
                    "permissions",
                    f"{path} belongs to {_name(owner)}, and {state_dir} to {_name(uid)}: the agent cannot change it",
                    f"sudo chown -R {_name(uid)}: {state_dir}",
                )
                return


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
