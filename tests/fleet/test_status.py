"""Why wanted and running differ, in a sentence."""

import msgspec
import pytest
from tests.fleet.reports import DEPLOYMENT, PROBLEM, ended, heard, running, state, view

from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.status import ModelStatus, statuses_of
from edgeferry.wire.desired import Wish
from edgeferry.wire.messages import LabelState, LabelTelemetry, ModelState, Outcome, State, Swap, TransferState


def status(fleet: FleetView, *, wanted: int = 2) -> ModelStatus:
    wishes = {"digits": Wish(versions=(wanted,), labels={"stable": wanted})} if wanted else {}
    (found,) = statuses_of("digits", "p", wishes, fleet.get("pi"), generation=5, now=0.0)
    return found


def failed(outcome: Outcome, **more: object) -> ModelState:
    return running(1, wanted=2, deployment=DEPLOYMENT, last=ended(2, outcome, **more))  # type: ignore[arg-type]  # of `ended`


def test_a_device_that_runs_what_is_wanted_agrees_without_a_word() -> None:
    found = status(heard(state(running(2))))

    assert (found.agrees, found.wanted, found.running, found.scheme, found.why) == (True, 2, 2, "int8", "")


def test_a_model_that_nobody_wants_and_nobody_runs_agrees() -> None:
    assert status(heard(state()), wanted=0).agrees


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        (view(), "never heard from"),
        (heard(state(running(2, quarantined=True))), "quarantined"),
        (heard(state(failed(Outcome.FAILED))), "failed: SELFTEST_MISMATCH: 4 of 8 differ; `push --retry`"),
        (heard(state(failed(Outcome.ROLLED_BACK))), "rolled back: SELFTEST_MISMATCH"),
        (heard(state(failed(Outcome.FAILED, problem=None))), "failed without a reason"),
        (heard(state(running(1)), online=False), "offline; it takes the wish when it is back"),
        (heard(state(running(1), metadata=PROBLEM)), "refuses the metadata: SELFTEST_MISMATCH"),
        (heard(state(running(1), generation=4)), "has not seen generation 5 yet, is at 4"),
        (heard(state(running(1, phase="trying"))), "trying"),
        (heard(state(running(1), waiting=PROBLEM)), "waits: SELFTEST_MISMATCH"),
        (heard(state()), "has not begun"),
    ],
)
def test_the_reason_for_a_difference_is_told(fleet: FleetView, why: str) -> None:
    found = status(fleet)

    assert not found.agrees
    assert found.why.startswith(why)


def test_a_transfer_is_told_with_its_share() -> None:
    transfer = TransferState(sha256="a" * 64, done_bytes=500_000, total_bytes=2_000_000)
    fetching: State = state(running(1, phase="fetching", transfer=transfer))

    assert status(heard(fetching)).why == "fetching, 25% of 2.0 MB"


def test_the_failure_of_an_earlier_deployment_is_not_the_reason() -> None:
    retried = running(1, wanted=2, phase="trying", deployment="f" * 64, last=ended(2, Outcome.FAILED))

    assert status(heard(state(retried))).why == "trying"


FIGURES = LabelTelemetry(version=2, rps=1.0, total=200, errors_total=5, p50_ms=3.0, p95_ms=4.5)


def labelled(fleet: FleetView, **labels: int) -> dict[str, ModelStatus]:
    wishes = {"digits": Wish(versions=tuple(labels.values()), labels=labels)} if labels else {}
    found = statuses_of("digits", "p", wishes, fleet.get("pi"), generation=5, now=0.0)
    return {one.label: one for one in found}


def test_a_canary_has_a_status_of_its_own_with_its_share_and_figures() -> None:
    canary = LabelState(wanted=2, phase="idle", percent=10, figures=FIGURES)
    model = running(1, labels={"stable": 1, "canary": 2}, others={"canary": canary})

    found = labelled(heard(state(model)), stable=1, canary=2)

    assert list(found) == ["stable", "canary"]
    assert (found["canary"].agrees, found["canary"].running, found["canary"].percent) == (True, 2, 10)
    assert found["canary"].error_share == 0.025
    assert found["stable"].error_share is None


def test_a_canary_that_failed_says_why_and_the_stable_version_agrees() -> None:
    canary = LabelState(wanted=2, phase="idle", deployment=DEPLOYMENT, last=ended(2, Outcome.FAILED))

    found = labelled(heard(state(running(1, others={"canary": canary}))), stable=1, canary=2)

    assert found["stable"].agrees
    assert found["canary"].why.startswith("failed: SELFTEST_MISMATCH")


def test_a_canary_that_a_device_has_not_heard_of_yet_is_told() -> None:
    found = labelled(heard(state(running(1), generation=4)), stable=1, canary=2)

    assert found["canary"].why == "has not seen generation 5 yet, is at 4"


def test_a_canary_that_nobody_wants_any_more_is_told_until_it_is_gone() -> None:
    canary = LabelState(wanted=0, phase="idle")
    model = running(2, labels={"stable": 1, "canary": 2}, others={"canary": canary})

    assert not labelled(heard(state(model)), stable=2)["canary"].agrees


def test_that_nobody_answered_while_versions_changed_is_told() -> None:
    last = msgspec.structs.replace(ended(2, Outcome.ACTIVE, problem=None), swap=Swap.STOP_FIRST, gap_ms=1240)

    found = status(heard(state(running(2, last=last))))

    assert found.agrees
    assert found.why == "the version before was stopped first; nobody answered for 1.2 s"
