"""What time it is, as far as trust is concerned."""

import time
from pathlib import Path

import pytest

from edgeferry.agent.clock import BUILT_MS, is_synchronised, now_ms, trusted_now_ms

EARLY, LATE, LATER = BUILT_MS - 1, BUILT_MS + 1000, BUILT_MS + 2000


@pytest.mark.parametrize(
    ("clock_ms", "issued_ms", "synchronised", "trusted_ms"),
    [
        (LATE, 0, True, LATE),
        (LATE, LATER, True, LATER),
        (LATER, LATE, True, LATER),
        (LATER, LATE, False, LATE),
        (LATER, 0, False, BUILT_MS),
        (EARLY, 0, True, BUILT_MS),
        (EARLY, EARLY, False, BUILT_MS),
    ],
)
def test_trusted_time_is_the_largest_of_what_can_be_trusted(
    clock_ms: int, issued_ms: int, synchronised: bool, trusted_ms: int
) -> None:
    assert trusted_now_ms(clock_ms, issued_ms, synchronised=synchronised) == trusted_ms


def test_the_wall_clock_is_told_in_milliseconds() -> None:
    assert abs(now_ms() - time.time() * 1000) < 1000


def test_the_kernel_says_whether_the_clock_is_synchronised() -> None:
    assert is_synchronised() in {True, False}


def test_the_time_service_of_systemd_is_believed_where_the_kernel_may_not_be_asked(tmp_path: Path) -> None:
    witness = tmp_path / "synchronized"

    assert not is_synchronised(witness, kernel=lambda: -1)
    witness.touch()
    assert is_synchronised(witness, kernel=lambda: -1)


@pytest.mark.parametrize(("state", "verdict"), [(0, True), (4, True), (5, False), (-1, False)])
def test_the_kernel_is_asked_otherwise(tmp_path: Path, *, state: int, verdict: bool) -> None:
    assert is_synchronised(tmp_path / "none", kernel=lambda: state) is verdict
