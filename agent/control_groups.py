"""Control groups below the unit's own, so that a model's memory never kills the agent.

    edgeferry-agent.service/     delegated to us by the unit (Delegate=cpu memory pids)
        agent/                   this process; the kernel wants no process beside groups with limits
        serving/                 memory, tasks; all of it ends when it is out of memory
        trial/                   memory, tasks, and less of the processor than the others

They are the second guard: the agent watches what its children hold, and says why it ended one; the kernel is quicker
than that. A Raspberry Pi's firmware can switch the memory controller off (cgroup_disable=memory), and then only the
watching is left. Format: Linux, Documentation/admin-guide/cgroup-v2.rst.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgeferry.device_profiles import DeviceProfile

__all__ = ["ControlGroups", "GroupLimits", "limits_of"]

logger = logging.getLogger(__name__)

CONTROLLERS = ("cpu", "memory", "pids")
# Above what the agent allows by its own watching, which then gets to say why; the kernel counts a little differently.
_SLACK_BYTES = 32 << 20
_SERVING_TASKS = 1024  # connections, calls and models have a thread each
_TRIAL_TASKS = 128
_VICTIM_SCORE = 300  # of oom_score_adj, -1000 to 1000; the unit gives the agent less


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Limits of one group.

    Attributes:
        memory_bytes: That its processes may hold together, the cache of their files apart.
        tasks: Threads and processes.
        cpu_weight: Of the processor's time where it is short; the agent has 100.
    """

    memory_bytes: int
    tasks: int
    cpu_weight: int


def limits_of(profile: DeviceProfile) -> dict[str, GroupLimits]:
    """Return the limits that a profile means, by the group's name."""
    return {
        "serving": GroupLimits(profile.serving.memory_limit_bytes + _SLACK_BYTES, _SERVING_TASKS, 100),
        "trial": GroupLimits(profile.trial.memory_limit_bytes + _SLACK_BYTES, _TRIAL_TASKS, 25),
    }


class ControlGroups:
    """The groups of this agent; `confine` does nothing where there are none.

    Args:
        own: The group that was delegated to this process; None where none was.
    """

    def __init__(self, own: Path | None) -> None:
        self._own = own

    @classmethod
    def delegated(
        cls, *, mount: Path = Path("/sys/fs/cgroup"), told: Path = Path("/proc/self/cgroup")
    ) -> "ControlGroups":
        """Return those below the group that this process is in, if that was delegated to it.

        Args:
            mount: Where the hierarchy is mounted.
            told: Tells the group of this process.
        """
        with suppress(OSError):
            lines = told.read_text().splitlines()
            path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
            own = mount / path
            is_unified = (mount / "cgroup.controllers").exists()
            if path and is_unified and os.access(own / "cgroup.subtree_control", os.W_OK):
                return cls(own)
        return cls(None)

    def prepare(self, limits: Mapping[str, GroupLimits]) -> None:
        """Make the groups, and move this process into one of its own; what cannot be is logged and left out."""
        if self._own is None:
            logger.info("no control groups are delegated; models are limited by watching alone")
            return
        try:
            self._enter(self._own / "agent")
            enabled = self._enable(self._own)
            for name, limit in limits.items():
                self._limit(self._own / name, limit, enabled)
        except OSError as err:
            logger.warning("control groups cannot be used, models are limited by watching alone: %s", err)
            self._own = None
            return
        missing = ", ".join(sorted(set(CONTROLLERS) - enabled))
        if missing:
            logger.info("this kernel has no control of %s; there models are limited by watching alone", missing)

    def confine(self, name: str, pid: int) -> None:
        """Put a process that has just been started into the group ``name``, and before the agent when memory is out."""
        with suppress(OSError):  # it may have ended already
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(_VICTIM_SCORE))
        if self._own is None:
            return
        try:
            (self._own / name / "cgroup.procs").write_text(str(pid))
        except OSError as err:  # it may have ended already
            logger.warning("process %d is not in the control group %s: %s", pid, name, err)

    def _enter(self, group: Path) -> None:
        group.mkdir(exist_ok=True)
        (group / "cgroup.procs").write_text(str(os.getpid()))

    def _enable(self, group: Path) -> set[str]:
        available = set((group / "cgroup.controllers").read_text().split()) & set(CONTROLLERS)
        for controller in sorted(available):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        return available

    def _limit(self, group: Path, limit: GroupLimits, enabled: set[str]) -> None:
        group.mkdir(exist_ok=True)
        settings = {
            "memory.max": ("memory", limit.memory_bytes),
            "memory.oom.group": ("memory", 1),
            "pids.max": ("pids", limit.tasks),
            "cpu.weight": ("cpu", limit.cpu_weight),
        }
        for file, (controller, value) in settings.items():
            if controller in enabled:
                (group / file).write_text(str(value))
