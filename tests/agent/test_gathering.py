"""The blobs of a deployment, as blocks and by differences, from a simulated origin onto a real disk."""

import errno
from pathlib import Path

import pytest

from edgeferry.agent.events import Failed, Fetched, LifecycleEvent
from edgeferry.agent.fetching import BatchDone, BatchFailed, Fetcher
from edgeferry.agent.following import installed_by
from edgeferry.agent.gathering import Gatherer, Rebuilt
from edgeferry.agent.state import Installed
from edgeferry.agent.store import Store
from edgeferry.wire.blocks import BlockRequest
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import ModelWish, decode_manifest
from edgeferry.wire.difference import Operation, Piece, difference_of
from edgeferry.wire.messages import Reason

from .disk_faults import Fault, FaultyDisk
from .simulated import BLOCK_BYTES, ORIGIN, Fleet, HeldLane, ref_of

BLOCKS = 5


class Bench:
    """A gatherer; its lane works when the test lets it."""

    def __init__(self, directory: Path) -> None:
        self.fleet = Fleet()
        self.store = Store(directory, FaultyDisk())
        self.store.open()
        self.lane = HeldLane()
        self.told: list[LifecycleEvent] = []
        self.ended: list[BatchDone | BatchFailed] = []
        self.asked: list[BlockRequest] = []
        self.now_s = 0.0
        self.fetcher = Fetcher(self.store, self.asked.append, self.ended.append)
        self.gatherer = Gatherer(
            self.store,
            self.fetcher,
            self.lane,
            offered=lambda: tuple(self.fleet.differences),
            emit=self.told.append,
            now_s=lambda: self.now_s,
        )

    def artifact(self, version: int = 1) -> Installed:
        return self.installed_by(self.fleet.artifact(version))

    def installed_by(self, wish: ModelWish) -> Installed:
        return installed_by(wish, decode_manifest(self.fleet.blobs[wish.manifest.sha256]))

    def installed(self, version: int = 1) -> Installed:
        """Return an artifact whose blobs are on the disk."""
        target = self.artifact(version)
        self.put(target)
        return target

    def put(self, target: Installed) -> None:
        for blob in target.blobs():
            self.store.blob_path(blob.sha256).write_bytes(self.fleet.blobs[blob.sha256])

    def connect(self) -> None:
        self.fetcher.set_connected(connected=True, now_s=self.now_s)
        self.fetcher.note_origin(ORIGIN, is_online=True, now_s=self.now_s)

    def fetch(self) -> None:
        """Have the origin answer until nothing is asked for; what it does not have, until that is given up."""
        while self.asked or not self.fetcher.is_idle:
            for request in self.asked[:]:
                self.asked.remove(request)
                for frame in self.fleet.frames(encode(request)):
                    self.fetcher.receive(frame, self.now_s)
            self.hear()
            if not self.asked and (deadline_s := self.fetcher.next_deadline_s()):
                self.now_s = deadline_s
                self.fetcher.tick(deadline_s)
                self.hear()

    def hear(self) -> None:
        while self.ended:
            match self.ended.pop(0):
                case BatchDone(owner=owner):
                    self.gatherer.fetched(owner)
                case BatchFailed(owner=owner, problem=problem):
                    self.gatherer.not_fetched(owner, problem)

    def rebuild(self) -> None:
        """Have the lane do its work, and go on with what comes of it."""
        rebuilt = self.lane.work()
        assert isinstance(rebuilt, Rebuilt)
        self.gatherer.rebuilt(rebuilt)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "device")


class TestBlocks:
    def test_the_manifest_comes_first_and_then_what_it_names(self, bench: Bench) -> None:
        target = bench.artifact()
        bench.connect()

        bench.gatherer.gather(target.deployment, target)
        assert {request.sha256 for request in bench.asked} == {target.manifest.sha256}
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]

    def test_what_is_here_already_is_not_fetched(self, bench: Bench) -> None:
        target = bench.installed()

        bench.gatherer.gather(target.deployment, target)

        assert bench.told == [Fetched(target.deployment)]

    def test_a_damaged_manifest_is_fetched_anew(self, bench: Bench) -> None:
        target = bench.installed()
        path = bench.store.blob_path(target.manifest.sha256)
        path.write_bytes(path.read_bytes()[::-1])
        bench.connect()

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]

    def test_a_manifest_that_is_none_fails_the_deployment(self, bench: Bench) -> None:
        manifest = bench.fleet.add(b"signed, and yet no manifest")
        bench.store.blob_path(manifest.sha256).write_bytes(b"signed, and yet no manifest")
        target = Installed("id", 1, "int8", manifest, ref_of(b"model"), ref_of(b"selftest"))

        bench.gatherer.gather("id", target)

        (failed,) = bench.told
        assert isinstance(failed, Failed)
        assert failed.problem.reason is Reason.METADATA_MALFORMED

    def test_what_was_cancelled_is_not_told(self, bench: Bench) -> None:
        target = bench.artifact()
        bench.gatherer.gather(target.deployment, target)

        bench.gatherer.cancel(target.deployment)
        bench.gatherer.fetched(target.deployment)

        assert bench.told == []
        assert bench.fetcher.is_idle


@pytest.fixture
def wishes(bench: Bench) -> tuple[ModelWish, ModelWish]:
    """Return version 1, which is on the disk with the manifest of version 2, and version 2; an origin is there."""
    before, after = bench.fleet.artifact(1, blocks=BLOCKS), bench.fleet.artifact(2, blocks=BLOCKS, like=1)
    bench.put(bench.installed_by(before))
    target = bench.installed_by(after)
    for blob in (target.manifest, target.selftest):
        bench.store.blob_path(blob.sha256).write_bytes(bench.fleet.blobs[blob.sha256])
    bench.connect()
    return before, after


def blocks_of_models(bench: Bench) -> int:
    """Return how many blocks of the size of a model's were asked for; what is asked for in blocks of 64 KiB is none."""
    return sum(len(request.indices()) for request in bench.asked if request.block_bytes == BLOCK_BYTES)


class TestDifferences:
    def test_a_model_is_made_from_the_one_before_by_the_difference_alone(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        difference = bench.fleet.offer(*wishes)

        bench.gatherer.gather(target.deployment, target)
        assert {request.sha256 for request in bench.asked} == {difference.sha256}
        bench.fetch()
        bench.rebuild()

        assert bench.told == [Fetched(target.deployment)]
        assert bench.fleet.blocks_sent == 1
        bench.store.check_blob(target.model)

    def test_without_the_older_one_the_whole_is_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target, base = bench.installed_by(wishes[1]), bench.installed_by(wishes[0])
        bench.fleet.offer(*wishes)
        bench.store.drop_blob(base.model.sha256)

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]
        assert bench.fleet.blocks_sent == BLOCKS

    def test_the_smallest_of_several_is_taken(self, bench: Bench, wishes: tuple[ModelWish, ModelWish]) -> None:
        target = bench.installed_by(wishes[1])
        new = bench.fleet.model_of(wishes[1])
        bench.fleet.offer(*wishes, difference_of(new, new, [Piece(Operation.INSERT, len(new))])[:-600])
        smallest = bench.fleet.offer(*wishes)

        bench.gatherer.gather(target.deployment, target)

        assert {request.sha256 for request in bench.asked} == {smallest.sha256}

    def test_one_that_is_larger_than_what_is_missing_is_left(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        bench.gatherer.gather(target.deployment, target)
        for frame in bench.fleet.frames(encode(bench.asked.pop(0))):
            bench.fetcher.receive(frame, 0.0)  # the first four blocks
        bench.gatherer.cancel(target.deployment)
        bench.asked.clear()
        bench.fleet.offer(*wishes, bench.fleet.model_of(wishes[1])[: BLOCK_BYTES - 100])

        bench.gatherer.gather(target.deployment, target)

        assert blocks_of_models(bench) == 1

    def test_what_has_come_before_is_kept_and_only_the_rest_is_made(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        difference = bench.fleet.offer(*wishes)
        bench.store.blob_path(difference.sha256).write_bytes(bench.fleet.blobs[difference.sha256])

        bench.gatherer.gather(target.deployment, target)
        bench.rebuild()

        assert bench.told == [Fetched(target.deployment)]
        assert bench.fleet.blocks_sent == 0


class TestDifferencesThatLie:
    def test_of_one_that_is_wrong_in_parts_only_these_are_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        old, new = (bytearray(bench.fleet.model_of(wish)) for wish in wishes)
        new[2 * BLOCK_BYTES + 5] ^= 1
        bench.fleet.offer(*wishes, difference_of(bytes(old), bytes(new), [Piece(Operation.ADD, len(new))]))

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()
        bench.rebuild()
        assert [request.indices() for request in bench.asked] == [[2]]
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]
        bench.store.check_blob(target.model)

    def test_after_one_that_is_none_the_whole_is_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        bench.fleet.offer(*wishes, b"signed, and yet no difference")

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()
        bench.rebuild()
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]
        assert bench.fleet.blocks_sent == 1 + BLOCKS

    def test_after_one_that_was_cut_the_rest_is_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        old, new = (bench.fleet.model_of(wish) for wish in wishes)
        # what is inserted does not pack, so the place of the cut is known
        pieces = [Piece(Operation.ADD, 2 * BLOCK_BYTES), Piece(Operation.INSERT, len(new) - 2 * BLOCK_BYTES)]
        bench.fleet.offer(*wishes, difference_of(old, new, pieces)[: -len(new) + 3 * BLOCK_BYTES])

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()
        bench.rebuild()
        assert blocks_of_models(bench) == BLOCKS - 2
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]

    def test_of_an_older_one_that_has_rotted_the_spoilt_block_is_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target, base = bench.installed_by(wishes[1]), bench.installed_by(wishes[0])
        bench.fleet.offer(*wishes)
        path = bench.store.blob_path(base.model.sha256)
        path.write_bytes(path.read_bytes()[:-1] + b"?")

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()
        bench.rebuild()
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]
        assert bench.fleet.blocks_sent == 1 + 1
        bench.store.check_blob(target.model)

    def test_when_no_origin_has_it_the_whole_is_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        difference = bench.fleet.offer(*wishes)
        del bench.fleet.blobs[difference.sha256]

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]
        assert bench.now_s < 100

    def test_when_it_comes_with_wrong_bytes_again_and_again_the_whole_is_fetched(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        difference = bench.fleet.offer(*wishes, bytes(70_000 + BLOCK_BYTES)[: 4 * BLOCK_BYTES])
        bench.fleet.lies[difference.sha256] = bytes(difference.size_bytes - 1) + b"?"

        bench.gatherer.gather(target.deployment, target)
        bench.fetch()

        assert bench.told == [Fetched(target.deployment)]

    def test_the_disk_that_refuses_what_is_made_fails_the_deployment(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish], tmp_path: Path
    ) -> None:
        target = bench.installed_by(wishes[1])
        difference = bench.fleet.offer(*wishes)
        bench.store.blob_path(difference.sha256).write_bytes(bench.fleet.blobs[difference.sha256])
        disk = FaultyDisk(Fault(0, errno.ENOSPC))
        gatherer = Gatherer(
            Store(tmp_path / "device", disk),
            bench.fetcher,
            bench.lane,
            offered=lambda: tuple(bench.fleet.differences),
            emit=bench.told.append,
            now_s=lambda: 0.0,
        )

        gatherer.gather(target.deployment, target)
        rebuilt = bench.lane.work()
        assert isinstance(rebuilt, Rebuilt)
        gatherer.rebuilt(rebuilt)

        (failed,) = bench.told
        assert isinstance(failed, Failed)
        assert failed.problem.reason is Reason.DISK_FULL

    def test_a_deployment_that_was_cancelled_meanwhile_is_left(
        self, bench: Bench, wishes: tuple[ModelWish, ModelWish]
    ) -> None:
        target = bench.installed_by(wishes[1])
        bench.fleet.offer(*wishes)
        bench.gatherer.gather(target.deployment, target)
        bench.fetch()

        bench.gatherer.cancel(target.deployment)

        assert bench.lane.work() is None
        assert bench.told == []
        bench.gatherer.rebuilt(Rebuilt(target.deployment))  # a late answer
        assert bench.told == []


def test_differences_are_kept_until_what_they_make_is_whole(bench: Bench, wishes: tuple[ModelWish, ModelWish]) -> None:
    target = bench.installed_by(wishes[1])
    difference = bench.fleet.offer(*wishes)
    assert bench.gatherer.unfinished({target.model.sha256}) == {difference.sha256}
    assert bench.gatherer.unfinished(set()) == set()

    bench.put(target)

    assert bench.gatherer.unfinished({target.model.sha256}) == set()
