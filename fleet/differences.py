"""From two versions of a blob to the difference between them. Pure.

Decides what is compared with what. In a model each constant tensor is compared with the one of the same name and size,
or, where names have changed, with the next one of the same size: most values of a retrained tensor are a step or two
beside those of before, so what has to be added to its bytes packs well. What lies between tensors, and a file that is
no model, is compared with what stands in the same place of the older file, or around the same bytes.
"""

from collections import defaultdict, deque
from collections.abc import Iterator

from edgeferry.fleet.tensors import Constant, constants_in
from edgeferry.wire.difference import Operation, Piece, difference_of

__all__ = ["MAX_BYTES", "MAX_SHARE", "difference_between", "worthwhile_difference"]

MAX_BYTES = 256 << 20  # both versions lie in memory; larger ones are sent whole
MAX_SHARE = 0.9  # of the blob: what saves less is not worth a device's time
SEARCHED_BYTES = 8 << 20  # of a file, outside of tensors: some seconds, and 32 MB of anchors

_ANCHOR_BYTES = 32  # so many equal bytes are no chance
_STEP_BYTES = 64
_SAME_PLACE = 0.9  # this share of equal bytes: nothing was shifted
_ALIKE = 0.5  # and this one: still the same


def worthwhile_difference(old: bytes, new: bytes) -> bytes | None:
    """Return the difference from ``old`` to ``new``; None where it saves little, or the files are too large."""
    if max(len(old), len(new)) > MAX_BYTES:
        return None
    difference = difference_between(old, new)
    return difference if len(difference) <= MAX_SHARE * len(new) else None


def difference_between(old: bytes, new: bytes) -> bytes:
    """Return the difference from ``old`` to ``new``, whatever it saves."""
    return difference_of(old, new, _pieces(old, new))


def _pieces(old: bytes, new: bytes) -> Iterator[Piece]:
    """Yield where all of ``new`` comes from."""
    before = constants_in(old)
    search = _Search(old, new, before)
    at = old_at = 0
    for ours, theirs in _pairs(before, constants_in(new)):
        if theirs.offset < at:
            continue  # two tensors share their values
        yield from _between(search, at, theirs.offset, old_at)
        yield search.compared(theirs.offset, theirs.count, ours.offset)
        at, old_at = theirs.offset + theirs.count, ours.offset + ours.count
    yield from _between(search, at, len(new), old_at)


def _pairs(old: list[Constant], new: list[Constant]) -> Iterator[tuple[Constant, Constant]]:
    """Yield what each constant of ``new`` is compared with; one without a counterpart is left out."""
    named: dict[tuple[bytes, int], deque[Constant]] = defaultdict(deque)
    for constant in old:
        named[constant.name, constant.count].append(constant)
    same_name = [same.popleft() if (same := named.get((one.name, one.count))) else None for one in new]
    sized: dict[int, deque[Constant]] = defaultdict(deque)
    for constant in sorted((one for rest in named.values() for one in rest), key=lambda one: one.offset):
        sized[constant.count].append(constant)
    for one, found in zip(new, same_name, strict=True):
        partner = found or (sized[one.count].popleft() if sized[one.count] else None)
        if partner:
            yield partner, one


def _between(search: "_Search", begin: int, end: int, old_begin: int) -> Iterator[Piece]:
    """Yield where the bytes from ``begin`` to ``end`` come from, which belong to no tensor that has a counterpart."""
    count = end - begin
    if not count:
        return
    if search.is_alike(begin, count, old_begin, _SAME_PLACE):
        yield search.compared(begin, count, old_begin)
    elif search.affords(count):
        yield from search.pieces(begin, end)
    else:
        yield Piece(Operation.INSERT, count)


class _Search:
    """Finds where bytes of ``new`` stand in ``old``, outside of the tensors of that."""

    def __init__(self, old: bytes, new: bytes, tensors: list[Constant]) -> None:
        self._old = old
        self._new = new
        self._tensors = tensors
        self._left_bytes = SEARCHED_BYTES
        self._anchors: dict[bytes, int] = {}

    def compared(self, begin: int, count: int, old_begin: int) -> Piece:
        """Return the piece of ``new`` that is compared with as many bytes of ``old``."""
        is_same = self._new[begin : begin + count] == self._old[old_begin : old_begin + count]
        return Piece(Operation.COPY if is_same else Operation.ADD, count, old_begin)

    def is_alike(self, begin: int, count: int, old_begin: int, share: float) -> bool:
        """Tell whether at least this share of so many bytes is the same in both."""
        ours, theirs = self._old[old_begin : old_begin + count], self._new[begin : begin + count]
        if len(ours) < count:
            return False
        return (int.from_bytes(ours) ^ int.from_bytes(theirs)).to_bytes(count).count(0) >= share * count

    def affords(self, count: int) -> bool:
        """Tell whether so many bytes more may be searched for, and count them."""
        self._left_bytes -= count
        return self._left_bytes >= 0

    def pieces(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield where the bytes of ``new`` from ``begin`` to ``end`` come from: runs around anchors, and the rest."""
        self._anchors = self._anchors or self._found_anchors()
        at = told = begin
        while at + _ANCHOR_BYTES <= end:
            old_at = self._anchors.get(self._new[at : at + _ANCHOR_BYTES])
            if old_at is None:
                at += 1
                continue
            at, old_at = self._first_same(at, old_at, told)
            if at > told:
                yield Piece(Operation.INSERT, at - told)
            count = self._alike_from(at, old_at, end)
            yield self.compared(at, count, old_at)
            at = told = at + count
        if end > told:
            yield Piece(Operation.INSERT, end - told)

    def _found_anchors(self) -> dict[bytes, int]:
        """Return the places of runs of bytes in ``old``, the first of each."""
        anchors: dict[bytes, int] = {}
        begin, left_bytes = 0, SEARCHED_BYTES
        for constant in [*self._tensors, Constant(b"", len(self._old), 0)]:
            end = min(constant.offset, begin + left_bytes)
            for at in range(begin, end - _ANCHOR_BYTES + 1, _ANCHOR_BYTES):
                anchors.setdefault(self._old[at : at + _ANCHOR_BYTES], at)
            left_bytes -= max(end - begin, 0)
            begin = constant.offset + constant.count
        return anchors

    def _first_same(self, at: int, old_at: int, first: int) -> tuple[int, int]:
        """Return where the same bytes begin that go on at ``at``, but not before ``first``."""
        while at > first and old_at and self._new[at - 1] == self._old[old_at - 1]:
            at, old_at = at - 1, old_at - 1
        return at, old_at

    def _alike_from(self, at: int, old_at: int, end: int) -> int:
        """Return how many bytes from here on are alike."""
        most = min(end - at, len(self._old) - old_at)
        count = 0
        while count < most:
            step = min(_STEP_BYTES, most - count)
            if not self.is_alike(at + count, step, old_at + count, _ALIKE):
                break
            count += step
        return count
