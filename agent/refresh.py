"""Following the doorbell: from a timestamp to verified wishes. Pure.

    (idle) -- doorbell --> ASKING -- missing --> FETCHING -- fetched --> ASKING -- resolved or refused --> (idle)

The newest timestamp wins: one that comes in between is looked at when the running look is over, and a look that
waits for blobs is begun anew with it. Roots may be on their way still; they are waited for ``ROOTS_PATIENCE_MS``.
"""

from dataclasses import dataclass

from edgeferry.wire.desired import BlobRef

__all__ = ["FetchBlobs", "Look", "Refresh"]

ROOTS_PATIENCE_MS = 3_000


@dataclass(frozen=True, slots=True)
class Look:
    """Have the trust client look at ``timestamp``; ``final`` means that no more roots are to be waited for."""

    timestamp: bytes
    final: bool


@dataclass(frozen=True, slots=True)
class FetchBlobs:
    """Get these blobs of metadata."""

    blobs: tuple[BlobRef, ...]


class Refresh:
    """The one refresh under way; owned by the main loop."""

    def __init__(self) -> None:
        self._newest: bytes | None = None
        self._verified: bytes | None = None  # whose blobs are being fetched: its signature was good
        self._was_refused = False
        self._seen: bytes | None = None
        self._looking = False
        self._fetching = False
        self._roots_until_ms: int | None = None
        self._root_came = False
        self._final = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._looking and not self._fetching and self._roots_until_ms is None

    def ring(self, timestamp: bytes) -> Look | None:
        """Note the doorbell; return what to do, or None when it is known or something is under way."""
        self._newest = timestamp
        if self._looking or timestamp == self._seen:
            return None
        return self._look()

    def look_again(self) -> Look | None:
        """Look at the newest timestamp once more: time has passed, or the agent has started."""
        return self._look() if self.is_idle else None

    def missing(self, blobs: tuple[BlobRef, ...], roots: tuple[int, ...], now_ms: int) -> Look | FetchBlobs | None:
        """Go on after a look that lacked blobs or roots."""
        self._looking = False
        if self._newest != self._seen or (roots and self._root_came):
            return self._look()
        if roots:
            self._roots_until_ms = now_ms + ROOTS_PATIENCE_MS
            return None
        self._fetching = True
        self._verified = self._seen
        return FetchBlobs(blobs)

    def fetched(self) -> Look | None:
        """Go on after the blobs have arrived."""
        if not self._fetching:
            return None
        return self._look()

    def root_arrived(self) -> Look | None:
        """Go on when a root has arrived that was waited for; one that comes during a look is looked at after it."""
        self._root_came = True
        is_wanted = self._roots_until_ms is not None or (self.is_idle and self._was_refused)
        return self._look() if is_wanted else None

    def tick(self, now_ms: int) -> Look | None:
        """Give up on roots that do not come."""
        if self._roots_until_ms is None or now_ms < self._roots_until_ms:
            return None
        self._final = True
        return self._look()

    def taken(self) -> Look | None:
        """Note that the timestamp was believed; go on with one that came in between."""
        self._looking = self._fetching = self._was_refused = False
        self._verified = None
        return self._look() if self._newest != self._seen else None

    def refused(self) -> Look | None:
        """Note that the timestamp was refused; go on with one that came in between, else with what it interrupted."""
        self._looking = self._fetching = False
        self._was_refused = True
        if self._newest == self._seen and self._verified not in {None, self._seen}:
            self._newest = self._verified
        else:
            self._verified = None
        return self._look() if self._newest != self._seen else None

    def next_deadline_ms(self) -> int | None:
        """Return when `tick` is due."""
        return self._roots_until_ms

    def _look(self) -> Look | None:
        if self._newest is None:
            return None
        if self._newest != self._seen:
            self._final = False
        self._looking, self._fetching, self._roots_until_ms = True, False, None
        self._root_came = False
        self._seen = self._newest
        return Look(self._newest, self._final)
