"""Which blocks of one blob to ask for now: window, loss, resume. Pure: time is a number, sending is the caller's.

The window is counted in blocks. It starts at 4 and doubles with each round trip until the first loss (slow start, RFC
5681, section 3.1); then it grows by one per round trip without loss, is halved once per round trip with loss, and stays
within 1 and 16: on a line of 100 ms and 20 Mbit/s 8 blocks of 64 KiB reach 97 % of it.
The time-out follows the smoothed round trip (RFC 6298, section 2), and a block that was asked for twice gives no
sample of it (Karn's algorithm, section 3).
"""

import hashlib
from collections import deque
from dataclasses import dataclass

from edgeferry.wire.blocks import MAX_WINDOW, Block, BlockRequest, bitmap_of, block_count
from edgeferry.wire.desired import BlobRef

__all__ = ["BlockMap", "Pull", "Want", "Write"]

FIRST_WINDOW = 4.0
FIRST_TIMEOUT_S = 1.0
MIN_TIMEOUT_S = 0.2
MAX_TIMEOUT_S = 30.0
SILENT_ROUNDS = 2  # this many time-outs without any block in between: nobody serves
HOPELESS_ROUNDS = 6  # and so many, a minute or less: nobody has it
HOPELESS_REJECTED = 3  # wrong blocks one after the other
MAX_SPAN = 64  # blocks that one request may span


@dataclass(frozen=True, slots=True)
class Want:
    """A blob to pull.

    Attributes:
        blob: Its name and size.
        block_bytes: Size of a block; the last one may be shorter.
        digests: SHA-256 of every block, 32 bytes each, in order; empty when only the whole blob's is known.
    """

    blob: BlobRef
    block_bytes: int
    digests: bytes = b""

    @classmethod
    def of(cls, blob: BlobRef, block_bytes: int) -> "Want":
        """Return the want for a blob of whose blocks nothing is known; a single block has the blob's own hash."""
        is_single = 0 < blob.size_bytes <= block_bytes
        return cls(blob, block_bytes, bytes.fromhex(blob.sha256) if is_single else b"")

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return block_count(self.blob.size_bytes, self.block_bytes)

    def length_of(self, index: int) -> int:
        """Return the size of block ``index`` in bytes."""
        return min(self.block_bytes, self.blob.size_bytes - index * self.block_bytes)

    def is_proven(self, index: int, data: bytes | memoryview) -> bool:
        """Tell whether ``data`` may be block ``index``: its size, and its hash where that is known."""
        digest = self.digests[32 * index : 32 * index + 32]
        return len(data) == self.length_of(index) and (not digest or hashlib.sha256(data).digest() == digest)


@dataclass(frozen=True, slots=True)
class Write:
    """A block that was proven and belongs at ``offset`` of the blob."""

    index: int
    offset: int
    data: bytes | memoryview


class BlockMap:
    """Which blocks of a blob are here: one bit each, the first in the highest bit of the first byte."""

    def __init__(self, blocks: int, bits: bytes = b"") -> None:
        self.blocks = blocks
        self._bits = bytearray(bits.ljust((blocks + 7) // 8, b"\0")[: (blocks + 7) // 8])
        self.count = sum(self.has(index) for index in range(blocks))

    def has(self, index: int) -> bool:
        """Tell whether block ``index`` is here."""
        return bool(self._bits[index // 8] >> (7 - index % 8) & 1)

    def add(self, index: int) -> None:
        """Note that block ``index`` is here."""
        if not self.has(index):
            self._bits[index // 8] |= 1 << (7 - index % 8)
            self.count += 1

    def to_bytes(self) -> bytes:
        """Return the bits."""
        return bytes(self._bits)


@dataclass(slots=True)
class _Asked:
    at_s: float
    again: bool
    origin: str


class Pull:
    """One blob on its way. Not thread-safe; the main loop owns it.

    Attributes:
        want: The blob.
        have: The blocks that are here; the caller may persist it at any time.
        origin: Who is asked first; empty for whoever can.
        rejected: Blocks that were dropped as wrong since the last right one.
        suspect: The origin from which a wrong block seems to have come, until the caller takes it away; empty for none.
            What was asked for again may come from anybody, so it makes nobody a suspect.
    """

    def __init__(self, want: Want, have: BlockMap, transfer: int) -> None:
        self.want = want
        self.have = have
        self.origin = ""
        self.rejected = 0
        self.suspect = ""
        self._transfer = transfer
        self._prefix = bytes.fromhex(want.blob.sha256)[:8]
        self._cursor = 0
        self._lost: deque[int] = deque()
        self._asked: dict[int, _Asked] = {}
        self._window = FIRST_WINDOW
        self._halved_s = float("-inf")
        self._smoothed_s: float | None = None
        self._variation_s = 0.0
        self._timeout_s = FIRST_TIMEOUT_S
        self._silent_rounds = 0

    @property
    def is_done(self) -> bool:
        """Whether every block is here."""
        return self.have.count == self.want.blocks

    @property
    def is_waiting(self) -> bool:
        """Whether nobody has answered for a while."""
        return self._silent_rounds >= SILENT_ROUNDS

    @property
    def is_asked_for(self) -> bool:
        """Whether every block is here or on its way."""
        return self._cursor >= self.want.blocks and not self._lost

    @property
    def is_silent(self) -> bool:
        """Whether all that was asked for last has gone unanswered."""
        return self._silent_rounds > 0

    @property
    def is_hopeless(self) -> bool:
        """Whether nothing right has come for so long that another way is better, if there is one."""
        return self._silent_rounds >= HOPELESS_ROUNDS or self.rejected >= HOPELESS_REJECTED

    @property
    def done_bytes(self) -> int:
        """Bytes that are here, to the block."""
        return min(self.have.count * self.want.block_bytes, self.want.blob.size_bytes)

    def requests(self, now_s: float) -> list[BlockRequest]:
        """Return what to ask for now, and note it as asked.

        Requests are bundled: nothing is said until half of the window is free.
        """
        window = 1 if self.is_waiting else int(self._window)
        room = window - len(self._asked)
        if room <= 0 or (self._asked and room < (window + 1) // 2):
            return []
        again = self._take_lost(room)
        fresh = self._take_fresh(room - len(again))
        for indices, is_again in ((again, True), (fresh, False)):
            for index in indices:
                self._asked[index] = _Asked(now_s, is_again, self.origin)
        return [*self._bundle(again, again=True), *self._bundle(fresh, again=False)]

    def receive(self, block: Block, now_s: float) -> Write | None:
        """Return what to write, or None when ``block`` is a duplicate, of another blob, or wrong."""
        index, want = block.index, self.want
        if not self._is_ours(block) or self.have.has(index):
            return None
        if not want.is_proven(index, block.data):
            self.rejected += 1
            asked = self._asked.get(index)
            if asked and not asked.again:
                self.suspect = asked.origin
            return None
        self._note_arrival(index, now_s)
        self.have.add(index)
        return Write(index, index * want.block_bytes, block.data)

    def expire(self, now_s: float) -> bool:
        """Take back what was asked for too long ago, so that it is asked for again; tell whether there was any."""
        late = [index for index, asked in self._asked.items() if asked.at_s + self._timeout_s <= now_s]
        if not late:
            return False
        self._take_back(late)
        if len(self._asked) == 0:
            self._silent_rounds += 1
        self._timeout_s = min(self._timeout_s * 2, MAX_TIMEOUT_S)
        self._halve(now_s)
        return True

    def nudge(self) -> None:
        """Ask for everything again at once: somebody who may serve has come."""
        self._take_back(list(self._asked))
        self._timeout_s = FIRST_TIMEOUT_S
        self._silent_rounds = 0

    def next_deadline_s(self) -> float | None:
        """Return when `expire` is due, or None when nothing is asked for."""
        first = min((asked.at_s for asked in self._asked.values()), default=None)
        return None if first is None else first + self._timeout_s

    # Asking

    def _take_lost(self, room: int) -> list[int]:
        taken: list[int] = []
        while self._lost and len(taken) < room:
            index = self._lost.popleft()
            if not self.have.has(index):
                taken.append(index)
        return sorted(taken)

    def _take_fresh(self, room: int) -> list[int]:
        taken: list[int] = []
        while self._cursor < self.want.blocks and len(taken) < room:
            if not self.have.has(self._cursor):
                taken.append(self._cursor)
            self._cursor += 1
        return taken

    def _bundle(self, indices: list[int], *, again: bool) -> list[BlockRequest]:
        requests = []
        while indices:
            end = next((i for i, index in enumerate(indices) if index - indices[0] >= MAX_SPAN), len(indices))
            first, count, bitmap = bitmap_of(indices[:end])
            indices = indices[end:]
            requests.append(
                BlockRequest(
                    v=1,
                    transfer=self._transfer,
                    sha256=self.want.blob.sha256,
                    block_bytes=self.want.block_bytes,
                    first=first,
                    count=count,
                    bitmap=bitmap,
                    origin=self.origin,
                    again=again,
                )
            )
        return requests

    # Receiving

    def _is_ours(self, block: Block) -> bool:
        return (
            block.transfer == self._transfer and block.sha256_prefix == self._prefix and block.index < self.want.blocks
        )

    def _note_arrival(self, index: int, now_s: float) -> None:
        asked = self._asked.pop(index, None)
        self._silent_rounds = 0
        self.rejected = 0
        growth = 1 if self._halved_s == float("-inf") else 1 / self._window
        self._window = min(self._window + growth, float(MAX_WINDOW))
        if asked and not asked.again:
            self._sample(now_s - asked.at_s)

    def _sample(self, round_trip_s: float) -> None:
        if self._smoothed_s is None:
            self._smoothed_s, self._variation_s = round_trip_s, round_trip_s / 2
        else:
            self._variation_s += (abs(self._smoothed_s - round_trip_s) - self._variation_s) / 4
            self._smoothed_s += (round_trip_s - self._smoothed_s) / 8
        timeout_s = self._smoothed_s + 4 * self._variation_s
        self._timeout_s = min(max(timeout_s, MIN_TIMEOUT_S), MAX_TIMEOUT_S)

    # Losing

    def _take_back(self, indices: list[int]) -> None:
        for index in indices:
            del self._asked[index]
        self._lost.extend(sorted(indices))

    def _halve(self, now_s: float) -> None:
        if now_s - self._halved_s >= (self._smoothed_s or 0.0):
            self._window = max(self._window / 2, 1.0)
            self._halved_s = now_s
