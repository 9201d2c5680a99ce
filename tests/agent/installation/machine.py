"""A machine for installations: a root folder, and stand-ins for the system's commands that write down what they did.

The service's stand-in looks at the environment that `current` names: one whose agent is marked as broken does not come
up. The tests in tests/machines do the same with real systemd.
"""

import getpass
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgeferry.agent.installation.environment import is_complete
from edgeferry.agent.installation.places import COMPLETE, Places
from edgeferry.agent.installation.service import Service

_SYSTEMCTL = r"""#!/bin/sh
echo "systemctl $*" >> "$MACHINE/calls"
case "$1 $*" in
restart*) readlink "$MACHINE/opt/edgeferry/current" > "$MACHINE/running"
          if [ -e "$(cat "$MACHINE/running")/broken" ]; then rm "$MACHINE/running"; exit 1; fi ;;
stop*|disable*) rm -f "$MACHINE/running" ;;
show*ActiveState*) [ -e "$MACHINE/running" ] && echo active || echo failed ;;
show*MainPID*) [ -e "$MACHINE/flapping" ] && date +%N || echo 42 ;;
esac
exit 0
"""
_JOURNALCTL = '#!/bin/sh\necho "agent.yaml: profil is not a known key"\n'


@dataclass
class Machine:
    """A machine on which something is installed."""

    root: Path

    @property
    def places(self) -> Places:
        return Places(self.root, getpass.getuser())

    @property
    def service(self) -> Service:
        return Service(settle_s=0.05)

    @property
    def calls(self) -> list[str]:
        path = self.root / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def restarts(self) -> int:
        return sum(call.startswith("systemctl restart") for call in self.calls)

    @property
    def running(self) -> str:
        """Return the name of the environment whose agent runs; empty when none does."""
        path = self.root / "running"
        return Path(path.read_text().strip()).name if path.exists() else ""

    def environment(self, name: str, *, broken: bool = False) -> Path:
        """Make a complete environment."""
        made = self.places.versions / name
        made.mkdir(parents=True)
        (made / COMPLETE).touch()
        if broken:
            (made / "broken").touch()
        assert is_complete(made)
        return made

    def environments(self) -> set[str]:
        return {path.name for path in self.places.versions.iterdir()}


def make_machine(root: Path) -> Machine:
    """Return a machine; its commands come first on the path that `commands_of` returns."""
    commands = root / "commands"
    commands.mkdir(parents=True)
    for name, text in {"systemctl": _SYSTEMCTL, "journalctl": _JOURNALCTL}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(stat.S_IRWXU)
    return Machine(root)


def path_with_commands_of(machine: Machine) -> str:
    return f"{machine.root / 'commands'}:{os.environ['PATH']}"
