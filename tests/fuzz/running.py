"""Runs inputs through a target: only the errors that it documents may come out, in bounded time and memory."""

import resource
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType

from tests.fuzz.inputs import input_of
from tests.fuzz.targets import Target

__all__ = ["Finding", "bounded_memory", "try_input", "try_numbers"]

MAX_INPUT_S = 5.0  # of processor time: no input here is larger than a few hundred KiB
MEMORY_BYTES = 1 << 30  # beyond what is in use when the first input comes


@dataclass(frozen=True)
class Finding:
    """An input that a parser did not refuse in order."""

    target: str
    data: bytes
    error: str


class TooSlowError(BaseException):
    """A parser has taken too long; a base exception, so that nothing catches it on the way."""


def try_input(target: Target, data: bytes) -> Finding | None:
    """Return what is wrong with how ``target`` takes ``data``; None when all is well."""
    signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_INPUT_S)
    try:
        target.parse(data)
    except target.errors:
        return None
    except (Exception, TooSlowError) as err:  # noqa: BLE001 - any other error is a finding
        return Finding(target.name, data, f"{type(err).__name__}: {err}"[:300])
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def try_numbers(target: Target, numbers: Iterable[int]) -> Finding | None:
    """Return the first finding among these inputs of ``target``."""
    for number in numbers:
        finding = try_input(target, input_of(target.name, target.seeds, number))
        if finding:
            return finding
    return None


def bounded_memory() -> None:
    """From now on, have this process get a MemoryError in the place of more than `MEMORY_BYTES` more."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - not a file that lasts
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, resource.RLIM_INFINITY))


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {MAX_INPUT_S:.0f} s of processor time, at {time.process_time():.0f} s")
