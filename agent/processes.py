"""What is known of another process on this machine."""

import psutil

__all__ = ["started_ms"]


def started_ms(pid: int) -> int:
    """Return when process ``pid`` began, in unix milliseconds; 0 when it has ended or may not be looked at."""
    try:
        return int(psutil.Process(pid).create_time() * 1000)
    except psutil.Error:
        return 0
