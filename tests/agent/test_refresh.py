"""When to look at metadata, what to fetch and what to wait for."""

import pytest

from edgeferry.agent.refresh import ROOTS_PATIENCE_MS, FetchBlobs, Look, Refresh
from edgeferry.wire.desired import BlobRef

BLOBS = (BlobRef(sha256="0" * 64, size_bytes=1),)
ONE, TWO = b"timestamp 1", b"timestamp 2"


@pytest.fixture
def refresh() -> Refresh:
    return Refresh()


@pytest.fixture
def looking(refresh: Refresh) -> Refresh:
    """A refresh that is looking at the first timestamp."""
    refresh.ring(ONE)
    return refresh


@pytest.fixture
def fetching(looking: Refresh) -> Refresh:
    """A refresh that waits for blobs."""
    looking.missing(BLOBS, (), 0)
    return looking


@pytest.fixture
def waiting(looking: Refresh) -> Refresh:
    """A refresh that waits for roots since the time 0."""
    looking.missing((), (2,), 0)
    return looking


class TestTheDoorbell:
    def test_nothing_is_under_way_at_first(self, refresh: Refresh) -> None:
        assert refresh.is_idle
        assert refresh.look_again() is None
        assert refresh.next_deadline_ms() is None

    def test_it_is_answered_by_a_look(self, refresh: Refresh) -> None:
        assert refresh.ring(ONE) == Look(ONE, final=False)
        assert not refresh.is_idle

    def test_the_same_one_again_is_not_looked_at_again(self, looking: Refresh) -> None:
        looking.taken()

        assert looking.ring(ONE) is None
        assert looking.is_idle

    def test_one_that_comes_during_a_look_is_looked_at_after_it(self, looking: Refresh) -> None:
        assert looking.ring(TWO) is None

        assert looking.taken() == Look(TWO, final=False)
        assert looking.taken() is None

    def test_one_that_comes_during_a_look_that_lacks_something_takes_its_place(self, looking: Refresh) -> None:
        looking.ring(TWO)

        assert looking.missing(BLOBS, (), 0) == Look(TWO, final=False)

    def test_one_that_comes_while_blobs_are_fetched_is_looked_at_at_once(self, fetching: Refresh) -> None:
        assert fetching.ring(TWO) == Look(TWO, final=False)

    def test_the_newest_one_is_looked_at_again_when_asked_for(self, looking: Refresh) -> None:
        looking.taken()

        assert looking.look_again() == Look(ONE, final=False)

    def test_what_is_under_way_is_not_disturbed_by_looking_again(self, fetching: Refresh) -> None:
        assert fetching.look_again() is None


class TestBlobs:
    def test_missing_ones_are_fetched(self, looking: Refresh) -> None:
        assert looking.missing(BLOBS, (), 0) == FetchBlobs(BLOBS)
        assert not looking.is_idle

    def test_when_they_are_here_the_look_goes_on(self, fetching: Refresh) -> None:
        assert fetching.fetched() == Look(ONE, final=False)

    def test_those_of_a_timestamp_that_was_overtaken_lead_to_nothing(self, fetching: Refresh) -> None:
        fetching.ring(TWO)

        assert fetching.fetched() is None


class TestRoots:
    def test_missing_ones_are_waited_for(self, looking: Refresh) -> None:
        assert looking.missing(BLOBS, (2,), 500) is None
        assert looking.next_deadline_ms() == 500 + ROOTS_PATIENCE_MS
        assert not looking.is_idle

    def test_one_that_arrives_is_looked_at_at_once(self, waiting: Refresh) -> None:
        assert waiting.root_arrived() == Look(ONE, final=False)
        assert waiting.next_deadline_ms() is None

    def test_one_that_arrives_during_a_look_that_lacks_roots_is_looked_at_at_once(self, looking: Refresh) -> None:
        assert looking.root_arrived() is None

        assert looking.missing((), (2,), 0) == Look(ONE, final=False)
        assert looking.missing((), (2,), 0) is None

    def test_one_that_nobody_waits_for_leads_to_nothing(self, refresh: Refresh) -> None:
        assert refresh.root_arrived() is None

    def test_before_the_time_is_over_nothing_is_given_up(self, waiting: Refresh) -> None:
        assert waiting.tick(ROOTS_PATIENCE_MS - 1) is None

    def test_after_it_the_look_is_final(self, waiting: Refresh) -> None:
        assert waiting.tick(ROOTS_PATIENCE_MS) == Look(ONE, final=True)

    def test_it_stays_final_while_its_blobs_are_fetched(self, waiting: Refresh) -> None:
        waiting.tick(ROOTS_PATIENCE_MS)
        waiting.missing(BLOBS, (), 0)

        assert waiting.fetched() == Look(ONE, final=True)

    def test_another_timestamp_waits_for_its_own_roots(self, waiting: Refresh) -> None:
        waiting.tick(ROOTS_PATIENCE_MS)

        waiting.ring(TWO)

        assert waiting.taken() == Look(TWO, final=False)

    def test_nothing_is_given_up_when_nothing_is_waited_for(self, fetching: Refresh) -> None:
        assert fetching.tick(1 << 40) is None


class TestRefusals:
    def test_what_was_interrupted_by_a_refused_one_goes_on(self, fetching: Refresh) -> None:
        fetching.ring(TWO)

        assert fetching.refused() == Look(ONE, final=False)

    def test_a_refused_one_is_not_looked_at_again_and_again(self, fetching: Refresh) -> None:
        fetching.ring(TWO)
        fetching.refused()

        assert fetching.refused() is None
        assert fetching.is_idle

    def test_one_that_came_in_between_goes_before_what_was_interrupted(self, fetching: Refresh) -> None:
        fetching.ring(TWO)
        fetching.ring(b"timestamp 3")

        assert fetching.refused() == Look(b"timestamp 3", final=False)

    def test_a_root_that_comes_after_a_refusal_is_reason_for_another_look(self, waiting: Refresh) -> None:
        waiting.tick(ROOTS_PATIENCE_MS)
        waiting.refused()

        assert waiting.root_arrived() == Look(ONE, final=True)

    def test_a_root_that_comes_after_all_is_well_is_none(self, looking: Refresh) -> None:
        looking.taken()

        assert looking.root_arrived() is None
