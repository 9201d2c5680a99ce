"""What time it is, as far as trust is concerned.

A Pi has no battery clock, so the wall clock alone proves nothing until it was synchronised. Trusted time is the
largest of: that clock while it is called synchronised, the newest time that verified metadata has told, and
a day before which no edgeferry was built.
"""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["BUILT_MS", "is_synchronised", "now_ms", "trusted_now_ms"]

BUILT_MS = 1_767_225_600_000  # 2026-01-01: no edgeferry is older
TIMESYNC = Path("/run/systemd/timesync/synchronized")  # systemd-timesyncd(8)
_TIME_ERROR = 5  # adjtimex(2): "the system clock is not synchronized to a reliable server"


class _Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 252)]  # struct timex is at most 208 bytes


def now_ms() -> int:
    """Return the wall clock in unix milliseconds."""
    return time.time_ns() // 1_000_000


def kernel_clock_state() -> int:
    """Return what adjtimex(2) says: 0 to 4 while the clock is synchronised, 5 when it is not, -1 when it is refused."""
    libc = ctypes.CDLL(None)
    return int(libc.adjtimex(ctypes.byref(_Timex()))) if hasattr(libc, "adjtimex") else -1


def trusted_now_ms(clock_ms: int, issued_ms: int, *, synchronised: bool) -> int:
    """Return the time against which the expiry of metadata is judged, in unix milliseconds."""
    return max(clock_ms if synchronised else 0, issued_ms, BUILT_MS)


def is_synchronised(witness: Path = TIMESYNC, kernel: Callable[[], int] = kernel_clock_state) -> bool:
    """Tell whether systemd's time service or the kernel calls the clock synchronised.

    Args:
        witness: The file that the time service makes.
        kernel: Returns the state of the kernel's clock; negative when it may not be asked.
    """
    return witness.exists() or 0 <= kernel() < _TIME_ERROR
