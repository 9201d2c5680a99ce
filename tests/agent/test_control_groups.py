"""Models get groups of their own where some are delegated, and the agent works on where none are.

The files are those of cgroup v2, in a folder; tests/machines shows the same on a kernel.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeferry.agent.control_groups import ControlGroups, limits_of
from edgeferry.device_profiles import load_profile

PATH = "system.slice/edgeferry-agent.service"
LIMITS = limits_of(load_profile("raspberry-pi-zero-2w"))


def hierarchy(folder: Path, controllers: str = "cpu io memory pids") -> tuple[Path, Path]:
    """Make a hierarchy with a delegated group; return its mount and the file that tells our group."""
    own = folder / PATH
    own.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.subtree_control").write_text("")
    told = folder / "told"
    told.write_text(f"0::/{PATH}\n")
    return folder, told


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a delegated group in which everything has been prepared."""
    mount, told = hierarchy(tmp_path)
    groups = ControlGroups.delegated(mount=mount, told=told)
    groups.prepare(LIMITS)
    return tmp_path / PATH


def test_the_agent_moves_into_a_group_of_its_own(own: Path) -> None:
    assert (own / "agent" / "cgroup.procs").read_text() == str(os.getpid())


def test_serving_and_trial_are_limited_as_the_profile_says(own: Path) -> None:
    profile = load_profile("raspberry-pi-zero-2w")

    limits = {group: int((own / group / "memory.max").read_text()) for group in ("serving", "trial")}

    assert limits == {
        "serving": profile.serving.memory_limit_bytes + (32 << 20),
        "trial": profile.trial.memory_limit_bytes + (32 << 20),
    }
    assert (own / "serving" / "memory.oom.group").read_text() == "1"
    assert int((own / "trial" / "pids.max").read_text()) < int((own / "serving" / "pids.max").read_text())
    assert int((own / "trial" / "cpu.weight").read_text()) < int((own / "serving" / "cpu.weight").read_text())


def test_a_child_is_put_into_its_group_and_before_the_agent_when_memory_is_out(tmp_path: Path) -> None:
    mount, told = hierarchy(tmp_path)
    groups = ControlGroups.delegated(mount=mount, told=told)
    groups.prepare(LIMITS)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        groups.confine("serving", child.pid)
        score = Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip()
        child.communicate(b"\n")

    assert (tmp_path / PATH / "serving" / "cgroup.procs").read_text() == str(child.pid)
    assert score == "300"


def test_a_memory_controller_that_the_firmware_has_switched_off_is_told_and_the_rest_still_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount, told = hierarchy(tmp_path, "cpu pids")
    caplog.set_level(logging.INFO)

    ControlGroups.delegated(mount=mount, told=told).prepare(LIMITS)

    assert "no control of memory" in caplog.text
    assert (tmp_path / PATH / "trial" / "pids.max").exists()
    assert not (tmp_path / PATH / "trial" / "memory.max").exists()


@pytest.mark.parametrize("told", ["", "0::/\n", f"4:memory:/{PATH}\n1:name=systemd:/{PATH}\n"])
def test_where_nothing_is_delegated_nothing_is_done(tmp_path: Path, told: str) -> None:
    mount, file = hierarchy(tmp_path)
    file.write_text(told)

    groups = ControlGroups.delegated(mount=mount, told=file)
    groups.prepare(LIMITS)
    groups.confine("serving", 1 << 30)

    assert not (tmp_path / PATH / "agent").exists()


def test_a_host_that_still_has_the_old_hierarchies_is_left_alone(tmp_path: Path) -> None:
    mount, told = hierarchy(tmp_path)
    (mount / "cgroup.controllers").unlink()

    ControlGroups.delegated(mount=mount, told=told).prepare(LIMITS)

    assert not (tmp_path / PATH / "agent").exists()


def test_groups_that_cannot_be_made_are_logged_and_the_agent_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount, told = hierarchy(tmp_path)
    (tmp_path / PATH / "agent").write_text("in the way")
    groups = ControlGroups.delegated(mount=mount, told=told)

    groups.prepare(LIMITS)
    groups.confine("serving", os.getpid())

    assert "models are limited by watching alone" in caplog.text
    assert not (tmp_path / PATH / "serving").exists()


def test_a_process_that_ended_at_once_harms_nothing(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    groups = ControlGroups(own)
    (own / "trial" / "cgroup.procs").mkdir()

    groups.confine("trial", 1 << 30)

    assert "is not in the control group trial" in caplog.text
