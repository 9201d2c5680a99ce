"""The account that the agent runs as: a system user without a home, a shell or a password."""

import os
import pwd

from edgeferry.agent.errors import ConfigError
from edgeferry.agent.installation.places import Places
from edgeferry.agent.installation.steps import must, run

__all__ = ["check_root", "have_account", "remove_account"]


def check_root(command: str) -> None:
    """Return when this process may change the system.

    Raises:
        ConfigError: It may not.
    """
    if os.geteuid() != 0:
        raise ConfigError(f"`{command}` changes the system; run it as root, with sudo")


def have_account(places: Places) -> tuple[int, int]:
    """Return user and group id of the account; make it where it is missing."""
    try:
        found = pwd.getpwnam(places.account)
    except KeyError:
        home = str(places.state_dir)
        options = ["--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", "/usr/sbin/nologin"]
        must(["useradd", *options, places.account], f"make the account {places.account}")
        found = pwd.getpwnam(places.account)
    return found.pw_uid, found.pw_gid


def remove_account(places: Places) -> None:
    """Remove the account; harmless where there is none."""
    run(["userdel", places.account])
    run(["groupdel", places.account])
