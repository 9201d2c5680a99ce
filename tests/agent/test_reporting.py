"""What the agent says of itself, made from what it remembers."""

import pytest

from edgeferry.agent.reporting import Standing, state_message
from edgeferry.agent.state import AgentState, Phase
from edgeferry.wire.messages import ModelState, Outcome, Reason, State, TransferState

from .lifecycle_device import MODEL, WATCH_S, Device, problem, target

V1, V2 = target(1), target(2)
TRANSFER = TransferState(sha256=V2.installed.model.sha256, done_bytes=5, total_bytes=10)


@pytest.fixture
def device() -> Device:
    """A device on which version 1 is active and no longer watched."""
    device = Device()
    device.boot()
    device.wish(V1)
    device.run()
    device.end_watch()
    return device


def message(state: AgentState, standing: Standing | None = None) -> State:
    transfers = {V2.installed.deployment: TRANSFER}
    return state_message(state, standing or Standing(), boot="cafe", now_ms=7, transfer_of=transfers.get, figures={})


def reported(device: Device) -> ModelState:
    return message(device.state).models[MODEL]


def test_a_device_without_models_reports_its_standing() -> None:
    standing = Standing(
        generation=3,
        root_version=2,
        metadata_expires_ms=99,
        metadata=problem(Reason.METADATA_EXPIRED),
        waiting=problem(Reason.WAITING_FOR_ORIGIN),
        serving="running",
    )

    assert message(AgentState(), standing) == State(
        v=1,
        ts=7,
        boot="cafe",
        generation=3,
        root_version=2,
        metadata_expires_ms=99,
        metadata=problem(Reason.METADATA_EXPIRED),
        waiting=problem(Reason.WAITING_FOR_ORIGIN),
        serving="running",
    )


def test_an_active_model_is_idle_and_names_its_version_and_scheme(device: Device) -> None:
    model = reported(device)

    assert (model.wanted, model.phase, model.labels, model.scheme) == (1, "idle", {"stable": 1}, "int8")
    assert model.deployment == V1.installed.deployment


def test_a_model_that_never_became_active_has_no_label(device: Device) -> None:
    device.wish(V1, target(1, "dogs"))

    model = message(device.state).models["dogs"]

    assert (model.labels, model.scheme, model.previous) == ({}, "", 0)


def test_a_model_that_cannot_be_had_has_no_deployment() -> None:
    device = Device()
    device.wish(refusals={MODEL: (4, problem(Reason.NO_ARTIFACT_FOR_PROFILE))})

    assert (reported(device).deployment, reported(device).wanted) == ("", 4)


def test_a_model_of_which_nothing_has_ended_and_nothing_runs_has_no_deployment(device: Device) -> None:
    device.wish(V1, target(1, "ants"), target(1, "bees"))

    assert message(device.state).models["bees"].deployment == ""


def test_progress_is_reported_while_fetching(device: Device) -> None:
    device.wish(V2)

    assert (reported(device).phase, reported(device).transfer) == (Phase.FETCHING, TRANSFER)


def test_no_progress_is_reported_in_other_phases(device: Device) -> None:
    device.wish(V2)
    device.run_until(Phase.TRYING)

    assert reported(device).transfer is None


def test_a_watched_model_says_until_when_and_what_was_before(device: Device) -> None:
    device.wish(V2)
    device.run()

    model = reported(device)

    assert (model.phase, model.watched_until_ms) == (Phase.WATCHING, device.now_ms + WATCH_S * 1000)
    assert (model.labels, model.previous) == ({"stable": 2}, 1)


def test_a_rollback_is_not_watched(device: Device) -> None:
    device.wish(V2)
    device.run()
    device.fault(proven=True)

    assert (reported(device).phase, reported(device).watched_until_ms) == (Phase.ROLLING_BACK, 0)


def test_how_the_last_deployment_ended_is_reported_with_its_reason(device: Device) -> None:
    device.wish(V2)
    device.run()
    device.fault(proven=True)
    device.run()

    last = reported(device).last

    assert last is not None
    assert (last.version, last.outcome, last.problem) == (2, Outcome.ROLLED_BACK, problem(Reason.SERVING_CRASHED))


def test_a_quarantine_is_reported(device: Device) -> None:
    for _ in range(3):
        device.fault(proven=True)

    assert reported(device).quarantined
