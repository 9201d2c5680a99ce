"""`edgeferry-agent status` and `doctor` beside a real agent on a real broker."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.models import artifact_folder
from tests.system.harness import Agent, Done, System

pytestmark = pytest.mark.broker


def ask(agent: Agent, command: str, *options: str) -> Done:
    """Run a command of `edgeferry-agent` on the device."""
    line = [sys.executable, "-m", "edgeferry.agent", command, "--config", str(agent.config), *options]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def verdicts(agent: Agent) -> dict[str, Any]:
    return {finding["subject"]: finding["verdict"] for finding in ask(agent, "doctor", "--json").json}


def test_status_and_doctor_tell_how_a_device_is(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    assert ask(agent, "status").exit_code == 1

    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=1).parent))
    fleet.run("push", str(artifact_folder(fleet.folder / "build", version=2, passing=False).parent))

    status = ask(agent, "status")
    assert status.exit_code == 0
    assert f"the agent runs (process {agent.pid}, since 20" in status.stdout
    assert "serves    version 1 (int8, " in status.stdout
    assert "last      version 2 failed" in status.stdout
    (model,) = json.loads(ask(agent, "status", "--json").stdout)["models"]
    assert (model["active"], model["wanted"], model["last"]["outcome"]) == (1, 2, "failed")
    assert model["since_ms"] < model["last"]["ended_ms"]

    found = verdicts(agent)
    assert {found[name] for name in ("configuration", "runtime", "disk", "permissions", "broker", "trust")} == {"fine"}
    assert found["service"] == "warning"  # no systemd has started it
    assert len(agent.lines_of("connected to")) == 1  # the doctor's visit has not thrown it out


def test_the_doctor_finds_what_is_broken_and_ends_with_1(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    (agent.state_dir / "identity" / "password").write_text("of somebody else")
    (agent.state_dir / "identity" / "password").chmod(0o644)

    done = ask(agent, "doctor")

    assert done.exit_code == 1
    assert "problem  permissions: " in done.stdout
    assert "chmod 0600" in done.stdout
    assert "to be mended" in done.stdout
    assert "of somebody else" not in done.stdout
    assert verdicts(agent)["service"] == "problem"

    fleet.broker.stop()
    assert "nobody listens on port" in ask(agent, "doctor").stdout


def test_a_state_folder_that_is_not_there_and_a_wrong_configuration_are_told(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    text = agent.config.read_text()

    agent.config.write_text(text.replace(f"state_dir: {agent.state_dir}", "state_dir: nowhere"))
    assert "problem  state folder: there is no folder" in ask(agent, "doctor").stdout
    assert ask(agent, "status").exit_code == 1

    agent.config.write_text("idd: pi\n" + text)
    assert "did you mean" in ask(agent, "doctor").stdout
    assert ask(agent, "status").exit_code == 78
