"""The unit files agree with the code that they start."""

import configparser
import tomllib
from pathlib import Path

import pytest

from edgeferry.agent.control_groups import CONTROLLERS
from edgeferry.agent.errors import ConfigError

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "systemd").glob("*.service"))


class _Unit(configparser.RawConfigParser):
    """A unit file; keys keep their case, and may stand twice."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str  # type: ignore[assignment, method-assign]  # configparser's own way to keep the case
        self.read_string(path.read_text())


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_is_installed(path: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    program = Path(_Unit(path)["Service"]["ExecStart"].split()[0])

    assert program.name in scripts


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_does_not_restart_what_a_person_has_to_mend(path: Path) -> None:
    assert int(_Unit(path)["Service"]["RestartPreventExitStatus"]) == ConfigError.exit_code


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_runs_without_root_and_without_capabilities(path: Path) -> None:
    service = _Unit(path)["Service"]

    assert service["User"].startswith("edgeferry")
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"


def test_the_agent_is_watched_as_it_expects() -> None:
    service = _Unit(ROOT / "systemd" / "edgeferry-agent.service")["Service"]

    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 30


def test_the_agent_may_ask_whether_the_clock_is_synchronised() -> None:
    """Without that, metadata would never be seen to expire."""
    unit = (ROOT / "systemd" / "edgeferry-agent.service").read_text().splitlines()

    assert "ProtectClock=yes" not in unit
    assert "SystemCallFilter=adjtimex clock_adjtime" in unit


def test_models_get_groups_of_their_own_and_the_agent_may_limit_them() -> None:
    service = _Unit(ROOT / "systemd" / "edgeferry-agent.service")["Service"]

    assert set(service["Delegate"].split()) == set(CONTROLLERS)
    assert "ProtectControlGroups" not in service
    assert int(service["OOMScoreAdjust"]) < 0


@pytest.mark.parametrize("path", sorted((ROOT / "systemd" / "examples").glob("*.conf")), ids=lambda path: path.stem)
def test_a_drop_in_changes_what_the_unit_has(path: Path) -> None:
    """A setting that is spelt wrongly would be ignored without a word."""
    known = {
        "PrivateDevices",
        "DevicePolicy",
        "DeviceAllow",
        "SupplementaryGroups",
        "ReadWritePaths",
        "RequiresMountsFor",
    }
    sections = _Unit(path)

    assert {key for name in sections.sections() for key in sections[name]} <= known
    assert set(sections.sections()) <= {"Unit", "Service"}
