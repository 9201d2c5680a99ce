"""Cuts the power after each step on the disk that a device makes, and starts it again on everything that may be left.

    python -m tests.agent.cutting

A story is lived once, recorded. Each disk that a cut may leave is written down, and a fresh agent lives on it, with
nobody to help but the same fleet. Then it has to be as it would have been without the cut.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeferry.agent.state import AgentState
from edgeferry.agent.store import SYNC_BYTES, Store
from edgeferry.wire.codec import decode
from edgeferry.wire.messages import Event
from edgeferry.wire.topics import TopicKind

from .disk_faults import FaultyDisk
from .power_cuts import Cut, PowerLost, RecordingCalls, cuts
from .simulated import DEVICE, TOPICS, Said
from .stories import STORIES, Story, check_is_well, events_in, large_update, state_in

__all__ = ["Told", "Tried", "cut_everywhere", "cut_lives_that_were_killed", "record"]

MakeDisk = Callable[[RecordingCalls], FaultyDisk]


def a_disk(calls: RecordingCalls) -> FaultyDisk:
    return FaultyDisk(system=calls)


@dataclass(frozen=True, slots=True)
class Told:
    """An event that a broker has been told after so many steps."""

    at: int
    event: Event


@dataclass(frozen=True, slots=True)
class Tried:
    """What was tried.

    Attributes:
        steps: Of the recorded life.
        points: At which the power was cut.
        disks: That a fresh agent was started on.
    """

    steps: int
    points: int
    disks: int


@dataclass(frozen=True)
class Life:
    """A recorded life.

    Attributes:
        told: What the broker was told meanwhile.
        fetched: After how many steps how many bytes of blobs had been written.
    """

    story: Story
    calls: RecordingCalls
    told: list[Told]
    fetched: list[tuple[int, int]]

    def fetched_bytes(self, at: int) -> int:
        return sum(size for step, size in self.fetched if step < at)


def record(story: Story, box: Path, make_disk: MakeDisk = a_disk, *, kill_at: int | None = None) -> Life:
    """Live ``story`` below ``box`` and return the recording; killed before step ``kill_at``, it is lived on anew."""
    box.mkdir()
    if story.home.exists():
        shutil.copytree(story.home, box / "home", symlinks=True)
    calls = RecordingCalls(box, kill_at)
    told: list[Told] = []

    def hear(said: Said) -> None:
        if said.topic == TOPICS.device(DEVICE, TopicKind.EVENT):
            told.append(Told(len(calls.steps), decode(Event, said.payload)))

    if kill_at is not None:
        _live_until_killed(story, box, make_disk(calls), hear)
    calls.stop_at = None
    agent = story.live(box / "home", make_disk(calls), hear)
    assert agent is not None
    check_is_well(box / "home", story, agent)
    return Life(story, calls, told, list(calls.placed))


def _live_until_killed(story: Story, box: Path, disk: FaultyDisk, hear: Callable[[Said], None]) -> None:
    try:
        story.live(box / "home", disk, hear)
    except PowerLost:
        return
    raise AssertionError("the life was over before it was killed")


def cut_everywhere(story: Story, folder: Path, make_disk: MakeDisk = a_disk, *, every: int = 1) -> Tried:
    """Cut the power after each step of ``story``, or each of number ``every`` and the last, and start what is left.

    Raises:
        AssertionError: Something was lost, is wrong, or does not come back; the message tells the cut.
    """
    life = record(story, folder / "recorded", make_disk)
    return _try_cuts(life, folder, lambda at: at % every == 0 or at == len(life.calls.steps))


def cut_lives_that_were_killed(story: Story, folder: Path, make_disk: MakeDisk = a_disk, *, every: int = 1) -> Tried:
    """Kill the agent before each step of ``story``, start it again, and cut the power some steps later.

    What the killed process had not synced is still there for the second one, and gone after the cut.
    """
    steps = len(record(story, folder / "whole", make_disk).calls.steps)
    tried = Tried(steps, 0, 0)
    for kill_at in range(0, steps, every):
        place = folder / f"killed-{kill_at}"
        place.mkdir()
        life = record(story, place / "recorded", make_disk, kill_at=kill_at)
        left = len(life.calls.steps) - kill_at
        points = {kill_at + left * part // 4 for part in range(1, 5)}
        these = _try_cuts(life, place, points.__contains__)
        tried = Tried(steps, tried.points + these.points, tried.disks + these.disks)
        shutil.rmtree(place)
    return tried


def _try_cuts(life: Life, folder: Path, points: Callable[[int], bool]) -> Tried:
    place = folder / "left"
    seen, disks = set(), 0
    for cut in cuts(life.calls, points):
        cut.disk.put(place)
        try:
            _check(life, cut, place / "home")
        except Exception as err:
            raise AssertionError(f"{cut}\n{type(err).__name__}: {err}") from err
        shutil.rmtree(place)
        seen.add(cut.at)
        disks += 1
    return Tried(len(life.calls.steps), len(seen), disks)


def _check(life: Life, cut: Cut, home: Path) -> None:
    _check_before_the_start(life.story, home)
    disk = FaultyDisk()
    agent = life.story.live(home, disk)
    assert agent is not None
    check_is_well(home, life.story, agent)
    _check_no_temporary_file(home)
    _check_events(life, cut, home)
    twice = life.fetched_bytes(cut.at) + disk.block_bytes - life.fetched_bytes(sys.maxsize)
    assert twice <= SYNC_BYTES, f"{twice} bytes were fetched twice"


def _check_before_the_start(story: Story, home: Path) -> None:
    """The state can be read, and what is active is whole: the version before or the new one."""
    state = state_in(home) if home.exists() else AgentState()
    for name in story.before:
        record_of = state.models.get(name)
        assert record_of is not None
        assert record_of.active is not None, f"{name} has no active version"
    store = Store(home, FaultyDisk())
    for name, record_of in state.models.items():
        if record_of.active:
            assert record_of.active.version in {story.before.get(name), 1, 2}
            for blob in record_of.active.blobs():
                assert store.blob_path(blob.sha256).exists(), f"a blob of the active {name} is gone"
                store.check_blob(blob)


def _check_no_temporary_file(home: Path) -> None:
    assert [path for path in home.rglob("*") if path.name.endswith(".new")] == []


def _check_events(life: Life, cut: Cut, home: Path) -> None:
    """What a broker has been told before the cut is told in the same words for ever."""
    spooled = {event.seq: event for event in events_in(home)}
    for told in life.told:
        if told.at <= cut.at:
            assert spooled.get(told.event.seq) == told.event, f"{told.event} was told, and is now another event"


def main() -> None:
    """Cut the power everywhere, and tell how often."""
    total = 0
    print(f"{'story':24}{'':16}{'steps':>8}{'points':>8}{'disks':>8}{'seconds':>9}")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        for tell in [*STORIES, large_update]:
            for how, cutting in (("", cut_everywhere), ("after a kill", cut_lives_that_were_killed)):
                folder = Path(name) / f"{tell.__name__}{how}"
                folder.mkdir()
                began_s = time.monotonic()
                tried = cutting(tell(folder), folder)
                total += tried.disks
                seconds = time.monotonic() - began_s
                print(
                    f"{tell.__name__:24}{how:16}{tried.steps:8}{tried.points:8}{tried.disks:8}{seconds:9.1f}",
                    flush=True,
                )
                shutil.rmtree(folder)
    print(f"{total} disks; after every one of them the device converged, with nothing lost")


if __name__ == "__main__":
    main()
