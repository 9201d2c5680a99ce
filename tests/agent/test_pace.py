"""Slow retrieval: what is noticed, and what is not taken for it."""

from edgeferry.agent.pace import SLOW_BYTES_S, WINDOW_S, Pace

BLOCK = 64 * 1024


def test_a_trickle_is_slow_at_the_end_of_each_window() -> None:
    pace = Pace()

    told = [pace.note(BLOCK if at % 20 == 0 else 0, float(at)) for at in range(1, 91)]

    assert [at for at, is_slow in enumerate(told, start=1) if is_slow] == [31, 61]
    assert pace.slow_bytes_s is not None
    assert 0 < pace.slow_bytes_s < SLOW_BYTES_S


def test_what_comes_as_over_a_line_is_not() -> None:
    pace = Pace()

    assert not any(pace.note(BLOCK, float(at)) for at in range(200))
    assert pace.slow_bytes_s is None


def test_silence_is_not_slow_but_nobody() -> None:
    pace = Pace()

    assert not any(pace.note(0, float(at)) for at in range(200))


def test_it_is_slow_no_more_when_a_window_was_not() -> None:
    pace = Pace()
    pace.note(0, 0.0)
    assert pace.note(1, WINDOW_S)

    pace.note(10**9, 2 * WINDOW_S)

    assert pace.slow_bytes_s is None


def test_a_time_without_connection_does_not_count() -> None:
    pace = Pace()
    pace.note(BLOCK, 0.0)

    pace.pause()

    assert not pace.note(BLOCK, 1000.0)
    assert pace.slow_bytes_s is None
