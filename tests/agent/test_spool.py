"""The event spool on a real disk."""

import errno
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeferry.agent.errors import DiskFullError, StoreError
from edgeferry.agent.spool import MAX_OUTCOMES, MAX_SEGMENTS, SEGMENT_EVENTS, Spool
from edgeferry.wire.messages import Event, EventKind, Outcome

from .disk_faults import Fault, FaultyDisk, Kill, Killed, Manner


def event(seq: int) -> Event:
    return Event(v=1, seq=seq, ts=1000 + seq, kind=EventKind.DEPLOYMENT, model="cats")


def events(first: int, last: int) -> tuple[Event, ...]:
    return tuple(event(seq) for seq in range(first, last + 1))


def spool_in(folder: Path, disk: FaultyDisk | None = None) -> Spool:
    spool = Spool(folder / "spool", disk or FaultyDisk())
    spool.open()
    return spool


def numbers(spool: Spool, after: int = 0) -> list[int]:
    return [e.seq for e in spool.after(after)]


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "spool").glob("*.jsonl"))


@pytest.fixture
def spool(memory_path: Path) -> Spool:
    return spool_in(memory_path)


def test_a_fresh_spool_is_empty(spool: Spool) -> None:
    assert (spool.last_seq, spool.acknowledged_seq, numbers(spool)) == (0, 0, [])


def test_events_come_back_in_order(spool: Spool) -> None:
    spool.append(events(1, 3))

    assert list(spool.after(0)) == list(events(1, 3))


def test_only_later_events_are_told(spool: Spool) -> None:
    spool.append(events(1, 600))

    assert numbers(spool, 598) == [599, 600]
    assert numbers(spool, 600) == []


def test_an_event_is_spooled_once(spool: Spool) -> None:
    spool.append(events(1, 2))
    spool.append(events(1, 3))

    assert numbers(spool) == [1, 2, 3]


def test_events_outlive_a_restart(spool: Spool, memory_path: Path) -> None:
    spool.append(events(1, SEGMENT_EVENTS + 5))
    spool.acknowledge(4)

    again = spool_in(memory_path)

    assert (again.last_seq, again.acknowledged_seq) == (SEGMENT_EVENTS + 5, 4)
    assert numbers(again) == list(range(1, SEGMENT_EVENTS + 6))


def test_events_are_kept_after_the_acknowledgement(spool: Spool) -> None:
    spool.append(events(1, 3))
    spool.acknowledge(3)

    assert numbers(spool) == [1, 2, 3]


def test_an_older_acknowledgement_changes_nothing(spool: Spool) -> None:
    spool.append(events(1, 3))
    spool.acknowledge(3)
    spool.acknowledge(2)

    assert spool.acknowledged_seq == 3


def test_an_acknowledgement_that_cannot_be_believed_counts_for_nothing(spool: Spool, memory_path: Path) -> None:
    spool.append(events(1, 3))
    (memory_path / "spool" / "acknowledged").write_bytes(b"not a number")

    assert spool_in(memory_path).acknowledged_seq == 0


def test_an_acknowledgement_of_events_that_are_gone_is_cut_to_what_is_there(spool: Spool, memory_path: Path) -> None:
    spool.append(events(1, 3))
    (memory_path / "spool" / "acknowledged").write_bytes(b"99")

    assert spool_in(memory_path).acknowledged_seq == 3


def test_a_line_that_a_kill_has_cut_is_removed_and_its_event_comes_again(memory_path: Path) -> None:
    spool_in(memory_path).append(events(1, 2))
    torn = spool_in(memory_path, FaultyDisk(Kill(0, Manner.TORN)))
    with pytest.raises(Killed):
        torn.append(events(3, 3))

    again = spool_in(memory_path)
    assert numbers(again) == [1, 2]
    again.append(events(3, 4))

    assert numbers(spool_in(memory_path)) == [1, 2, 3, 4]


def test_what_a_crash_has_left_beside_its_place_is_removed(memory_path: Path) -> None:
    spool_in(memory_path)
    (memory_path / "spool" / "acknowledged.new").write_bytes(b"1")

    spool_in(memory_path)

    assert list((memory_path / "spool").glob("*.new")) == []


def test_a_kill_in_the_first_line_of_a_segment_is_mended(memory_path: Path) -> None:
    with pytest.raises(Killed):
        spool_in(memory_path, FaultyDisk(Kill(1, Manner.TORN))).append(events(1, 1))

    again = spool_in(memory_path)
    again.append(events(1, 1))

    assert numbers(spool_in(memory_path)) == [1]


def test_a_whole_line_that_is_no_event_is_skipped_told_and_kept(
    spool: Spool, memory_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool.append(events(1, 3))
    (path,) = segments(memory_path)
    lines = path.read_bytes().split(b"\n")
    damaged = b"\n".join([lines[0], b"damaged", lines[2], b""])
    path.write_bytes(damaged)

    again = spool_in(memory_path)

    assert numbers(again) == [1, 3]
    assert path.read_bytes() == damaged
    assert f"{path}: lines that are no events, skipped and kept: 1" in caplog.text
    again.append(events(4, 4))
    assert numbers(spool_in(memory_path)) == [1, 3, 4]


def test_a_line_that_was_cut_behind_a_damaged_one_is_removed(spool: Spool, memory_path: Path) -> None:
    spool.append(events(1, 3))
    (path,) = segments(memory_path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"damaged", lines[2][:9]]))

    again = spool_in(memory_path)

    assert numbers(again) == [1]
    assert path.read_bytes() == lines[0] + b"\ndamaged\n"


def test_a_segment_that_cannot_be_read_is_an_error_that_names_it(spool: Spool, memory_path: Path) -> None:
    spool.append(events(1, 1))
    (path,) = segments(memory_path)
    path.unlink()
    path.mkdir()

    with pytest.raises(StoreError, match=f"cannot read {path}"):
        spool_in(memory_path)


def test_events_that_found_no_room_come_again(memory_path: Path) -> None:
    spool = spool_in(memory_path, FaultyDisk(Fault(1, errno.ENOSPC, once=True)))
    with pytest.raises(DiskFullError):
        spool.append(events(1, 2))
    assert numbers(spool) == []

    spool.append(events(1, 2))

    assert numbers(spool) == [1, 2]


class TestFull:
    whole = MAX_SEGMENTS * SEGMENT_EVENTS

    @pytest.fixture
    def spool(self, spool: Spool) -> Spool:
        spool.append(events(1, self.whole))
        return spool

    def test_a_full_spool_holds_more_than_ten_thousand_events(self, spool: Spool) -> None:
        assert self.whole > 10_000
        assert len(numbers(spool)) == self.whole

    def test_the_oldest_segment_makes_room_and_is_counted_as_dropped(self, spool: Spool, memory_path: Path) -> None:
        spool.append(events(self.whole + 1, self.whole + 1))

        assert spool.dropped == SEGMENT_EVENTS
        assert len(segments(memory_path)) == MAX_SEGMENTS
        assert numbers(spool)[0] == SEGMENT_EVENTS + 1

    def test_what_a_broker_has_taken_is_not_counted_as_dropped(self, spool: Spool) -> None:
        spool.acknowledge(SEGMENT_EVENTS - 6)

        spool.append(events(self.whole + 1, self.whole + 1))

        assert spool.dropped == 6


class TestOutcomesInAFullSpool:
    whole = MAX_SEGMENTS * SEGMENT_EVENTS
    lost = 3 * SEGMENT_EVENTS  # of events, each 50th of which is an outcome

    def mixed(self, count: int, *, every: int = 50) -> tuple[Event, ...]:
        return tuple(
            replace(event(seq), outcome=Outcome.ACTIVE if seq % every == 0 else None) for seq in range(1, count + 1)
        )

    def outcomes(self, spool: Spool) -> list[int]:
        return [event.seq for event in spool.after(0) if event.outcome]

    def test_those_that_no_broker_has_taken_stay_in_order_when_all_else_goes(
        self, spool: Spool, memory_path: Path
    ) -> None:
        spool.append(self.mixed(self.whole + self.lost))

        kept = list(range(50, self.lost + 1, 50))
        assert numbers(spool) == [*kept, *range(self.lost + 1, self.whole + self.lost + 1)]
        assert spool.dropped == self.lost - len(kept)
        assert len(segments(memory_path)) == MAX_SEGMENTS
        assert numbers(spool_in(memory_path)) == numbers(spool)

    def test_those_that_a_broker_has_taken_go_with_the_others(self, spool: Spool) -> None:
        spool.append(self.mixed(self.whole))
        spool.acknowledge(100)

        spool.append((event(self.whole + 1),))

        assert self.outcomes(spool)[:2] == [150, 200]

    def test_killed_while_they_move_they_are_told_once(self, spool: Spool, memory_path: Path) -> None:
        spool.append(self.mixed(self.whole))
        with pytest.raises(Killed):
            spool_in(memory_path, KilledWhileRemoving()).append((event(self.whole + 1),))

        again = spool_in(memory_path)
        again.append((event(self.whole + 2),))

        assert self.outcomes(again) == list(range(50, self.whole + 1, 50))
        assert numbers(again) == sorted(set(numbers(again)))
        assert len(segments(memory_path)) == MAX_SEGMENTS

    def test_they_have_a_bound_of_their_own(self, spool: Spool) -> None:
        spool.append(self.mixed(self.whole + MAX_OUTCOMES + 4 * SEGMENT_EVENTS, every=1))

        assert len(numbers(spool)) <= self.whole + MAX_OUTCOMES
        assert spool.dropped == self.whole + MAX_OUTCOMES + 4 * SEGMENT_EVENTS - len(numbers(spool))


class KilledWhileRemoving(FaultyDisk):
    def remove(self, path: Path) -> None:
        raise Killed(f"before {path} is removed")
