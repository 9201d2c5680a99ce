"""`edgeferry-agent status` and `doctor` on a device whose agent has never run."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeferry.agent.cli import main
from edgeferry.agent.doctor import gathering
from edgeferry.agent.fsops import Disk
from edgeferry.agent.processes import started_ms
from edgeferry.agent.store import Store
from edgeferry.wire.desired import BlobRef
from tests.brokers import free_port

from .test_cli import init


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An agent.yaml whose brokers nobody runs."""
    assert init(tmp_path).exit_code == 0
    path = tmp_path / "agent.yaml"
    lines = path.read_text().splitlines()
    brokers = [f"  - mqtt://127.0.0.1:{free_port()}" if line.startswith("  - mqtt") else line for line in lines]
    path.write_text("\n".join(brokers))
    return path


def run(command: str, config: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [command, "--config", str(config), *options])


def test_status_says_that_nothing_runs(config: Path) -> None:
    result = run("status", config)

    assert result.exit_code == 1
    assert "no agent is running" in result.stdout
    assert json.loads(run("status", config, "--json").stdout)["pid"] == 0


def test_status_names_the_agent_that_holds_the_folder(config: Path) -> None:
    store = Store(config.parent / "state", Disk())
    store.open()  # this process is the agent now

    result = run("status", config)

    assert result.exit_code == 0
    assert "the agent runs (process " in result.stdout


def test_a_process_that_has_ended_has_no_beginning() -> None:
    assert started_ms(2**22 + 1) == 0  # above the kernel's largest, proc_sys_kernel(5): pid_max


def test_the_doctor_tells_every_subject_and_ends_with_1(config: Path) -> None:
    Store(config.parent / "state", Disk()).open()

    result = run("doctor", config, "--json")

    subjects = [finding["subject"] for finding in json.loads(result.stdout)]
    assert result.exit_code == 1
    assert [*dict.fromkeys(subjects)][:5] == ["configuration", "runtime", "hardware", "clock", "disk"]
    assert {"memory", "permissions", "broker", "trust", "service"} <= set(subjects)


def test_the_doctor_shows_what_to_do(config: Path) -> None:
    result = run("doctor", config)

    assert "problem  broker: " in result.stdout
    assert "           do: nobody listens on port " in result.stdout
    assert result.stdout.splitlines()[-1].endswith("to be mended")


def test_the_doctor_goes_no_further_without_a_configuration(tmp_path: Path) -> None:
    result = run("doctor", tmp_path / "agent.yaml")

    assert result.exit_code == 1
    assert result.stdout.count("problem  ") == 1


def test_a_kept_blob_is_believed_only_under_its_own_name(tmp_path: Path) -> None:
    blob = BlobRef(sha256="a" * 64, size_bytes=3)
    (tmp_path / "blobs").mkdir()

    assert gathering.kept_blob(tmp_path, blob) is None
    (tmp_path / "blobs" / blob.sha256).write_bytes(b"abc")
    assert gathering.kept_blob(tmp_path, blob) is None


@pytest.mark.parametrize(("content", "answer"), [("cpu memory pids", True), ("cpu pids", False), (None, None)])
def test_the_memory_controller_is_looked_for(tmp_path: Path, content: str | None, answer: bool | None) -> None:
    controllers = tmp_path / "cgroup.controllers"
    if content is not None:
        controllers.write_text(content)

    assert gathering.gather_machine(tmp_path, controllers).has_memory_controller is answer
