"""Whether the service manager keeps the agent running, judged by what it shows of the unit. Pure."""

from collections.abc import Mapping

from edgeferry.agent.doctor.finding import Finding, fine, problem, warning
from edgeferry.agent.errors import EXIT_CONFIG

__all__ = ["PROPERTIES", "UNIT", "examine_service"]

UNIT = "edgeferry-agent.service"
MANY_RESTARTS = 5

PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "ExecMainStatus")


def examine_service(shown: Mapping[str, str], pid: int | None) -> Finding:
    """Return what the properties of the unit mean.

    Args:
        shown: `PROPERTIES` by name; empty where no systemd runs.
        pid: Of the agent that holds the state folder; 0 for none, None when that cannot be told.
    """
    if shown.get("LoadState", "not-found") == "not-found":
        return _unmanaged(pid)
    state = f"{UNIT} is {shown.get('ActiveState')} ({shown.get('SubState')})"
    if shown.get("ActiveState") not in ("active", "reloading"):
        return _stopped(shown, state)
    if shown.get("UnitFileState") != "enabled":
        return warning("service", f"{state}, and not started at boot", f"sudo systemctl enable {UNIT}")
    restarts = int(shown.get("NRestarts") or 0)
    if restarts >= MANY_RESTARTS:
        return warning("service", f"{state}, and was restarted {restarts} times", f"see why: journalctl -u {UNIT}")
    return fine("service", f"{state}, and started at boot")


def _unmanaged(pid: int | None) -> Finding:
    if pid == 0:
        advice = f"start it: edgeferry-agent run --config FILE, or let systemd do it with systemd/{UNIT}"
        return problem("service", "no agent is running, and systemd knows no unit for one", advice)
    advice = f"let systemd start and watch it, with systemd/{UNIT}"
    return warning("service", "an agent is running, but nobody starts it again when it ends", advice)


def _stopped(shown: Mapping[str, str], state: str) -> Finding:
    if shown.get("ExecMainStatus") == str(EXIT_CONFIG):
        advice = f"mend what `journalctl -u {UNIT} -n 20` names, then: sudo systemctl restart {UNIT}"
        return problem("service", f"{state}: the configuration was refused", advice)
    if shown.get("Result") not in ("success", "", None):
        advice = f"see why with `journalctl -u {UNIT} -n 50`, then: sudo systemctl restart {UNIT}"
        return problem("service", f"{state}: {shown['Result']}", advice)
    return problem("service", state, f"sudo systemctl enable --now {UNIT}")
