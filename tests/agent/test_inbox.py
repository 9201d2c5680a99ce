"""The queue between the threads that hear things and the one that decides."""

import signal
import threading
from types import FrameType

import pytest

from edgeferry.agent.inbox import Acknowledged, Inbox, Received, Stop

MESSAGE = Received("topic", b"payload")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(capacity=2, patience_s=0.01)


def test_items_come_out_in_order(inbox: Inbox) -> None:
    inbox.put(MESSAGE)
    inbox.put(Stop())

    assert [inbox.take(1.0), inbox.take(1.0)] == [MESSAGE, Stop()]


@pytest.mark.parametrize("timeout_s", [0.01, 0.0, -1.0])
def test_an_empty_one_gives_nothing_in_time(inbox: Inbox, timeout_s: float) -> None:
    assert inbox.take(timeout_s) is None


def test_messages_beyond_its_capacity_are_dropped_counted_and_logged(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        inbox.put(MESSAGE)

    assert inbox.dropped == 1
    assert "dropped a message on topic" in caplog.text


def test_a_message_that_was_taken_makes_room(inbox: Inbox) -> None:
    for _ in range(20):
        inbox.put(MESSAGE)
        inbox.take(0.0)

    assert inbox.dropped == 0


def test_a_message_waits_for_room() -> None:
    inbox = Inbox(capacity=1, patience_s=30.0)
    inbox.put(MESSAGE)
    putting = threading.Thread(target=inbox.put, args=(MESSAGE,))
    putting.start()

    taken = [inbox.take(10.0), inbox.take(10.0)]
    putting.join(10.0)

    assert taken == [MESSAGE, MESSAGE]
    assert inbox.dropped == 0


def test_what_is_no_message_is_never_dropped(inbox: Inbox) -> None:
    for _ in range(2):
        inbox.put(MESSAGE)

    for number in range(5000):
        inbox.put(Acknowledged(number))

    assert inbox.dropped == 0
    assert inbox.take(0.0) == MESSAGE


def test_a_signal_handler_may_put_while_its_own_thread_puts_and_takes() -> None:
    """With a queue.Queue this ends in a deadlock within a second: its lock is not reentrant."""
    inbox = Inbox()
    handled = 0

    def put(_number: int, _frame: FrameType | None) -> None:
        nonlocal handled
        handled += 1
        inbox.put(Stop())

    before = signal.signal(signal.SIGALRM, put)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while handled < 300:
            inbox.put(Acknowledged(1))
            inbox.take(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert inbox.dropped == 0
