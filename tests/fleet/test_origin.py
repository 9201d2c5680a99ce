"""Who gets the next block, how fast, and what an origin answers: decided without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.fleet.origin import (
    MAX_BLOCKS_PER_DEVICE,
    MAX_DEVICES,
    BlockQueue,
    QueuedBlock,
    TokenBucket,
    frame_of,
    is_for,
)
from edgeferry.wire.blocks import Block, BlockRequest

SHA256 = "ab" * 32


def request(first: int = 0, count: int = 1, *, origin: str = "", again: bool = False) -> BlockRequest:
    return BlockRequest(
        v=1, transfer=5, sha256=SHA256, block_bytes=1024, first=first, count=count, origin=origin, again=again
    )


def test_an_origin_answers_what_names_it_or_nobody_or_is_asked_again() -> None:
    assert is_for(request(), "me")
    assert is_for(request(origin="me"), "me")
    assert is_for(request(origin="other", again=True), "me")
    assert not is_for(request(origin="other"), "me")


def test_devices_get_a_block_each_in_turn() -> None:
    queue = BlockQueue()
    queue.put("greedy", request(0, 3))
    queue.put("late", request(0, 2))

    turns = [block.device for block in iter(queue.take, None)]

    assert turns == ["greedy", "late", "greedy", "late", "greedy"]
    assert not queue


def test_what_is_queued_already_is_not_queued_twice() -> None:
    queue = BlockQueue()

    queue.put("pi", request(0, 4))
    refused = queue.put("pi", request(2, 4, again=True))

    assert refused == 0
    assert len(queue) == 6


def test_a_block_that_was_taken_can_be_asked_for_again() -> None:
    queue = BlockQueue()
    queue.put("pi", request(0))
    queue.take()

    queue.put("pi", request(0, again=True))

    assert len(queue) == 1


def test_a_device_that_asks_for_too_much_is_cut_off_alone() -> None:
    queue = BlockQueue()

    refused = queue.put("greedy", request(0, 64)) + queue.put("greedy", request(64, 10))
    queue.put("modest", request(0, 1))

    assert refused == 74 - MAX_BLOCKS_PER_DEVICE
    assert len(queue) == MAX_BLOCKS_PER_DEVICE + 1


def test_more_devices_than_there_can_be_are_refused() -> None:
    queue = BlockQueue()
    for number in range(MAX_DEVICES):
        queue.put(f"pi-{number}", request())

    assert queue.put("one-too-many", request(0, 2)) == 2


def test_forgetting_empties_the_queue() -> None:
    queue = BlockQueue()
    queue.put("pi", request(0, 5))

    queue.forget()

    assert queue.take() is None


def test_a_frame_carries_its_block() -> None:
    blob = bytes(range(256)) * 10
    block = QueuedBlock("pi", 5, SHA256, 1024, 2)

    frame = frame_of(block, lambda _sha256, offset, size: blob[offset : offset + size])

    assert frame is not None
    received = Block.from_bytes(frame)
    assert (received.transfer, received.sha256_prefix.hex(), received.index) == (5, SHA256[:16], 2)
    assert bytes(received.data) == blob[2048:]


@pytest.mark.parametrize("data", [None, b""])
def test_a_blob_that_is_not_here_or_ends_before_the_block_has_no_frame(data: bytes | None) -> None:
    assert frame_of(QueuedBlock("pi", 5, SHA256, 1024, 2), lambda *_: data) is None


def test_without_a_rate_nothing_waits() -> None:
    assert TokenBucket(0.0, 1000.0).delay_s(10**9, 0.0) == 0.0


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    bucket = TokenBucket(100.0, 200.0)

    delays = [bucket.delay_s(100, 0.0) for _ in range(4)]

    assert delays == [0.0, 0.0, 1.0, 2.0]


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = TokenBucket(100.0, 100.0)
    bucket.delay_s(100, 10.0)

    assert bucket.delay_s(100, 5.0) == 1.0


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=50))
def test_the_rate_holds_over_any_sequence_of_sizes(sizes: list[int]) -> None:
    bucket = TokenBucket(1000.0, 2000.0)
    now_s = 0.0
    for size in sizes:
        now_s += bucket.delay_s(size, now_s)

    assert now_s >= (sum(sizes) - 2000.0) / 1000.0 - 1e-6
