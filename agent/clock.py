"""What time it is, as far as trust is concerned.

A Pi has no battery clock, so the wall clock alone proves nothing until it was synchronised. Trusted time is the
largest of: that clock while the kernel calls it synchronised, the newest time that verified metadata has told, and
a day before which no edgeferry was built.
"""

import ctypes
import time

__all__ = ["BUILT_MS", "is_synchronised", "now_ms", "trusted_now_ms"]

BUILT_MS = 1_767_225_600_000  # 2026-01-01: no edgeferry is older
_TIME_ERROR = 5  # adjtimex(2): "the system clock is not synchronized to a reliable server"


class _Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 252)]  # struct timex is at most 208 bytes


def now_ms() -> int:
    """Return the wall clock in unix milliseconds."""
    return time.time_ns() // 1_000_000


def trusted_now_ms(clock_ms: int, issued_ms: int, *, synchronised: bool) -> int:
    """Return the time against which the expiry of metadata is judged, in unix milliseconds."""
    return max(clock_ms if synchronised else 0, issued_ms, BUILT_MS)


def is_synchronised() -> bool:
    """Tell whether the kernel calls the clock synchronised."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(_Timex()))
    except (AttributeError, OSError):
        return False
    return 0 <= int(state) < _TIME_ERROR
