"""Installs, upgrades and removes the agent as a service of this machine.

    account, configuration, unit --> current = new --> start --> up and stays up --> forget older environments
                                          ^                 |
                                          +-- current = old-+ not up: roll back

Every step can be done again: after an interruption the same command goes on from there.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeferry.agent.errors import ConfigError
from edgeferry.agent.fsops import Disk
from edgeferry.agent.installation.account import have_account, remove_account
from edgeferry.agent.installation.configuring import configure
from edgeferry.agent.installation.environment import is_complete
from edgeferry.agent.installation.places import UNIT, Places
from edgeferry.agent.installation.service import Service, unit_text
from edgeferry.agent.installation.steps import InstallationError, folder, held, published, say

__all__ = ["Wanted", "install", "uninstall"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an installation is asked for.

    Attributes:
        environment: That shall run; complete, below `Places.versions`.
        token: That the device joins with; empty to keep its configuration.
        http: HOST:PORT for REST, where the configuration is new.
        force: Write the configuration anew, whatever it says.
    """

    environment: Path
    token: str = ""
    http: str = ""
    force: bool = False


def install(wanted: Wanted, places: Places, service: Service) -> None:
    """Have the agent of ``wanted.environment`` run now and after every boot.

    Raises:
        ConfigError: The machine or the token cannot be used.
        InstallationError: The agent did not come up; where another one ran before, that runs again.
    """
    if not is_complete(wanted.environment):
        raise ConfigError(f"{wanted.environment} is not complete; run the installer of the bundle again")
    service.check()
    with held(places.lock):
        owner = have_account(places)
        is_configured_anew = configure(places, owner, wanted.token, http=wanted.http, force=wanted.force)
        _link(places.command, str(places.current / "bin" / "edgeferry-agent"))  # first: the doctor may be needed
        _Switch(places, service).to(wanted.environment, must_restart=is_configured_anew)
        _prune(places)


def uninstall(places: Places, service: Service, *, purge: bool) -> None:
    """Stop the agent and remove it; with ``purge`` configuration, state, credentials and account too."""
    with held(places.lock):
        service.remove(places.unit)
        places.command.unlink(missing_ok=True)
        shutil.rmtree(places.drop_ins, ignore_errors=True)
        if purge:
            for path in (places.config.parent, places.state_dir):
                shutil.rmtree(path, ignore_errors=True)
            remove_account(places)
    shutil.rmtree(places.program)


class _Switch:
    """From the environment that runs to another one, and back when that does not come up.

    While it is at work, ``pending`` names the one before: after an interruption it is known what to go back to, and
    that what runs may not be what `current` names.
    """

    def __init__(self, places: Places, service: Service) -> None:
        self._places = places
        self._service = service

    def to(self, environment: Path, *, must_restart: bool) -> None:
        before = self._before()
        is_new = before != environment or self._places.pending.exists() or must_restart
        if not is_new and self._is_unit(unit_text()) and self._service.is_active():
            say("nothing had to be changed")
            return
        Disk().write(self._places.pending, str(before or "").encode())
        say(f"starting the agent of {environment.name}")
        problem = self._start(environment, unit_text())
        if problem:
            self._go_back(environment, before, problem)
        if before and before != environment:
            _link(self._places.previous, str(before))
        self._places.pending.unlink()

    def _before(self) -> Path | None:
        if self._places.pending.exists():
            name = self._places.pending.read_text()
            return Path(name) if name else None
        return _target(self._places.current)

    def _is_unit(self, text: bytes) -> bool:
        return self._places.unit.exists() and self._places.unit.read_bytes() == text

    def _start(self, environment: Path, unit: bytes) -> str:
        """Run the agent of ``environment`` by ``unit``; return why it did not come up, an empty text when it did."""
        published(self._places.unit, unit)
        _link(self._places.current, str(environment))
        self._service.enable()
        return self._service.restart()

    def _go_back(self, environment: Path, before: Path | None, problem: str) -> None:
        if before is None or before == environment or not is_complete(before):
            raise InstallationError(f"the agent does not come up: {problem}")
        say(f"it does not come up; going back to {before.name}")
        again = self._start(before, _unit_of(before) or self._places.unit.read_bytes())
        shutil.rmtree(environment, ignore_errors=True)
        self._places.pending.unlink()
        standing = f"the one before, {before.name}, does not either: {again}" if again else f"{before.name} runs again"
        raise InstallationError(f"the new agent did not come up: {problem}; {standing}")


def _unit_of(environment: Path) -> bytes:
    """Return the unit that came with an environment; empty when it brought none."""
    found = sorted(environment.glob(f"lib/python3*/site-packages/edgeferry/agent/installation/{UNIT}"))
    return found[0].read_bytes() if found else b""


def _target(link: Path) -> Path | None:
    return link.readlink() if link.is_symlink() else None


def _link(link: Path, target: str) -> None:
    folder(link.parent, 0o755)
    Disk().link(link, target)
    Disk().sync_directory(link.parent)


def _prune(places: Places) -> None:
    kept = {_target(places.current), _target(places.previous)}
    for environment in places.versions.iterdir():
        if environment not in kept:
            shutil.rmtree(environment, ignore_errors=True)
