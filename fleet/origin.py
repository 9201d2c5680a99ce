"""Serving blocks: who gets the next one, how fast, and the frames themselves.

Decides fairness (one block per device in turn, each device's queue bounded), the rate over all devices, and which
requests are ours. Pure: bytes come from a reader that is handed in, time is a number, frames are returned. What it
forgets or refuses, a device asks for again. `blockserver.py` puts it on the network.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeferry.wire.blocks import MAX_WINDOW, Block, BlockRequest

__all__ = ["BlobReader", "BlockQueue", "QueuedBlock", "TokenBucket", "frame_of", "is_for"]

MAX_DEVICES = 16_384
MAX_BLOCKS_PER_DEVICE = 4 * MAX_WINDOW  # a device asks for no more than its window; the rest is what it asked again

BlobReader = Callable[[str, int, int], bytes | None]
"""Returns the bytes of a blob, by its SHA-256, from an offset on, at most so many; None when it is not here."""


@dataclass(frozen=True, slots=True)
class QueuedBlock:
    """A block that a device waits for."""

    device: str
    transfer: int
    sha256: str
    block_bytes: int
    index: int


def is_for(request: BlockRequest, origin: str) -> bool:
    """Return whether ``origin`` answers ``request``: it is named, nobody is, or the one who was has not answered."""
    return request.origin in ("", origin) or request.again


def frame_of(block: QueuedBlock, read: BlobReader) -> bytes | None:
    """Return the frame that carries ``block``; None when the blob is not here or ends before it."""
    data = read(block.sha256, block.index * block.block_bytes, block.block_bytes)
    if not data:
        return None
    return Block(block.transfer, bytes.fromhex(block.sha256[:16]), block.index, data).to_bytes()


@dataclass
class BlockQueue:
    """What all devices wait for; hands out one block of each device in turn."""

    _waiting: OrderedDict[str, "_DeviceQueue"] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return sum(len(queue.blocks) for queue in self._waiting.values())

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, device: str, request: BlockRequest) -> int:
        """Queue what ``device`` asks for and is not yet queued; return how many blocks found no room."""
        queue = self._waiting.get(device)
        if queue is None:
            if len(self._waiting) >= MAX_DEVICES:
                return len(request.indices())
            queue = self._waiting[device] = _DeviceQueue()
        return sum(not queue.put(_block(device, request, index)) for index in request.indices())

    def take(self) -> QueuedBlock | None:
        """Return the next block, the device that waited longest first; None when nobody waits."""
        if not self._waiting:
            return None
        device, queue = self._waiting.popitem(last=False)
        block = queue.take()
        if queue.blocks:
            self._waiting[device] = queue  # to the end of the line
        return block

    def forget(self) -> None:
        """Drop everything: the connection was lost, and devices will ask again."""
        self._waiting.clear()


def _block(device: str, request: BlockRequest, index: int) -> QueuedBlock:
    return QueuedBlock(device, request.transfer, request.sha256, request.block_bytes, index)


@dataclass
class _DeviceQueue:
    blocks: deque[QueuedBlock] = field(default_factory=deque)
    queued: set[QueuedBlock] = field(default_factory=set)

    def put(self, block: QueuedBlock) -> bool:
        if block in self.queued:
            return True
        if len(self.blocks) >= MAX_BLOCKS_PER_DEVICE:
            return False
        self.blocks.append(block)
        self.queued.add(block)
        return True

    def take(self) -> QueuedBlock:
        block = self.blocks.popleft()
        self.queued.remove(block)
        return block


@dataclass
class TokenBucket:
    """A rate limit over everything that is sent.

    Args:
        bytes_per_s: The rate; 0 for none.
        burst_bytes: What may be sent at once after a pause.
    """

    bytes_per_s: float
    burst_bytes: float
    _tokens: float = 0.0
    _filled_at_s: float | None = None

    def delay_s(self, size_bytes: int, now_s: float) -> float:
        """Take ``size_bytes`` and return how long to wait before sending them; 0.0 when at once.

        The bucket may go below zero: a block larger than the burst is sent too, and paid for afterwards.
        """
        if not self.bytes_per_s:
            return 0.0
        elapsed_s = 0.0 if self._filled_at_s is None else max(now_s - self._filled_at_s, 0.0)
        full = self.burst_bytes if self._filled_at_s is None else self._tokens + elapsed_s * self.bytes_per_s
        self._filled_at_s = now_s
        self._tokens = min(full, self.burst_bytes) - size_bytes
        return max(-self._tokens / self.bytes_per_s, 0.0)
