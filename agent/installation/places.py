"""Where an installed agent lies.

    /opt/edgeferry/versions/NAME/   one environment for each version; complete once it holds `.complete`
    /opt/edgeferry/current          link to the one that runs; replaced in one step
    /opt/edgeferry/previous         link to the one before
    /opt/edgeferry/pending          names the one before while another takes its place
    /usr/local/bin/edgeferry-agent  link to the command in `current`
    /etc/edgeferry/agent.yaml       the configuration; kept by `uninstall` without `--purge`
    /var/lib/edgeferry/             state and credentials; kept likewise
    /etc/systemd/system/            the unit

Imported before the agent's dependencies are there: the standard library alone.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["COMPLETE", "UNIT", "Places"]

UNIT = "edgeferry-agent.service"
COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class Places:
    """The paths, below ``root``, and the account that the agent runs as."""

    root: Path = Path("/")
    account: str = "edgeferry"

    @property
    def program(self) -> Path:
        """Return the folder of all environments."""
        return self.root / "opt" / "edgeferry"

    @property
    def versions(self) -> Path:
        """Return the folder that holds one environment for each version."""
        return self.program / "versions"

    @property
    def current(self) -> Path:
        """Return the link to the environment that runs."""
        return self.program / "current"

    @property
    def previous(self) -> Path:
        """Return the link to the environment that ran before."""
        return self.program / "previous"

    @property
    def pending(self) -> Path:
        """Return the file that is there while one environment takes the place of another."""
        return self.program / "pending"

    @property
    def lock(self) -> Path:
        """Return the file that one installation at a time holds."""
        return self.program / "lock"

    @property
    def command(self) -> Path:
        """Return the link that puts the command onto everybody's path."""
        return self.root / "usr" / "local" / "bin" / "edgeferry-agent"

    @property
    def config(self) -> Path:
        """Return the configuration."""
        return self.root / "etc" / "edgeferry" / "agent.yaml"

    @property
    def state_dir(self) -> Path:
        """Return the folder of state and credentials."""
        return self.root / "var" / "lib" / "edgeferry"

    @property
    def unit(self) -> Path:
        """Return the unit."""
        return self.root / "etc" / "systemd" / "system" / UNIT

    @property
    def drop_ins(self) -> Path:
        """Return the folder of what a person has added to the unit."""
        return self.unit.with_name(f"{UNIT}.d")
