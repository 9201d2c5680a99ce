"""What `edgeferry-agent status` tells of a device that a lifecycle has brought somewhere."""

from dataclasses import replace

import msgspec
import pytest

from edgeferry.agent.effects import Try
from edgeferry.agent.state import AgentState, ModelRecord
from edgeferry.agent.status import AgentStatus, status_of
from edgeferry.wire.messages import Event, EventKind, Outcome, Result

from .lifecycle_device import MODEL, Device, problem, target

V1, V2 = target(1), target(2)
DAY_MS = 86_400_000


@pytest.fixture
def device() -> Device:
    """A device on which version 1 is active and no longer watched."""
    device = Device()
    device.boot()
    device.wish(V1)
    device.run()
    device.end_watch()
    return device


def status(state: AgentState | None, *events: Event, pid: int | None = 7) -> AgentStatus:
    return status_of("kitchen", "raspberry-pi-4", state, events, pid=pid, since_ms=0)


def text(found: AgentStatus, now_ms: int = 1_000_000) -> str:
    return "\n".join(found.lines(now_ms))


def test_an_active_model_is_told_with_its_version_its_size_and_since_when(device: Device) -> None:
    found = status(device.state)

    assert found.models[0].active == 1
    assert "kitchen (raspberry-pi-4): the agent runs (process 7)" in text(found)
    assert "serves    version 1 (int8, 1.0 kB), since 1970-01-01 00:16 UTC, just now" in text(found)
    assert "last      version 1 active on 1970-01-01" in text(found)


def test_a_failed_deployment_is_told_with_its_reason_and_what_brings_it_back(device: Device) -> None:
    device.failures[Try] = problem()
    device.wish(V2)
    device.run()

    found = status(device.state)

    assert (found.models[0].active, found.models[0].wanted, found.models[0].is_refused) == (1, 2, True)
    assert "wanted    version 2" in text(found)
    assert "last      version 2 failed on" in text(found)
    assert "SELFTEST_MISMATCH: simulated SELFTEST_MISMATCH" in text(found)
    assert "edgeferry push --retry" in text(found)


def test_since_when_is_taken_from_the_events_when_a_later_deployment_has_failed(device: Device) -> None:
    device.failures[Try] = problem()
    device.wish(V2)
    device.run()
    began = Event(
        v=1,
        seq=1,
        ts=77,
        kind=EventKind.DEPLOYMENT,
        model=MODEL,
        version=1,
        deployment=V1.installed.deployment,
        outcome=Outcome.ACTIVE,
    )
    failed = msgspec.structs.replace(began, seq=2, ts=99, deployment="other", outcome=Outcome.FAILED)

    assert status(device.state, began, failed).models[0].since_ms == 77
    assert status(device.state, failed).models[0].since_ms == 0


def test_a_running_deployment_is_told_with_its_phase_and_what_is_kept(device: Device) -> None:
    device.wish(V2)

    found = status(device.state)

    assert found.models[0].phase == "fetching"
    assert "doing     fetching" in text(found)


def test_the_version_before_is_told(device: Device) -> None:
    device.wish(V2)
    device.run()

    assert "previous  version 1" in text(status(device.state))


def test_a_quarantined_model_says_so(device: Device) -> None:
    record = msgspec.structs.replace(device.state.models[MODEL], quarantined=True)

    assert "quarantined" in text(status(device.state.with_model(MODEL, record)))


def test_a_model_that_is_wished_no_more_and_one_that_never_served_are_told(device: Device) -> None:
    gone = msgspec.structs.replace(device.state.models[MODEL], wanted=0)
    never = ModelRecord(wanted=4, last=Result("", 4, Outcome.FAILED, 0, msgspec.structs.replace(problem(), detail="")))

    found = text(status(AgentState(models={"cats": gone, "dogs": never})))

    assert "wanted    nothing: it will be unloaded" in found
    assert "last" not in text(status(AgentState(models={"new": ModelRecord(wanted=1)})))
    assert "serves    nothing" in found
    assert found.endswith("SELFTEST_MISMATCH")


def test_without_an_agent_what_it_served_is_told_as_past(device: Device) -> None:
    found = status(device.state, pid=0)

    assert not found.is_running
    assert "no agent is running" in text(found)
    assert "served    version 1" in text(found)


def test_an_agent_in_another_container_runs_all_the_same() -> None:
    found = status(AgentState(), pid=None)

    assert found.is_running
    assert text(found).startswith("kitchen (raspberry-pi-4): the agent runs (in another container)")
    assert "no model yet" in text(found)


def test_a_damaged_state_is_told() -> None:
    assert "damaged" in text(status(None))


@pytest.mark.parametrize(
    ("passed_ms", "words"),
    [(3 * DAY_MS, "3 d ago"), (7_200_000, "2 h ago"), (60_000, "1 min ago"), (0, "just now"), (-1, "in the future")],
)
def test_times_are_told_as_a_person_says_them(passed_ms: int, words: str) -> None:
    found = replace(status(AgentState()), since_ms=5 * DAY_MS)

    assert f"since 1970-01-06 00:00 UTC, {words}" in text(found, 5 * DAY_MS + passed_ms)
