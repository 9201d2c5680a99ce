"""How samples wait, pass, and are put together."""

import threading

from edgeferry.agent.serving.pipelines.intake import Gate, Intake
from edgeferry.agent.serving.pipelines.slot import Sample, Slot
from edgeferry.agent.serving.pipelines.windows import Windows


class TestSlot:
    def test_the_oldest_makes_room_for_the_newest_and_is_counted(self) -> None:
        slot = Slot(2)
        for number in range(5):
            slot.put(Sample(b"%d" % number, 0))

        taken = [slot.take(0.0), slot.take(0.0), slot.take(0.0)]

        assert [sample.data if sample else None for sample in taken] == [b"3", b"4", None]
        assert (slot.taken, slot.dropped) == (5, 3)

    def test_who_waits_is_woken_by_a_sample(self) -> None:
        slot, found = Slot(1), []
        thread = threading.Thread(target=lambda: found.append(slot.take(30.0)))
        thread.start()

        slot.put(Sample(b"x", 7))

        thread.join(10)
        assert found == [Sample(b"x", 7)]

    def test_who_waits_is_woken_by_the_end(self) -> None:
        slot, found = Slot(1), []
        thread = threading.Thread(target=lambda: found.append(slot.take(30.0)))
        thread.start()

        slot.close()

        thread.join(10)
        assert found == [None]


class TestGate:
    def test_without_a_limit_everything_passes(self) -> None:
        gate = Gate(None)

        assert all(gate.passes(0.0) for _ in range(9))

    def test_the_rate_is_kept_on_average(self) -> None:
        gate = Gate(2.0)

        passed = [moment for moment in range(1000) if gate.passes(moment * 0.03)]

        assert len(passed) == 60  # of 30 seconds at 2 Hz

    def test_what_was_missed_is_not_caught_up_with(self) -> None:
        gate = Gate(1.0)
        gate.passes(0.0)

        assert [gate.passes(100.0), gate.passes(100.1), gate.passes(101.0)] == [True, False, True]


def test_an_intake_counts_what_came_too_soon() -> None:
    slot = Slot(9)
    intake = Intake(slot, Gate(1.0), now_ms=lambda: 77, now_s=iter([0.0, 0.5, 1.0]).__next__)

    for name in ("a", "b", "c"):
        intake.offer(b"", name)

    assert (slot.taken, intake.left_out) == (2, 1)
    assert slot.take(0.0) == Sample(b"", 77, "a")


class TestWindows:
    def test_rows_become_samples_that_overlap(self) -> None:
        samples: list[tuple[bytes, str]] = []
        windows = Windows(3, 2, lambda data, origin: samples.append((data, origin)))

        for row in b"abcdefg":
            windows.offer(bytes([row]), "t")

        assert samples == [(b"a\nb\nc", "t"), (b"c\nd\ne", "t"), (b"e\nf\ng", "t")]
