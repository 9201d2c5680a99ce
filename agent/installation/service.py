"""The unit, by way of systemctl: reload, enable, start, and whether the agent came up and stays up."""

import time
from importlib.resources import files
from pathlib import Path

from edgeferry.agent.errors import ConfigError
from edgeferry.agent.installation.places import UNIT
from edgeferry.agent.installation.steps import must, run

__all__ = ["Service", "unit_text"]

_START_TIMEOUT_S = 300.0  # the unit allows 60 s to stop and 180 s to start
_SETTLE_S = 5.0
_POLL_S = 0.5


def unit_text() -> bytes:
    """Return the unit of this version."""
    return files("edgeferry.agent.installation").joinpath(UNIT).read_bytes()


class Service:
    """The agent as systemd runs it.

    Args:
        settle_s: How long it has to stay up after it has said that it is ready.
    """

    def __init__(self, settle_s: float = _SETTLE_S) -> None:
        self._settle_s = settle_s

    def check(self) -> None:
        """Return when systemd runs this machine.

        Raises:
            ConfigError: Something else does.
        """
        if run(["systemctl", "show", "--property=Version"]).returncode:
            raise ConfigError("systemd does not run here; start the agent with `edgeferry-agent run` in another way")

    def enable(self) -> None:
        """Have the unit read, and started at every boot."""
        must(["systemctl", "daemon-reload"], "have systemd read the unit")
        must(["systemctl", "enable", "--quiet", UNIT], "have the agent started at boot")

    def is_active(self) -> bool:
        """Return whether the agent runs."""
        return self._shown("ActiveState") == "active"

    def restart(self) -> str:
        """Start the agent anew and return why it did not come up; an empty text when it did, and stays up."""
        run(["systemctl", "reset-failed", UNIT])
        if run(["systemctl", "restart", UNIT], timeout_s=_START_TIMEOUT_S).returncode:
            return self._last_words()
        pid = self._shown("MainPID")
        deadline_s = time.monotonic() + self._settle_s
        while time.monotonic() < deadline_s:
            if not self.is_active() or self._shown("MainPID") != pid:
                return self._last_words()
            time.sleep(min(_POLL_S, self._settle_s))
        return ""

    def remove(self, unit: Path) -> None:
        """Stop and forget the unit; harmless where there is none."""
        run(["systemctl", "disable", "--now", "--quiet", UNIT])
        unit.unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "reset-failed", UNIT])

    def stop(self) -> None:
        """Stop the agent, so that it does not try again and again."""
        run(["systemctl", "stop", UNIT])

    def _shown(self, name: str) -> str:
        return run(["systemctl", "show", "--value", f"--property={name}", UNIT]).stdout.strip()

    def _last_words(self) -> str:
        lines = run(["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=5", f"--unit={UNIT}"]).stdout
        return " | ".join(line.strip() for line in lines.splitlines() if line.strip()) or "it left no words"
