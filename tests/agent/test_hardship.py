"""A device that is offline for long, or whose clock is years off or jumps."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeferry.agent.state import AgentState, Phase
from edgeferry.wire.messages import Event, EventKind

from .disk_faults import FaultyDisk
from .simulated import MODEL, Fleet, SimulatedAgent
from .stories import Story, check_is_well, rollback, update

QUEUED = 10_000
YEAR_2100_NS = 4_102_444_800 * 10**9


def test_ten_thousand_events_of_an_offline_time_arrive_in_order_and_once(memory_path: Path) -> None:
    agent = SimulatedAgent(memory_path, Fleet(), disk=FaultyDisk())
    agent.spool.append(tuple(Event(v=1, seq=seq, ts=seq, kind=EventKind.SERVING_CRASHED) for seq in range(1, QUEUED)))
    agent.store.save_state(AgentState(next_seq=QUEUED))
    agent.disk.end_of_life()

    again = SimulatedAgent(memory_path, Fleet(), disk=FaultyDisk())
    again.run()

    numbers = [event.seq for event in again.events()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > QUEUED
    assert again.spool.acknowledged_seq >= QUEUED  # the end of the agent comes after its last look


@pytest.mark.parametrize("clock_ns", [0, YEAR_2100_NS], ids=["1970", "2100"])
@pytest.mark.parametrize("tell", [update, rollback], ids=lambda tell: tell.__name__)
def test_with_a_clock_that_is_years_off_a_device_follows_and_goes_back(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[[Path], Story], clock_ns: int
) -> None:
    story = tell(memory_path)
    began_s = time.monotonic()
    monkeypatch.setattr(time, "time_ns", lambda: clock_ns + int((time.monotonic() - began_s) * 1e9))

    agent = story.live(story.home, FaultyDisk())

    assert agent is not None
    check_is_well(story.home, story, agent)


@pytest.mark.parametrize("seed", range(5))
def test_with_a_clock_that_jumps_at_every_look_a_device_follows(
    memory_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    story, chance = update(memory_path), random.Random(seed)
    monkeypatch.setattr(time, "time_ns", lambda: chance.randrange(YEAR_2100_NS))

    agent = story.live(story.home, FaultyDisk())

    assert agent is not None
    check_is_well(story.home, story, agent)
    deployment = agent.state.models[MODEL].deployment
    assert deployment is None or deployment.phase is Phase.WATCHING
