"""kill -9 of every process in each phase of a push: afterwards everything converges without anybody's help."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.models import artifact_folder
from tests.system.harness import Agent, System, wait_until

pytestmark = pytest.mark.broker

PHASES = ["fetching", "verifying", "trying", "activating", "watching"]
FEATURES = 200_000  # times ten classes: a model of 2 MB, so that fetching takes its time


def kill_agent(_fleet: System, agent: Agent) -> None:
    agent.kill()
    agent.start()


def kill_serving(_fleet: System, agent: Agent) -> None:
    serving = agent.serving_pid()
    if serving is not None:
        with suppress(ProcessLookupError):
            os.kill(serving, signal.SIGKILL)


def kill_broker(fleet: System, _agent: Agent) -> None:
    os.kill(fleet.broker.pid, signal.SIGKILL)
    fleet.broker.stop()
    fleet.broker.start()


KILLS: dict[str, Callable[[System, Agent], None]] = {
    "agent": kill_agent,
    "serving": kill_serving,
    "broker": kill_broker,
}


def version_folder(fleet: System, version: int) -> Path:
    return artifact_folder(fleet.folder / "build", version=version, features=FEATURES).parent


def synced_blocks(agent: Agent) -> int:
    """Return how many blocks of the blob that has the most were noted as synced."""
    maps = (path.read_bytes()[8:] for path in (agent.state_dir / "partial").glob("*.map"))
    return max((sum(byte.bit_count() for byte in bits) for bits in maps), default=0)


@pytest.fixture
def running(fleet: System) -> tuple[System, Agent]:
    """A device on which version 1 is active, and an origin that is always there."""
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(version_folder(fleet, 1)))
    return fleet, agent


@pytest.mark.parametrize("victim", list(KILLS))
def test_killed_in_any_phase_of_a_push_it_converges(running: tuple[System, Agent], victim: str) -> None:
    fleet, agent = running

    for version, phase in enumerate(PHASES, start=2):
        seen = len(agent.lines_of(f"-> {phase}"))
        fleet.start("push", str(version_folder(fleet, version)), "--timeout", "60")

        agent.wait_for_line(f"-> {phase}", times=seen + 1)
        KILLS[victim](fleet, agent)

        fleet.wait_for_version("pi", version)


@pytest.mark.parametrize("phase", ["fetching", "trying"])
def test_a_killed_push_is_finished_by_another_origin(running: tuple[System, Agent], phase: str) -> None:
    fleet, agent = running
    seen = len(agent.lines_of(f"-> {phase}"))
    pushing = fleet.start("push", str(version_folder(fleet, 2)), "--timeout", "60")

    agent.wait_for_line(f"-> {phase}", times=seen + 1)
    pushing.kill()
    fleet.start("origin")

    fleet.wait_for_version("pi", 2)


def test_a_transfer_goes_on_where_it_was_after_a_kill(running: tuple[System, Agent]) -> None:
    fleet, agent = running
    fleet.start("push", str(artifact_folder(fleet.folder / "build", version=2, features=4_000_000).parent))
    wait_until(lambda: synced_blocks(agent) >= 16, "the first synced MiB of the model")
    agent.kill()
    synced = synced_blocks(agent)
    agent.start()

    fleet.wait_for_version("pi", 2)
    origin_log = (fleet.folder / "background.log").read_text()
    assert 16 <= synced < 4_000_000 * 10 // 65536, origin_log
