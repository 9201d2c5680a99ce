"""Worker threads."""

import threading
from collections.abc import Iterator

import pytest

from edgeferry.agent.errors import StoreError
from edgeferry.agent.inbox import Done, Inbox
from edgeferry.agent.lanes import CAPACITY, Lane, LaneCrashedError

from .waiting import wait_until


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def lane(inbox: Inbox) -> Iterator[Lane]:
    lane = Lane("deploy", inbox)
    lane.start()
    yield lane
    lane.stop(10.0)
    assert not lane.is_alive


def test_results_come_in_the_order_of_the_jobs(lane: Lane, inbox: Inbox) -> None:
    for number in range(1, 4):
        lane.submit(lambda number=number: number)  # type: ignore[misc]  # mypy infers no default of a lambda

    assert [inbox.take(10.0) for _ in range(3)] == [Done("deploy", number) for number in range(1, 4)]


def test_a_job_without_a_result_has_nothing_to_tell(lane: Lane, inbox: Inbox) -> None:
    lane.submit(lambda: None)
    lane.submit(lambda: "told")

    assert inbox.take(10.0) == Done("deploy", "told")


def test_an_error_of_ours_is_a_result(lane: Lane, inbox: Inbox) -> None:
    error = StoreError("the disk is full")

    def job() -> None:
        raise error

    lane.submit(job)

    assert inbox.take(10.0) == Done("deploy", error)


def test_an_unforeseen_error_is_told_and_the_lane_lives_on(lane: Lane, inbox: Inbox) -> None:
    lane.submit(lambda: 1 // 0)
    lane.submit(lambda: "alive")

    crashed = inbox.take(10.0)
    assert isinstance(crashed, Done)
    assert isinstance(crashed.value, LaneCrashedError)
    assert "worker deploy: ZeroDivisionError" in str(crashed.value)
    assert inbox.take(10.0) == Done("deploy", "alive")


class TestBusy:
    @pytest.fixture
    def gate(self, lane: Lane) -> Iterator[threading.Event]:
        """Keep the lane at its first job until the gate is opened."""
        gate, begun = threading.Event(), threading.Event()

        def job() -> None:
            begun.set()
            gate.wait(30)

        lane.submit(job)
        assert begun.wait(10)
        yield gate
        gate.set()

    def test_it_is_busy_while_jobs_wait(self, lane: Lane, gate: threading.Event) -> None:
        assert not lane.is_busy()
        lane.submit(lambda: None)
        assert lane.is_busy()

        gate.set()

        wait_until(lambda: not lane.is_busy(), "the lane to have done its jobs")

    def test_a_lane_that_is_far_behind_is_an_error(self, lane: Lane, gate: threading.Event) -> None:
        for _ in range(CAPACITY):
            lane.submit(lambda: None)

        with pytest.raises(LaneCrashedError, match=f"worker deploy is {CAPACITY} jobs behind"):
            lane.submit(lambda: None)
        gate.set()
        wait_until(lambda: not lane.is_busy(), "the lane to have done its jobs")

    def test_one_that_cannot_be_told_to_stop_is_left_behind_in_time(
        self, lane: Lane, gate: threading.Event, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(CAPACITY):
            lane.submit(lambda: None)

        lane.stop(0.01)

        assert "worker deploy ends with jobs undone" in caplog.text
        gate.set()
        wait_until(lambda: not lane.is_busy(), "the lane to have done its jobs")
