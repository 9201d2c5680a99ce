"""Makes a blob from an older one and a difference, as far as the difference tells the truth.

What is made is compared with the hashes of the blocks in the signed manifest, and what is right goes into the partial
blob, as if it had come from an origin. So a kill costs at most a repetition, and of a difference that lies, or a base
that has rotted, exactly the blocks that it spoilt are fetched. Runs in the lane ``deploy``.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from edgeferry.agent.store import Store
from edgeferry.agent.transfer import Want, Write
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import DifferenceRef
from edgeferry.wire.difference import new_bytes

__all__ = ["best_difference", "rebuild"]

logger = logging.getLogger(__name__)


def best_difference(
    want: Want, offered: Iterable[DifferenceRef], has: Callable[[str], bool], left_bytes: int
) -> DifferenceRef | None:
    """Return the smallest difference by which ``want`` can be made, or None where fetching what is left is no more.

    Args:
        want: What is wanted.
        offered: What the signed metadata offers, for this blob and for others.
        has: Tells whether a blob is on the disk.
        left_bytes: What would have to be fetched otherwise.
    """
    usable = [one for one in offered if one.made == want.blob.sha256 and one.size_bytes < left_bytes and has(one.base)]
    return min(usable, key=lambda one: one.size_bytes, default=None)


def rebuild(store: Store, want: Want, difference: DifferenceRef, is_cancelled: Callable[[], bool]) -> None:
    """Fill the partial blob of ``want`` with every block that ``difference`` gives rightly.

    Raises:
        StoreError: The disk refused to take it.
    """
    partial = store.open_partial(want)
    try:
        for index, block in enumerate(_blocks(_made(store, want, difference), want.block_bytes)):
            if is_cancelled():
                return
            if not partial.have.has(index) and want.is_proven(index, block):
                partial.have.add(index)
                store.write_block(partial, Write(index, index * want.block_bytes, block))
        logger.info(
            "blob %s: %d of %d blocks made from %s and %d bytes of difference",
            *(want.blob.sha256[:12], partial.have.count, want.blocks, difference.base[:12], difference.size_bytes),
        )
    finally:
        store.close_partial(partial)


def _made(store: Store, want: Want, difference: DifferenceRef) -> Iterator[bytes]:
    """Yield what the difference gives, to its end or to where it cannot be followed any more."""
    try:
        with ExitStack() as files:
            base, packed = (
                files.enter_context(store.blob_path(sha256).open("rb", buffering=0))
                for sha256 in (difference.base, difference.sha256)
            )
            yield from new_bytes(
                packed.read,
                lambda offset, count: os.pread(base.fileno(), count, offset),
                old_count=os.fstat(base.fileno()).st_size,
                new_count=want.blob.size_bytes,
            )
    except (OSError, WireError) as err:
        logger.warning("blob %s: the rest of it is fetched: %s", want.blob.sha256[:12], err)


def _blocks(pieces: Iterable[bytes], block_bytes: int) -> Iterator[bytes]:
    """Yield what ``pieces`` hold in blocks of ``block_bytes``, and what is left at the end."""
    left = bytearray()
    for piece in pieces:
        left += piece
        while len(left) >= block_bytes:
            yield bytes(left[:block_bytes])
            del left[:block_bytes]
    if left:
        yield bytes(left)
