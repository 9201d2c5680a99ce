"""Batches of blobs, from a simulated origin onto a real disk."""

import errno
from pathlib import Path

import pytest

from edgeferry.agent.errors import BlobMismatchError, DiskFullError, StoreError
from edgeferry.agent.fetching import MAX_MISMATCHES, MAX_ORIGINS, Batch, BatchDone, BatchFailed, Fetcher, problem_of
from edgeferry.agent.fsops import Usage
from edgeferry.agent.store import Store
from edgeferry.agent.transfer import Want
from edgeferry.wire.blocks import Block, BlockRequest
from edgeferry.wire.codec import encode
from edgeferry.wire.messages import Code, Problem, Reason

from .disk_faults import Fault, FaultyDisk
from .simulated import ORIGIN, Fleet, ref_of
from .test_store import BLOCK, want_of

DATA = bytes(range(256)) * 40  # 10 blocks
OTHER = DATA[::-1]


class Line:
    """A fetcher, and the origins that answer it when the test lets them."""

    def __init__(self, directory: Path, disk: FaultyDisk | None = None) -> None:
        self.fleet = Fleet()
        self.store = Store(directory, disk or FaultyDisk())
        self.store.open()
        self.asked: list[BlockRequest] = []
        self.ended: list[BatchDone | BatchFailed] = []
        self.now_s = 0.0
        self.fetcher = Fetcher(self.store, self.asked.append, self.ended.append)

    def connect(self, *origins: str) -> None:
        self.fetcher.set_connected(connected=True, now_s=self.now_s)
        for origin in origins or (ORIGIN,):
            self.fetcher.note_origin(origin, is_online=True, now_s=self.now_s)

    def want(self, owner: str, *data: bytes, urgent: bool = False, with_digests: bool = True) -> Batch:
        for blob in data:
            self.fleet.add(blob)
        batch = Batch(owner, tuple(want_of(blob, with_digests=with_digests) for blob in data), urgent)
        self.fetcher.add(batch, self.now_s)
        return batch

    def answer(self, requests: int = 1 << 30) -> None:
        """Have the origin answer until nothing is asked for, or so many requests."""
        while self.asked and requests:
            requests -= 1
            for frame in self.fleet.frames(encode(self.asked.pop(0))):
                self.fetcher.receive(frame, self.now_s)

    def lose_all(self) -> None:
        """Let time pass until everything that was asked for is asked for again."""
        deadline_s = self.fetcher.next_deadline_s()
        while deadline_s is not None and not self.asked:
            self.now_s = deadline_s
            self.fetcher.tick(self.now_s)
            deadline_s = self.fetcher.next_deadline_s()

    def lose(self) -> None:
        """Lose what was asked for, and let time pass until that is noticed."""
        self.asked.clear()
        deadline_s = self.fetcher.next_deadline_s()
        assert deadline_s is not None
        self.now_s = deadline_s
        self.fetcher.tick(self.now_s)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path / "device")


@pytest.fixture
def connected(line: Line) -> Line:
    line.connect()
    return line


class TestBatches:
    def test_a_batch_is_done_when_every_blob_is_here(self, connected: Line) -> None:
        batch = connected.want("model", DATA, OTHER)

        connected.answer()

        assert connected.ended == [BatchDone("model")]
        assert all(connected.store.is_complete(want) for want in batch.wants)
        assert connected.fetcher.is_idle

    def test_what_is_here_already_is_not_fetched(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.answer()
        sent = connected.fleet.blocks_sent

        connected.want("again", DATA)

        assert connected.ended[-1] == BatchDone("again")
        assert connected.fleet.blocks_sent == sent

    def test_an_empty_blob_needs_no_origin(self, line: Line) -> None:
        line.want("model", b"")

        assert line.ended == [BatchDone("model")]
        assert line.store.read_blob(ref_of(b"")) == b""

    def test_an_empty_batch_is_done_at_once(self, line: Line) -> None:
        line.want("nothing")

        assert line.ended == [BatchDone("nothing")]

    def test_blobs_are_fetched_one_at_a_time(self, connected: Line) -> None:
        connected.want("model", DATA, OTHER)

        assert {request.sha256 for request in connected.asked} == {ref_of(DATA).sha256}

    def test_the_next_blob_begins_while_the_last_blocks_of_one_are_on_their_way(self, connected: Line) -> None:
        connected.want("model", DATA, OTHER)
        while {request.sha256 for request in connected.asked} == {ref_of(DATA).sha256}:
            connected.answer(requests=1)

        assert not connected.store.is_complete(want_of(DATA))
        assert {request.sha256 for request in connected.asked} == {ref_of(DATA).sha256, ref_of(OTHER).sha256}
        connected.answer()
        assert connected.ended == [BatchDone("model")]

    def test_without_room_for_the_next_blob_the_batch_fails_before_the_first_is_whole(self, tmp_path: Path) -> None:
        disk = FaultyDisk()
        line = Line(tmp_path / "small", disk)
        line.connect()
        line.want("model", DATA, OTHER)
        disk.usage_told = Usage(total_bytes=64 << 30, free_bytes=0)

        line.answer()

        (failed,) = line.ended
        assert isinstance(failed, BatchFailed)
        assert failed.problem.reason is Reason.DISK_FULL
        assert line.fetcher.is_idle

    def test_metadata_goes_before_a_model_that_is_on_its_way(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.answer(requests=1)
        connected.asked.clear()

        connected.want("metadata", OTHER, urgent=True, with_digests=False)
        connected.answer()
        connected.lose()
        connected.answer()

        assert connected.ended == [BatchDone("metadata"), BatchDone("model")]

    def test_models_wait_in_order_behind_metadata(self, connected: Line) -> None:
        connected.want("metadata", b"metadata", urgent=True)
        connected.want("first", DATA)
        connected.want("second", OTHER)

        connected.answer()

        assert [ended.owner for ended in connected.ended] == ["metadata", "first", "second"]

    def test_another_batch_of_the_same_owner_takes_the_place_of_the_first(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.want("model", OTHER)
        connected.answer()

        assert connected.ended == [BatchDone("model")]
        assert connected.store.is_complete(want_of(OTHER))
        assert not connected.store.is_complete(want_of(DATA))

    def test_a_blob_that_two_batches_want_is_fetched_once(self, connected: Line) -> None:
        connected.want("one", DATA)
        connected.want("two", DATA)
        connected.fetcher.cancel("one")

        connected.answer()

        assert connected.ended == [BatchDone("two")]
        assert connected.fleet.blocks_sent == 10

    def test_what_has_arrived_of_a_cancelled_batch_stays(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.answer(requests=1)
        connected.fetcher.cancel("model")
        connected.asked.clear()

        connected.want("model", DATA)
        connected.answer()

        assert connected.fleet.blocks_sent == 10
        assert connected.ended == [BatchDone("model")]

    def test_what_has_arrived_stays_across_a_clean_end(self, line: Line) -> None:
        line.connect()
        batch = line.want("model", DATA)
        line.answer(requests=1)

        line.fetcher.close()

        assert line.store.open_partial(batch.wants[0]).have.count == 4


def test_an_origin_that_is_there_and_silent_is_not_asked_first_again(line: Line) -> None:
    line.connect("a-dead", "b-honest")
    line.want("model", DATA)

    line.lose()

    assert {request.origin for request in line.asked} == {"b-honest"}


class TestSlowRetrieval:
    def trickle(self, line: Line, seconds: int) -> None:
        """Let an origin answer one block every ten seconds."""
        for at in range(1, seconds + 1):
            line.now_s += 1.0
            if at % 10 == 0 and line.asked:
                request = line.asked.pop(0)
                frame = line.fleet.frames(encode(request))[0]
                line.fetcher.receive(frame, line.now_s)
            deadline_s = line.fetcher.next_deadline_s()
            if deadline_s is not None and deadline_s <= line.now_s:
                line.fetcher.tick(line.now_s)

    def test_it_is_reported_and_another_origin_is_asked(self, line: Line) -> None:
        line.connect("a-trickler", "b-honest")
        line.want("model", DATA)
        assert {request.origin for request in line.asked} == {"a-trickler"}

        self.trickle(line, 40)

        assert line.fetcher.obstacle is not None
        assert line.fetcher.obstacle.reason is Reason.SLOW_TRANSFER
        assert "b-honest" in {request.origin for request in line.asked}

    def test_after_a_reconnect_it_has_to_be_seen_again(self, line: Line) -> None:
        line.connect()
        line.want("model", DATA)
        self.trickle(line, 40)

        line.fetcher.set_connected(connected=False, now_s=line.now_s)
        line.connect()

        assert line.fetcher.obstacle is None


class TestWhatNobodyHas:
    def test_batches_behind_a_blob_that_nobody_has_need_not_wait(self, connected: Line) -> None:
        missing = b"a blob that no origin has"
        connected.want("metadata", missing, urgent=True)
        connected.fleet.blobs.pop(ref_of(missing).sha256)
        for _ in range(3):
            connected.lose()
        connected.asked.clear()

        connected.want("model", DATA)
        connected.answer()

        assert connected.ended == [BatchDone("model")]

    def test_an_origin_that_sends_wrong_bytes_is_asked_no_more_while_there_is_another(self, connected: Line) -> None:
        connected.fetcher.note_origin("zzz", is_online=True, now_s=connected.now_s)
        connected.want("model", DATA)
        connected.fleet.lies[ref_of(DATA).sha256] = bytes(len(DATA))

        connected.answer(requests=1)
        connected.fleet.lies.clear()
        connected.asked.clear()
        connected.lose_all()

        assert {request.origin for request in connected.asked} == {"zzz"}

    def test_it_is_blamed_for_what_was_asked_of_it_and_not_for_what_anybody_may_send(self, line: Line) -> None:
        line.connect("a-liar", "b-honest")
        line.want("model", DATA)
        line.fleet.lies[ref_of(DATA).sha256] = bytes(len(DATA))
        requests = line.asked[:]
        line.answer(requests=1)
        line.asked.clear()
        line.lose_all()

        for request in (*requests, *line.asked):  # late answers, and those to what was asked for again
            for frame in line.fleet.frames(encode(request)):
                line.fetcher.receive(frame, line.now_s)

        assert line.fetcher._origins.preferred == "b-honest"

    def test_one_wrong_block_among_right_ones_is_enough(self, line: Line) -> None:
        line.connect("a-liar", "b-honest")
        line.want("model", DATA)
        request = line.asked.pop(0)
        line.fleet.lies[ref_of(DATA).sha256] = DATA[: 2 * BLOCK] + bytes(len(DATA))

        for frame in reversed(line.fleet.frames(encode(request))):  # two that are wrong, then two that are right
            line.fetcher.receive(frame, line.now_s)

        assert {request.origin for request in line.asked} == {"b-honest"}

    def test_origins_without_end_are_not_remembered(self, connected: Line) -> None:
        for number in range(200):
            connected.fetcher.note_origin(f"origin-{number}", is_online=True, now_s=0.0)

        assert len(connected.fetcher._origins.online) == MAX_ORIGINS


class TestProgress:
    def test_it_counts_all_blobs_of_the_batch_and_names_the_largest(self, connected: Line) -> None:
        connected.want("model", b"small", DATA)
        connected.answer(requests=2)

        progress = connected.fetcher.progress_of("model")

        assert progress is not None
        assert (progress.sha256, progress.origin) == (ref_of(DATA).sha256, ORIGIN)
        assert (progress.done_bytes, progress.total_bytes) == (4 * BLOCK + 5, len(DATA) + 5)

    def test_a_blob_that_is_a_blob_already_counts_as_done(self, connected: Line) -> None:
        connected.want("small", b"small")
        connected.answer()
        connected.store.check_blob(ref_of(b"small"))
        connected.want("model", b"small", DATA)

        progress = connected.fetcher.progress_of("model")

        assert progress is not None
        assert progress.done_bytes == 5

    def test_nobody_else_has_any(self, connected: Line) -> None:
        connected.want("model", DATA)

        assert connected.fetcher.progress_of("another") is None


class TestLoss:
    def test_what_is_lost_is_asked_for_again(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.lose()

        connected.answer()

        assert connected.ended == [BatchDone("model")]

    def test_nothing_is_due_when_nothing_is_wanted(self, connected: Line) -> None:
        assert connected.fetcher.next_deadline_s() is None
        connected.fetcher.tick(100.0)

        assert connected.asked == []

    def test_garbage_is_dropped(self, connected: Line) -> None:
        connected.want("model", DATA)

        connected.fetcher.receive(b"garbage", 0.0)
        connected.answer()

        assert connected.ended == [BatchDone("model")]

    def test_a_block_that_nobody_wants_is_dropped(self, connected: Line) -> None:
        connected.fetcher.receive(Block(1, b"8 bytes.", 0, b"data").to_bytes(), 0.0)

        assert connected.ended == []


class TestOrigins:
    def test_nothing_is_asked_without_a_connection(self, line: Line) -> None:
        line.want("model", DATA)

        assert line.asked == []
        line.connect()
        line.answer()

        assert line.ended == [BatchDone("model")]

    def test_the_first_origin_is_preferred_and_stays_so(self, line: Line) -> None:
        line.connect("b")
        line.want("model", DATA)
        line.fetcher.note_origin("a", is_online=True, now_s=0.0)
        line.answer()

        assert {request.origin for request in line.asked} == set()
        line.want("another", OTHER)
        assert {request.origin for request in line.asked} == {"b"}

    def test_another_one_is_asked_when_the_preferred_one_has_gone(self, line: Line) -> None:
        line.connect("a", "b")
        line.want("model", DATA)

        line.fetcher.note_origin("a", is_online=False, now_s=0.0)
        line.lose()

        assert {request.origin for request in line.asked} == {"b"}

    def test_whoever_can_is_asked_when_the_preferred_one_is_silent(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.lose()
        connected.lose()

        assert [(request.origin, request.count) for request in connected.asked] == [("", 1)]

    def test_everything_is_asked_for_again_when_an_origin_comes(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.lose()
        connected.asked.clear()

        connected.fetcher.note_origin("new", is_online=True, now_s=connected.now_s)
        connected.answer()

        assert connected.ended == [BatchDone("model")]

    def test_a_lost_connection_forgets_who_served(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.fetcher.set_connected(connected=False, now_s=0.0)
        connected.asked.clear()

        connected.fetcher.set_connected(connected=True, now_s=0.0)

        assert {request.origin for request in connected.asked} == {""}


class TestObstacles:
    def test_there_is_none_when_nothing_is_wanted_or_everything_goes_well(self, connected: Line) -> None:
        assert connected.fetcher.obstacle is None
        connected.want("model", DATA)
        connected.answer(requests=1)

        assert connected.fetcher.obstacle is None

    def test_there_is_none_to_report_without_a_connection(self, line: Line) -> None:
        line.want("model", DATA)

        assert line.fetcher.obstacle is None

    def test_no_origin_is_one(self, line: Line) -> None:
        line.want("model", DATA)
        line.fetcher.set_connected(connected=True, now_s=0.0)

        assert reason_of(line.fetcher.obstacle) is Reason.WAITING_FOR_ORIGIN

    def test_a_silent_origin_is_one(self, connected: Line) -> None:
        connected.want("model", DATA)
        connected.lose()
        connected.lose()

        assert reason_of(connected.fetcher.obstacle) is Reason.WAITING_FOR_ORIGIN

    def test_wrong_bytes_are_one_until_right_ones_come(self, connected: Line) -> None:
        connected.fleet.lies[ref_of(DATA).sha256] = OTHER
        connected.want("model", DATA)
        connected.answer()
        assert reason_of(connected.fetcher.obstacle) is Reason.BLOB_MISMATCH

        connected.fleet.lies.clear()
        connected.lose()
        connected.answer()

        assert connected.ended == [BatchDone("model")]
        assert connected.fetcher.obstacle is None


class TestWrongBlobs:
    """Metadata has no hashes of its blocks, so a wrong blob is found out as a whole."""

    def test_one_is_fetched_anew(self, connected: Line) -> None:
        connected.fleet.lies[ref_of(DATA).sha256] = OTHER
        connected.want("metadata", DATA, with_digests=False)
        for _ in range(3):
            connected.answer(requests=1)
        connected.fleet.lies.clear()

        connected.answer()

        assert connected.ended == [BatchDone("metadata")]
        assert connected.store.read_blob(ref_of(DATA)) == DATA

    def test_one_that_stays_wrong_is_given_up(self, connected: Line) -> None:
        connected.fleet.lies[ref_of(DATA).sha256] = OTHER

        connected.want("metadata", DATA, with_digests=False)
        connected.answer()

        (failed,) = connected.ended
        assert isinstance(failed, BatchFailed)
        assert failed.problem.reason is Reason.BLOB_MISMATCH
        assert connected.fleet.blocks_sent == MAX_MISMATCHES * 10


class TestFaultsOfTheDisk:
    def test_a_full_disk_fails_the_batch_and_the_next_one_goes_on(self, tmp_path: Path) -> None:
        counting = FaultyDisk()
        Line(tmp_path / "counted", counting)
        at = len(counting.operations) + 1  # after the removal of an old map: the allocation
        line = Line(tmp_path / "device", FaultyDisk(Fault(at, errno.ENOSPC, once=True)))
        line.connect()
        line.want("model", DATA)

        line.want("another", OTHER)
        line.answer()

        assert [type(ended) for ended in line.ended] == [BatchFailed, BatchDone]

    @pytest.mark.parametrize("operation", ["write_at", "sync"])
    def test_every_batch_that_wants_the_blob_fails_once(self, tmp_path: Path, operation: str) -> None:
        counting = FaultyDisk()
        counted = Line(tmp_path / "counted", counting)
        counted.connect()
        counted.want("model", DATA)
        counted.answer()
        line = Line(tmp_path / "device", FaultyDisk(Fault(counting.operations.index(operation), errno.EIO)))
        line.connect()
        line.want("one", DATA)
        line.want("two", DATA)

        line.answer()

        assert sorted(ended.owner for ended in line.ended if isinstance(ended, BatchFailed)) == ["one", "two"]
        assert line.fetcher.is_idle

    def test_a_disk_that_fails_the_check_of_the_whole_blob_fails_the_batch(self, tmp_path: Path) -> None:
        counting = FaultyDisk()
        counted = Line(tmp_path / "counted", counting)
        counted.connect()
        counted.want("metadata", DATA, with_digests=False)
        counted.answer()
        at = next(n for n, done in enumerate(counting.operations) if done.startswith("move"))
        line = Line(tmp_path / "device", FaultyDisk(Fault(at, errno.EIO, once=True)))
        line.connect()
        line.want("metadata", DATA, with_digests=False)

        line.answer()

        (failed,) = line.ended
        assert isinstance(failed, BatchFailed)
        assert failed.problem.reason is Reason.DISK_FAULT

    @pytest.mark.parametrize(
        ("error", "code", "reason"),
        [
            (DiskFullError("full"), Code.RESOURCE_EXHAUSTED, Reason.DISK_FULL),
            (BlobMismatchError("wrong"), Code.DATA_LOSS, Reason.BLOB_MISMATCH),
            (StoreError("broken"), Code.DATA_LOSS, Reason.DISK_FAULT),
        ],
    )
    def test_each_fault_has_its_reason(self, error: StoreError, code: Code, reason: Reason) -> None:
        assert problem_of(error) == Problem(code=code, reason=reason, detail=str(error))


def reason_of(obstacle: Problem | None) -> Reason | None:
    return obstacle.reason if obstacle else None


def test_a_want_knows_the_length_of_its_last_block() -> None:
    want = Want(ref_of(DATA), 3000)

    assert (want.blocks, want.length_of(0), want.length_of(3)) == (4, 3000, len(DATA) - 9000)
