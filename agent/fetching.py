"""Gets blobs onto the disk: which blob is pulled now, where its blocks go, and when nobody answers.

Batches wait in order, urgent ones (metadata) first; one blob is on its way at a time, which keeps memory at one
window, but for the last blocks of one and the first of the next: a round trip for each blob would be lost otherwise.
Owned by the main loop; sending is a callable, time is a number.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeferry.agent.errors import BlobMismatchError, DiskFullError, StoreError
from edgeferry.agent.pace import Pace
from edgeferry.agent.store import Partial, Store
from edgeferry.agent.transfer import Pull, Want
from edgeferry.wire.blocks import Block, BlockRequest
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import Code, Problem, Reason, TransferState

__all__ = ["Batch", "BatchDone", "BatchFailed", "Fetcher", "problem_of"]

logger = logging.getLogger(__name__)

MAX_ORIGINS = 64
MAX_MISMATCHES = 3  # of a whole blob whose blocks had no hashes of their own


@dataclass(frozen=True, slots=True)
class Batch:
    """Blobs that somebody waits for together.

    Attributes:
        owner: Who: a deployment's id, or a name of the caller's.
        urgent: True for metadata, which goes before models.
        optional: True when there is another way: it fails when no origin that is there has it.
    """

    owner: str
    wants: tuple[Want, ...]
    urgent: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class BatchDone:
    """Every blob of a batch is here; those with block hashes still have to be checked as a whole."""

    owner: str


@dataclass(frozen=True, slots=True)
class BatchFailed:
    """A batch cannot be completed."""

    owner: str
    problem: Problem


@dataclass(slots=True)
class _Running:
    pull: Pull
    partial: Partial
    pace: Pace = field(default_factory=Pace)


@dataclass(slots=True)
class _Origins:
    """Who serves blocks: the preferred one stays preferred for as long as it is there and gives no cause for blame."""

    online: set[str] = field(default_factory=set)
    preferred: str = ""
    blamed: Counter[str] = field(default_factory=Counter)

    def note(self, origin: str, *, is_online: bool) -> bool:
        """Note whether ``origin`` is there; tell whether that is news worth asking again for."""
        is_new = is_online and origin not in self.online
        if is_new and len(self.online) >= MAX_ORIGINS:
            return False
        self.online = self.online | {origin} if is_online else self.online - {origin}
        if self.preferred not in self.online:
            self._prefer()
        return is_new

    def blame(self, origin: str) -> None:
        """Prefer whoever was blamed least: ``origin`` sends wrong bytes, trickles or is silent."""
        if origin in self.online:
            self.blamed[origin] += 1
            self._prefer()

    def _prefer(self) -> None:
        self.preferred = min(self.online, key=lambda origin: (self.blamed[origin], origin), default="")


class Fetcher:
    """Pulls batches of blobs, one blob at a time.

    Args:
        store: Where blobs go.
        send: Publishes a block request.
        emit: Takes `BatchDone` and `BatchFailed`.
    """

    def __init__(
        self, store: Store, send: Callable[[BlockRequest], None], emit: Callable[[BatchDone | BatchFailed], None]
    ) -> None:
        self._store = store
        self._send = send
        self._emit = emit
        self._batches: list[Batch] = []
        self._running: dict[str, _Running] = {}
        self._origins = _Origins()
        self._transfers = 0
        self._mismatches: dict[str, int] = {}
        self._connected = False

    @property
    def obstacle(self) -> Problem | None:
        """Why nothing arrives although something is wanted; None when it does, or when nothing is."""
        current = self._current()
        if current is None or not self._connected:
            return None
        if current.pull.rejected:
            sha256 = current.pull.want.blob.sha256
            detail = f"an origin sends wrong bytes for blob {sha256[:12]}; they are dropped, and asked for again"
            return Problem(code=Code.DATA_LOSS, reason=Reason.BLOB_MISMATCH, detail=detail)
        if current.pace.slow_bytes_s is not None:
            detail = (
                f"blob {current.pull.want.blob.sha256[:12]} comes with {current.pace.slow_bytes_s:.0f} bytes/s from"
                f" {self._origins.preferred or 'an origin'}; look at its line, or run another origin"
            )
            return Problem(code=Code.UNAVAILABLE, reason=Reason.SLOW_TRANSFER, detail=detail)
        if not self._origins.online or current.pull.is_waiting:
            detail = "no origin answers; run `edgeferry push` or `edgeferry origin` where the fleet folder is"
            return Problem(code=Code.UNAVAILABLE, reason=Reason.WAITING_FOR_ORIGIN, detail=detail)
        return None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted."""
        return not self._batches

    def add(self, batch: Batch, now_s: float) -> None:
        """Want a batch; another one of the same owner is replaced."""
        self.cancel(batch.owner)
        urgent = [other for other in self._batches if other.urgent]
        others = [other for other in self._batches if not other.urgent]
        self._batches = [*urgent, batch, *others] if batch.urgent else [*urgent, *others, batch]
        self.pump(now_s)

    def cancel(self, owner: str) -> None:
        """Stop wanting a batch; what has arrived stays on the disk."""
        self._batches = [batch for batch in self._batches if batch.owner != owner]
        wanted = {want.blob.sha256 for batch in self._batches for want in batch.wants}
        for sha256 in [sha256 for sha256 in self._running if sha256 not in wanted]:
            self._close(sha256)

    def close(self) -> None:
        """Sync and close everything, for a clean end."""
        for sha256 in list(self._running):
            self._close(sha256)

    def set_connected(self, *, connected: bool, now_s: float) -> None:
        """Note whether asking makes sense; after a reconnect everything open is asked for again."""
        self._connected = connected
        if connected:
            self._nudge()
            self.pump(now_s)
        else:
            self._origins = _Origins()
            for running in self._running.values():
                running.pace.pause()

    def note_origin(self, origin: str, *, is_online: bool, now_s: float) -> None:
        """Note that an origin has come or gone."""
        if self._origins.note(origin, is_online=is_online):
            self._nudge()
        self.pump(now_s)

    def receive(self, frame: bytes, now_s: float) -> None:
        """Take a block that has arrived."""
        try:
            block = Block.from_bytes(frame)
        except WireError as err:
            logger.warning("dropped a block: %s", err)
            return
        for running in list(self._running.values()):
            write = running.pull.receive(block, now_s)
            if running.pull.suspect:
                self._origins.blame(running.pull.suspect)
                running.pull.suspect = ""
            if write:
                self._note_pace(running, len(write.data), now_s)
                self._guarded(running, lambda r=running, w=write: self._store.write_block(r.partial, w))  # type: ignore[misc]
        self.pump(now_s)

    def tick(self, now_s: float) -> None:
        """Ask again for what was lost."""
        for running in self._running.values():
            if running.pull.expire(now_s) and running.pull.is_silent:
                self._origins.blame(running.pull.origin)  # it would cost a time-out for each window
            if self._connected and self._origins.online:
                self._note_pace(running, 0, now_s)
        self.pump(now_s)

    def next_deadline_s(self) -> float | None:
        """Return when `tick` is due."""
        deadlines_s = [running.pull.next_deadline_s() for running in self._running.values()]
        return min((deadline_s for deadline_s in deadlines_s if deadline_s is not None), default=None)

    def progress_of(self, owner: str) -> TransferState | None:
        """Return how far the blob on its way for ``owner`` is."""
        for batch in self._batches:
            if batch.owner == owner:
                total = sum(want.blob.size_bytes for want in batch.wants)
                done = sum(self._done_bytes(want) for want in batch.wants)
                largest = max(batch.wants, key=lambda want: want.blob.size_bytes)
                return TransferState(
                    sha256=largest.blob.sha256, done_bytes=done, total_bytes=total, origin=self._origins.preferred
                )
        return None

    def pump(self, now_s: float) -> None:
        """Finish what is complete, begin what is next, and ask for what the window allows.

        While nobody has the blob that is next, the batches behind it need not wait.
        """
        position = 0
        while position < len(self._batches):
            batch = self._batches[position]
            missing = (want for want in batch.wants if not self._is_here(want))  # only as far as needed: it reads maps
            want = next(missing, None)
            if want is None:
                self._batches.remove(batch)
                self._emit(BatchDone(batch.owner))
            elif self._advance(want, now_s) or self._is_given_up(batch, want):
                position = 0
            elif self._running[want.blob.sha256].pull.is_waiting:
                position += 1
            else:
                if self._running[want.blob.sha256].pull.is_asked_for:
                    self._begin(next(missing, None), now_s)
                return

    def _begin(self, want: Want | None, now_s: float) -> None:
        """Ask for the first blocks of the next blob while the last ones of another are on their way."""
        if want and self._advance(want, now_s):
            self.pump(now_s)  # it is whole, or the disk has refused it

    def _is_given_up(self, batch: Batch, want: Want) -> bool:
        """Give up an optional batch of which no origin has a blob; tell whether it was."""
        if not (batch.optional and self._running[want.blob.sha256].pull.is_hopeless and self._origins.online):
            return False
        self._give_up(batch, _unanswered(want))
        return True

    # One blob

    def _current(self) -> _Running | None:
        for batch in self._batches[:1]:
            for want in batch.wants:
                if want.blob.sha256 in self._running:
                    return self._running[want.blob.sha256]
        return None

    def _is_here(self, want: Want) -> bool:
        return want.blob.sha256 not in self._running and self._store.is_complete(want)

    def _done_bytes(self, want: Want) -> int:
        running = self._running.get(want.blob.sha256)
        if running:
            return running.pull.done_bytes
        return want.blob.size_bytes if self._store.has_blob(want.blob) else 0

    def _advance(self, want: Want, now_s: float) -> bool:
        """Go on with ``want``; tell whether the list of batches has to be looked at again."""
        running = self._running.get(want.blob.sha256) or self._open(want)
        if running is None:
            return True
        if running.pull.is_done:
            self._finish(running)
            return True
        if self._connected:
            running.pull.origin = "" if running.pull.is_waiting else self._origins.preferred
            for request in running.pull.requests(now_s):
                self._send(request)
        return False

    def _open(self, want: Want) -> _Running | None:
        try:
            partial = self._store.open_partial(want)
        except StoreError as err:
            self._fail(want, err)
            return None
        self._transfers = (self._transfers + 1) % (1 << 16)
        running = _Running(Pull(want, partial.have, self._transfers), partial)
        self._running[want.blob.sha256] = running
        return running

    def _finish(self, running: _Running) -> None:
        want = running.pull.want
        self._close(want.blob.sha256)
        if (want.digests and want.blocks > 1) or self._is_failed(want):
            return  # a large one is read as a whole by a worker, when everything of its deployment is here
        try:
            self._store.check_blob(want.blob)
        except BlobMismatchError as err:
            count = self._mismatches.get(want.blob.sha256, 0) + 1
            self._mismatches[want.blob.sha256] = count
            if count >= MAX_MISMATCHES:
                self._fail(want, err)
        except StoreError as err:
            self._fail(want, err)

    def _is_failed(self, want: Want) -> bool:
        return not any(want in batch.wants for batch in self._batches)

    def _close(self, sha256: str) -> None:
        running = self._running.pop(sha256)
        self._guarded(running, lambda: self._store.close_partial(running.partial))

    def _note_pace(self, running: _Running, arrived_bytes: int, now_s: float) -> None:
        if running.pace.note(arrived_bytes, now_s):
            self._origins.blame(self._origins.preferred)

    def _guarded(self, running: _Running, change: Callable[[], None]) -> None:
        try:
            change()
        except StoreError as err:
            self._fail(running.pull.want, err)

    def _fail(self, want: Want, err: StoreError) -> None:
        """Give up every batch that wants a blob for which the disk has failed."""
        while batch := next((batch for batch in self._batches if want in batch.wants), None):
            self._give_up(batch, problem_of(err))

    def _give_up(self, batch: Batch, problem: Problem) -> None:
        self.cancel(batch.owner)  # closing may fail as well, and then comes here again
        self._emit(BatchFailed(batch.owner, problem))

    def _nudge(self) -> None:
        for running in self._running.values():
            running.pull.nudge()


def _unanswered(want: Want) -> Problem:
    detail = f"no origin gives blob {want.blob.sha256[:12]}, which can be done without"
    return Problem(code=Code.NOT_FOUND, reason=Reason.WAITING_FOR_ORIGIN, detail=detail)


def problem_of(err: StoreError) -> Problem:
    """Return ``err`` of the disk as it is reported."""
    match err:
        case DiskFullError():
            code, reason = Code.RESOURCE_EXHAUSTED, Reason.DISK_FULL
        case BlobMismatchError():
            code, reason = Code.DATA_LOSS, Reason.BLOB_MISMATCH
        case _:
            code, reason = Code.DATA_LOSS, Reason.DISK_FAULT
    return Problem(code=code, reason=reason, detail=str(err))
