"""What the doctor makes of what systemd shows of the agent's unit."""

import pytest

from edgeferry.agent.doctor.finding import Verdict
from edgeferry.agent.doctor.service import PROPERTIES, examine_service

RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "NRestarts": "0",
    "ExecMainStatus": "0",
}


def test_every_property_that_is_asked_for_is_known_here() -> None:
    assert set(PROPERTIES) == RUNNING.keys()


def test_one_that_runs_and_is_started_at_boot_is_fine() -> None:
    assert examine_service(RUNNING, pid=7).verdict is Verdict.FINE


@pytest.mark.parametrize(
    ("shown", "verdict", "advice"),
    [
        ({"UnitFileState": "disabled"}, Verdict.WARNING, "systemctl enable"),
        ({"NRestarts": "9"}, Verdict.WARNING, "journalctl -u"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"}, Verdict.PROBLEM, "-n 20"),
        ({"ActiveState": "activating", "Result": "watchdog"}, Verdict.PROBLEM, "-n 50"),
        ({"ActiveState": "inactive"}, Verdict.PROBLEM, "enable --now"),
    ],
)
def test_what_is_wrong_comes_with_the_command_that_mends_it(
    shown: dict[str, str], verdict: Verdict, advice: str
) -> None:
    found = examine_service(RUNNING | shown, pid=0)

    assert found.verdict is verdict
    assert advice in found.advice


@pytest.mark.parametrize("shown", [{}, {"LoadState": "not-found"}])
def test_without_a_unit_an_agent_run_by_hand_is_a_warning_and_none_a_problem(shown: dict[str, str]) -> None:
    assert examine_service(shown, pid=7).verdict is Verdict.WARNING
    assert examine_service(shown, pid=None).verdict is Verdict.WARNING
    assert examine_service(shown, pid=0).verdict is Verdict.PROBLEM
