"""From what arrives on ``tuf/#`` to wishes, with a simulated trust client."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgeferry.agent.events import Happened, LifecycleEvent, Wished
from edgeferry.agent.fetching import BatchDone, BatchFailed, Fetcher
from edgeferry.agent.following import (
    BATCH_OWNER,
    MAX_ROOT_BYTES,
    MAX_ROOTS,
    MAX_TIMESTAMP_BYTES,
    Follower,
    Looked,
    Truster,
)
from edgeferry.agent.refresh import ROOTS_PATIENCE_MS
from edgeferry.agent.store import Store
from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.wire.blocks import BlockRequest
from edgeferry.wire.desired import decode_manifest
from edgeferry.wire.messages import EventKind, Problem, Reason

from .disk_faults import FaultyDisk
from .simulated import MODEL, Fleet, HeldLane, problem, ref_of

ROOT = b"the first root"
BLOB = ref_of(b"a blob of metadata")


@dataclass
class ScriptedTruster:
    """Answers each look with the next of what the test has written down."""

    answers: list[Resolved | Missing | TrustError] = field(default_factory=list)
    looks: list[tuple[dict[int, bytes], bytes, bool]] = field(default_factory=list)

    def look(self, roots: dict[int, bytes], timestamp: bytes, *, final: bool) -> Resolved | Missing:
        self.looks.append((roots, timestamp, final))
        answer = self.answers.pop(0)
        if isinstance(answer, TrustError):
            raise answer
        return answer


def resolved(*, metadata: Problem | None = None, refusals: dict[str, tuple[int, Problem]] | None = None) -> Resolved:
    fleet = Fleet()
    wish = fleet.artifact(1)
    return Resolved(
        wishes={MODEL: wish},
        manifests={MODEL: decode_manifest(fleet.blobs[wish.manifest.sha256])},
        refusals=refusals or {},
        groups=("pets",),
        generation=4,
        root_version=2,
        expires_ms=99,
        issued_ms=50,
        documents=frozenset({wish.manifest.sha256}),
        metadata=metadata,
    )


class Desk:
    """A follower whose looks happen when the test says so."""

    def __init__(self, directory: Path, *, root: bytes = ROOT, root_sha256: str = "") -> None:
        store = Store(directory, FaultyDisk())
        store.open()
        self.truster = ScriptedTruster()
        self.first_roots: list[bytes] = []
        self.asked: list[BlockRequest] = []
        self.ended: list[BatchDone | BatchFailed] = []
        self.told: list[LifecycleEvent] = []
        self.lane = HeldLane()
        self.fetcher = Fetcher(store, self.asked.append, self.ended.append)
        self.now_ms = 0
        self.follower = Follower(
            self._make_truster,
            root=root,
            root_sha256=root_sha256,
            lane=self.lane,
            fetcher=self.fetcher,
            emit=self.told.append,
        )

    def _make_truster(self, root: bytes) -> Truster:
        self.first_roots.append(root)
        return self.truster

    def look(self, *answers: Resolved | Missing | TrustError) -> None:
        """Have one look done for each answer."""
        self.truster.answers += answers
        for _ in answers:
            self.end_look()

    def end_look(self) -> None:
        looked = self.lane.work()
        assert isinstance(looked, Looked)
        self.follower.looked(looked, self.now_ms, 0.0)

    @property
    def wanted(self) -> list[str]:
        """The blobs of metadata that are being fetched."""
        self.asked.clear()
        self.fetcher.set_connected(connected=False, now_s=0.0)
        self.fetcher.set_connected(connected=True, now_s=0.0)
        return [request.sha256 for request in self.asked]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "device")


class TestTimestamps:
    def test_one_that_is_believed_becomes_a_wish(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(resolved())

        (wished,) = desk.told
        assert isinstance(wished, Wished)
        assert list(wished.targets) == [MODEL]
        assert desk.follower.is_idle

    def test_what_it_says_of_the_device_is_kept(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(resolved())

        standing = desk.follower.standing
        assert (standing.generation, standing.root_version, standing.metadata_expires_ms) == (4, 2, 99)
        assert (desk.follower.groups, len(desk.follower.documents)) == (("pets",), 1)

    def test_what_was_believed_before_the_last_stop_is_wished_at_once(self, desk: Desk) -> None:
        desk.follower.begin(resolved())

        assert [type(event) for event in desk.told] == [Wished]

    def test_nothing_believed_before_means_no_wish(self, desk: Desk) -> None:
        desk.follower.begin(None)

        assert desk.told == []

    def test_what_cannot_be_had_is_wished_as_a_refusal(self, desk: Desk) -> None:
        refusals = {"dogs": (3, problem(Reason.NO_ARTIFACT_FOR_PROFILE))}

        desk.follower.begin(resolved(refusals=refusals))

        (wished,) = desk.told
        assert isinstance(wished, Wished)
        assert wished.refusals == refusals

    def test_one_that_is_refused_is_told_once_and_reported(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(TrustError(problem(Reason.METADATA_ROLLBACK)))
        desk.follower.look_again()
        desk.look(TrustError(problem(Reason.METADATA_ROLLBACK)))

        assert desk.told == [Happened(EventKind.METADATA_REFUSED, problem(Reason.METADATA_ROLLBACK))]
        assert desk.follower.standing.metadata == problem(Reason.METADATA_ROLLBACK)

    def test_a_refusal_is_forgotten_when_one_is_believed(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"bad", 0.0)
        desk.look(TrustError(problem(Reason.METADATA_ROLLBACK)))
        desk.follower.take_timestamp(b"good", 0.0)
        desk.look(resolved())

        assert desk.follower.standing.metadata is None

    def test_one_that_is_too_long_is_dropped(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"x" * (MAX_TIMESTAMP_BYTES + 1), 0.0)

        assert desk.lane.jobs == []

    def test_the_newest_one_is_judged_again_when_time_has_passed(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(resolved())

        desk.follower.look_again()
        desk.look(TrustError(problem(Reason.METADATA_EXPIRED)))

        assert desk.follower.standing.metadata == problem(Reason.METADATA_EXPIRED)


class TestBlobs:
    @pytest.fixture
    def fetching(self, desk: Desk) -> Desk:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(Missing((BLOB,), ()))
        return desk

    def test_missing_ones_are_fetched(self, fetching: Desk) -> None:
        assert fetching.wanted == [BLOB.sha256]

    def test_the_look_goes_on_when_they_are_here(self, fetching: Desk) -> None:
        fetching.follower.fetched()
        fetching.look(resolved())

        assert [type(event) for event in fetching.told] == [Wished]

    def test_those_that_cannot_be_stored_are_reported(self, fetching: Desk) -> None:
        fetching.follower.failed(problem(Reason.DISK_FULL))

        assert fetching.follower.standing.metadata == problem(Reason.DISK_FULL)
        assert fetching.follower.is_idle

    def test_they_are_fetched_before_models(self, fetching: Desk) -> None:
        (batch,) = fetching.fetcher._batches

        assert (batch.owner, batch.urgent) == (BATCH_OWNER, True)


class TestRoots:
    def test_they_are_handed_over_with_the_timestamp(self, desk: Desk) -> None:
        desk.follower.take_root(2, b"root 2")
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(resolved())

        assert desk.truster.looks == [({2: b"root 2"}, b"timestamp", False)]

    def test_missing_ones_are_waited_for(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(Missing((), (2,)))
        assert desk.follower.next_deadline_ms() == ROOTS_PATIENCE_MS

        desk.follower.take_root(2, b"root 2")
        desk.look(resolved())

        assert desk.follower.is_idle

    def test_one_that_came_during_the_look_is_not_waited_for(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.follower.take_root(2, b"root 2")

        desk.look(Missing((), (2,)), resolved())

        assert desk.follower.is_idle

    def test_they_are_given_up_after_a_while(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(Missing((), (2,)))

        desk.follower.tick(ROOTS_PATIENCE_MS)
        desk.look(TrustError(problem(Reason.METADATA_UNSIGNED)))

        assert [final for _, _, final in desk.truster.looks] == [False, True]

    def test_one_that_is_too_long_is_dropped(self, desk: Desk) -> None:
        desk.follower.take_root(2, b"x" * (MAX_ROOT_BYTES + 1))
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(resolved())

        assert desk.truster.looks[0][0] == {}

    def test_too_many_are_dropped_but_a_known_one_may_change(self, desk: Desk) -> None:
        for version in range(1, MAX_ROOTS + 3):
            desk.follower.take_root(version, b"root")
        desk.follower.take_root(1, b"changed")
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.look(resolved())

        roots = desk.truster.looks[0][0]
        assert (len(roots), roots[1]) == (MAX_ROOTS, b"changed")


class TestAFingerprintInPlaceOfTheRoot:
    @pytest.fixture
    def desk(self, tmp_path: Path) -> Desk:
        return Desk(tmp_path / "device", root=b"", root_sha256=hashlib.sha256(ROOT).hexdigest())

    def test_trust_begins_with_the_root_that_has_it(self, desk: Desk) -> None:
        desk.follower.take_root(1, b"a forged root")
        assert desk.first_roots == []

        desk.follower.take_root(1, ROOT)

        assert desk.first_roots == [ROOT]

    def test_a_timestamp_waits_for_that_root(self, desk: Desk) -> None:
        desk.follower.take_timestamp(b"timestamp", 0.0)
        desk.end_look()
        assert desk.told == []

        desk.follower.take_root(1, ROOT)
        desk.look(resolved())

        assert [type(event) for event in desk.told] == [Wished]

    def test_trust_begins_once(self, desk: Desk) -> None:
        desk.follower.take_root(1, ROOT)
        desk.follower.take_root(1, ROOT)

        assert desk.first_roots == [ROOT]


def bad_root(version: int) -> TrustError:
    error = TrustError(problem(Reason.METADATA_UNSIGNED))
    error.root = version
    return error


def test_a_root_that_was_refused_is_forgotten_so_that_true_metadata_is_taken_again(desk: Desk) -> None:
    desk.follower.take_root(2, b"a stranger's")
    desk.follower.take_timestamp(b"timestamp", 0.0)
    desk.look(bad_root(2))

    desk.follower.take_timestamp(b"another", 0.0)
    desk.look(resolved())

    assert [sorted(roots) for roots, _, _ in desk.truster.looks] == [[2], []]


def test_a_root_that_came_while_another_was_refused_is_kept(desk: Desk) -> None:
    desk.follower.take_root(2, b"a stranger's")
    desk.follower.take_timestamp(b"timestamp", 0.0)
    desk.follower.take_root(2, b"the true one")
    desk.look(bad_root(2))

    desk.follower.take_timestamp(b"another", 0.0)
    desk.look(resolved())

    assert [roots for roots, _, _ in desk.truster.looks] == [{2: b"a stranger's"}, {2: b"the true one"}]


def test_the_first_root_is_trusted_from_the_start(desk: Desk) -> None:
    assert desk.first_roots == [ROOT]
