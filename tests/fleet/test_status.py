"""Why wanted and running differ, in a sentence."""

import pytest
from tests.fleet.reports import DEPLOYMENT, PROBLEM, ended, heard, running, state, view

from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.status import ModelStatus, status_of
from edgeferry.wire.desired import Wish
from edgeferry.wire.messages import ModelState, Outcome, State, TransferState


def status(fleet: FleetView, *, wanted: int = 2) -> ModelStatus:
    wishes = {"digits": Wish(versions=(wanted,), labels={"stable": wanted})} if wanted else {}
    return status_of("digits", "p", wishes, fleet.get("pi"), generation=5, now=0.0)


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
