"""Events on disk until a broker has acknowledged them, and for a while after, so that they can be said again.

    spool/<first seq, 12 digits>.jsonl    a segment: one event per line, in order
    spool/acknowledged                    the newest seq that a broker has taken
Segments are only appended to. A line that a crash has cut, which can only be the last, is removed at the next start:
its event was not counted as spooled and comes again from the saved state. A whole line that is no event, because the
disk has damaged it, is skipped and kept.

When all segments are full the oldest goes, and that is itself an event. How a deployment has ended is not lost with it:
outcomes that no broker has taken move to the front of the segment that follows. A crash between that and the removal
leaves them in both, and they are told once.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from edgeferry.agent.errors import DiskFullError
from edgeferry.agent.fsops import Disk, explained
from edgeferry.wire.codec import WireError, decode, encode
from edgeferry.wire.messages import Event

__all__ = ["Spool", "newest_events"]

logger = logging.getLogger(__name__)

SEGMENT_EVENTS = 256
MAX_SEGMENTS = 48  # 12,288 events, about 3 MB
MAX_OUTCOMES = 1024  # of full segments; without a broker there is hardly anything to deploy


class Spool:
    """The event spool; owned by the main loop.

    Attributes:
        last_seq: The newest event in it; 0 for none.
        acknowledged_seq: The newest event that a broker has taken.
        dropped: Events removed since the start, for want of room, before a broker had taken them.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        self.last_seq = 0
        self.acknowledged_seq = 0
        self.dropped = 0
        self._directory = directory
        self._disk = disk
        self._counts: dict[int, int] = {}  # events in each segment, by its first seq

    def open(self) -> None:
        """Read what is there and mend what a crash has cut."""
        self._disk.make_directory(self._directory)
        for path in self._directory.glob("*.new"):  # a crash leaves it
            self._disk.remove(path)
        self._disk.settle(self._directory)
        paths = sorted(self._directory.glob("*.jsonl"))
        for path in paths:
            events = self._mend(path, is_newest=path == paths[-1])
            self._counts[int(path.stem)] = len(events)
            self.last_seq = max([self.last_seq, *(event.seq for event in events)])
        self.acknowledged_seq = min(self._read_acknowledged(), self.last_seq)

    def append(self, events: tuple[Event, ...]) -> None:
        """Add ``events``, lasting; those that are already there are left out."""
        for event in events:
            if event.seq > self.last_seq:
                first = self._segment_for(event.seq)
                self._disk.append(self._path(first), encode(event) + b"\n")
                self._counts[first] = self._counts.get(first, 0) + 1
                self.last_seq = event.seq
        self._drop_oldest()

    def after(self, seq: int) -> Iterator[Event]:
        """Yield the events with a greater number than ``seq``, in order."""
        for first, following in pairwise([*sorted(self._counts), sys.maxsize]):
            if following > seq + 1:
                for event in _parse(_bytes_of(self._path(first))):
                    if event.seq > seq:
                        seq = event.seq
                        yield event

    def acknowledge(self, seq: int) -> None:
        """Note that a broker has taken every event up to ``seq``."""
        if seq > self.acknowledged_seq:
            self.acknowledged_seq = seq
            try:
                self._disk.write(self._directory / "acknowledged", str(seq).encode())
            except DiskFullError as err:  # after a restart they are said again, and readers drop what they have
                logger.warning("%s", err)

    def _segment_for(self, seq: int) -> int:
        newest = max(self._counts, default=None)
        return seq if newest is None or self._counts[newest] >= SEGMENT_EVENTS else newest

    def _drop_oldest(self) -> None:
        while len(self._counts) > MAX_SEGMENTS:
            oldest, following = sorted(self._counts)[:2]
            untold = [e for e in _parse(_bytes_of(self._path(oldest))) if e.seq > self.acknowledged_seq]
            outcomes = [event for event in untold if event.outcome][-MAX_OUTCOMES:]
            if outcomes:
                self._put_before(following, outcomes)
            self._disk.remove(self._path(oldest))
            del self._counts[oldest]
            self.dropped += len(untold) - len(outcomes)

    def _put_before(self, segment: int, outcomes: list[Event]) -> None:
        path = self._path(segment)
        events = {event.seq: event for event in [*outcomes, *_parse(_bytes_of(path))]}
        self._disk.write(path, b"".join(encode(event) + b"\n" for event in events.values()))
        self._counts[segment] = len(events)

    def _mend(self, path: Path, *, is_newest: bool) -> list[Event]:
        data = _bytes_of(path)
        whole_bytes = data.rfind(b"\n") + 1
        if whole_bytes != len(data):
            self._disk.truncate(path, whole_bytes)
        elif is_newest:
            self._disk.settle(path)  # a line that a killed process had not synced would count, and could still be lost
        events = _parse(data)
        if damaged := data.count(b"\n") - len(events):
            logger.warning("%s: lines that are no events, skipped and kept: %d", path, damaged)
        return events

    def _read_acknowledged(self) -> int:
        path = self._directory / "acknowledged"
        try:
            return int(_bytes_of(path)) if path.exists() else 0
        except ValueError:
            return 0

    def _path(self, first: int) -> Path:
        return self._directory / f"{first:012}.jsonl"


def newest_events(directory: Path, segments: int = 4) -> list[Event]:
    """Return the events of the newest ``segments`` of a spool, in order, and leave everything as it is.

    Raises:
        StoreError: One of them cannot be read.
    """
    newest = sorted(directory.glob("*.jsonl"))[-segments:]
    return [event for path in newest for event in _parse(_bytes_of(path))]


def _bytes_of(path: Path) -> bytes:
    with explained(path, "read"):
        return path.read_bytes()


def _parse(data: bytes) -> list[Event]:
    """Return the events of a segment's whole lines."""
    events: list[Event] = []
    *lines, _cut = data.split(b"\n")
    for line in lines:
        with suppress(WireError):  # `_mend` has told
            events.append(decode(Event, line))
    return events
