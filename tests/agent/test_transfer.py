"""The windowed pull of one blob, against a simulated line with delay, loss and a time that the test sets."""

import hashlib
import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.agent.transfer import MAX_TIMEOUT_S, BlockMap, Pull, Want
from edgeferry.wire.blocks import Block, BlockRequest
from edgeferry.wire.desired import BlobRef

BLOCK = 1024


def blob_of(blocks: int, tail: int = BLOCK) -> bytes:
    return random.Random(blocks).randbytes((blocks - 1) * BLOCK + tail)


def want_of(data: bytes, *, with_digests: bool = True) -> Want:
    digests = b"".join(hashlib.sha256(data[i : i + BLOCK]).digest() for i in range(0, len(data), BLOCK))
    ref = BlobRef(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    return Want(ref, BLOCK, digests if with_digests else b"")


def pull_of(data: bytes, **kwargs: bool) -> Pull:
    want = want_of(data, **kwargs)
    return Pull(want, BlockMap(want.blocks), transfer=7)


def block_of(data: bytes, index: int, transfer: int = 7) -> Block:
    prefix = hashlib.sha256(data).digest()[:8]
    return Block(transfer, prefix, index, data[index * BLOCK : (index + 1) * BLOCK])


def indices(requests: list[BlockRequest]) -> list[int]:
    return [index for request in requests for index in request.indices()]


class Line:
    """An origin behind a line: answers each request after ``delay_s``, loses what ``lost`` says."""

    def __init__(self, data: bytes, *, delay_s: float = 0.1, loss: float = 0.0, seed: int = 0) -> None:
        self.data = data
        self.delay_s = delay_s
        self.loss = loss
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.blocks_sent = 0
        self._arriving: list[tuple[float, int]] = []

    def pull(self, pull: Pull, until_s: float = 1e9) -> bytes:
        received = bytearray(len(self.data))
        while not pull.is_done and self.now_s < until_s:
            for request in pull.requests(self.now_s):
                self._send(request)
            if not self._deliver(pull, received):
                deadline_s = pull.next_deadline_s()
                assert deadline_s is not None, "nothing is asked for and nothing arrives"
                self.now_s = max(self.now_s, deadline_s)
                pull.expire(self.now_s)
        return bytes(received)

    def _send(self, request: BlockRequest) -> None:
        for index in request.indices():
            self.blocks_sent += 1
            if self.random.random() >= self.loss:
                heapq.heappush(self._arriving, (self.now_s + self.delay_s, index))

    def _deliver(self, pull: Pull, received: bytearray) -> bool:
        deadline_s = pull.next_deadline_s()
        if not self._arriving or (deadline_s is not None and self._arriving[0][0] > deadline_s):
            return False
        self.now_s, index = heapq.heappop(self._arriving)
        write = pull.receive(block_of(self.data, index), self.now_s)
        if write:
            received[write.offset : write.offset + len(write.data)] = write.data
        return True


def test_a_blob_arrives_whole() -> None:
    data = blob_of(50, tail=100)

    assert Line(data).pull(pull_of(data)) == data


@given(st.integers(1, 80), st.floats(0, 0.6), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_blob_arrives_whole_whatever_is_lost(blocks: int, loss: float, seed: int) -> None:
    data = blob_of(blocks, tail=1 + seed)

    assert Line(data, loss=loss, seed=seed).pull(pull_of(data)) == data


def test_without_loss_no_block_is_asked_for_twice() -> None:
    data = blob_of(100)
    line = Line(data)

    line.pull(pull_of(data))

    assert line.blocks_sent == 100


def test_the_window_starts_at_four_blocks() -> None:
    assert indices(pull_of(blob_of(50)).requests(0.0)) == [0, 1, 2, 3]


def test_the_window_doubles_with_each_round_trip_up_to_sixteen() -> None:
    data = blob_of(400)
    pull = pull_of(data)
    line = Line(data)

    line.pull(pull, until_s=0.15)
    assert 8 <= pull._window <= 9
    line.pull(pull, until_s=0.45)

    assert int(pull._window) == 16


def test_after_a_loss_the_window_grows_by_one_per_round_trip() -> None:
    data = blob_of(400)
    pull = pull_of(data)
    Line(data).pull(pull, until_s=0.5)
    pull.expire(100.0)
    halved = pull._window
    asked = indices(pull.requests(100.0))

    pull.receive(block_of(data, asked[0]), 100.1)

    assert pull._window == halved + 1 / halved


def test_a_loss_halves_the_window_once_per_round_trip() -> None:
    data = blob_of(400)
    pull = pull_of(data)
    Line(data).pull(pull, until_s=2.0)
    before = pull._window

    pull.expire(100.0)
    pull.requests(100.0)
    pull.expire(100.01)

    assert pull._window == before / 2


def test_nothing_is_asked_until_half_of_the_window_is_free() -> None:
    data = blob_of(50)
    pull = pull_of(data)
    pull.requests(0.0)

    pull.receive(block_of(data, 0), 0.1)  # the window is 5 now, and 2 of it are free

    assert pull.requests(0.1) == []
    pull.receive(block_of(data, 1), 0.1)
    assert indices(pull.requests(0.1)) == [4, 5, 6, 7]


def test_what_is_here_already_is_not_asked_for() -> None:
    data = blob_of(6)
    want = want_of(data)
    have = BlockMap(6, bytes([0b10110000]))

    pull = Pull(want, have, 7)

    assert have.count == 3
    assert indices(pull.requests(0.0)) == [1, 4, 5]


def test_gaps_are_asked_for_with_a_bitmap() -> None:
    pull = Pull(want_of(blob_of(6)), BlockMap(6, bytes([0b10110000])), 7)

    (request,) = pull.requests(0.0)

    assert (request.first, request.count, request.indices()) == (1, 5, [1, 4, 5])


def test_indices_too_far_apart_go_into_several_requests() -> None:
    bits = bytearray(b"\xff" * 25)
    bits[0] ^= 0x80
    bits[24] ^= 0x01
    pull = Pull(want_of(blob_of(200)), BlockMap(200, bytes(bits)), 7)

    assert [request.first for request in pull.requests(0.0)] == [0, 199]


def test_what_was_lost_is_asked_for_again_and_says_so() -> None:
    pull = pull_of(blob_of(3))
    pull.requests(0.0)

    assert not pull.expire(0.5)
    assert pull.expire(1.0)
    again = pull.requests(1.0)

    assert [request.again for request in again] == [True]


def test_a_lost_block_that_comes_late_is_not_asked_for_again() -> None:
    data = blob_of(3)
    pull = pull_of(data)
    pull.requests(0.0)
    pull.expire(1.0)

    for index in range(3):
        pull.receive(block_of(data, index), 1.1)

    assert pull.requests(1.1) == []
    assert pull.is_done


def test_a_time_out_follows_the_round_trip() -> None:
    data = blob_of(400)
    pull = pull_of(data)

    Line(data, delay_s=2.0).pull(pull, until_s=40.0)

    assert pull._timeout_s >= 2.0


def test_a_time_out_doubles_up_to_its_limit_while_nobody_answers() -> None:
    pull = pull_of(blob_of(1))
    now_s = 0.0
    for _ in range(12):
        pull.requests(now_s)
        deadline_s = pull.next_deadline_s()
        assert deadline_s is not None
        waited_s, now_s = deadline_s - now_s, deadline_s
        pull.expire(now_s)

    assert waited_s == MAX_TIMEOUT_S


def test_a_block_asked_for_twice_gives_no_sample_of_the_round_trip() -> None:
    data = blob_of(1)
    pull = pull_of(data)
    pull.requests(0.0)
    pull.expire(1.0)
    pull.requests(1.0)

    pull.receive(block_of(data, 0), 1.001)

    assert pull._smoothed_s is None


def test_nobody_answering_is_noticed_and_only_one_block_is_asked_for() -> None:
    pull = pull_of(blob_of(50))
    pull.requests(0.0)
    pull.expire(1.0)
    pull.requests(1.0)
    assert not pull.is_waiting
    pull.expire(10.0)

    assert pull.is_waiting
    assert len(indices(pull.requests(10.0))) == 1


def test_a_nudge_asks_for_everything_at_once_again() -> None:
    pull = pull_of(blob_of(50))
    for now_s in (0.0, 10.0, 20.0):
        pull.requests(now_s)
        pull.expire(now_s + 9)
    pull.requests(30.0)

    pull.nudge()

    assert not pull.is_waiting
    assert indices(pull.requests(30.0)) == [0]
    assert pull.next_deadline_s() == 31.0


def test_nothing_expires_when_nothing_is_asked_for() -> None:
    pull = pull_of(blob_of(1))

    assert pull.next_deadline_s() is None
    assert not pull.expire(100.0)


def test_done_bytes_never_exceed_the_blob() -> None:
    data = blob_of(2, tail=10)
    pull = pull_of(data)
    Line(data).pull(pull)

    assert pull.done_bytes == len(data)


class TestBadBlocks:
    data = blob_of(3, tail=10)

    @pytest.fixture
    def pull(self) -> Pull:
        pull = pull_of(self.data)
        pull.requests(0.0)
        return pull

    def test_a_duplicate_is_dropped(self, pull: Pull) -> None:
        assert pull.receive(block_of(self.data, 0), 0.1) is not None

        assert pull.receive(block_of(self.data, 0), 0.1) is None
        assert pull.rejected == 0

    def test_a_block_of_another_transfer_is_dropped(self, pull: Pull) -> None:
        assert pull.receive(block_of(self.data, 0, transfer=8), 0.1) is None

    def test_a_block_of_another_blob_is_dropped(self, pull: Pull) -> None:
        assert pull.receive(Block(7, b"8 bytes.", 0, self.data[:BLOCK]), 0.1) is None

    def test_a_block_beyond_the_end_is_dropped(self, pull: Pull) -> None:
        assert pull.receive(Block(7, block_of(self.data, 0).sha256_prefix, 3, b""), 0.1) is None

    def test_a_block_of_a_wrong_length_is_rejected(self, pull: Pull) -> None:
        assert pull.receive(Block(7, block_of(self.data, 0).sha256_prefix, 2, self.data[:BLOCK]), 0.1) is None
        assert pull.rejected == 1

    def test_a_block_with_wrong_bytes_is_rejected_before_it_is_written(self, pull: Pull) -> None:
        altered = bytes([self.data[0] ^ 1]) + self.data[1:BLOCK]

        assert pull.receive(Block(7, block_of(self.data, 0).sha256_prefix, 0, altered), 0.1) is None
        assert pull.rejected == 1
        assert not pull.have.has(0)

    def test_a_block_that_nobody_asked_for_is_welcome_when_it_is_right(self) -> None:
        pull = pull_of(self.data)

        assert pull.receive(block_of(self.data, 1), 0.1) is not None

    def test_without_hashes_of_blocks_the_length_alone_counts(self) -> None:
        pull = pull_of(self.data, with_digests=False)

        assert pull.receive(Block(7, block_of(self.data, 0).sha256_prefix, 0, bytes(BLOCK)), 0.1) is not None


def test_a_block_map_survives_its_bytes() -> None:
    have = BlockMap(11)
    for index in (0, 3, 10, 10):
        have.add(index)

    again = BlockMap(11, have.to_bytes())

    assert [index for index in range(11) if again.has(index)] == [0, 3, 10]
    assert have.count == again.count == 3
