"""Whatever a power cut leaves of the disk, and whenever it comes: a fresh start converges, and nothing told is lost.

Here a part of the steps is cut; `make acceptance` cuts each. `python -m tests.agent.cutting` tells how many there are.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeferry.agent.fsops import Disk, explained

from .cutting import cut_everywhere, cut_lives_that_were_killed, record
from .disk_faults import FaultyDisk
from .power_cuts import DATA_FATES, RecordingCalls, cuts
from .stories import STORIES, Story, first_start, large_update, swap_of_models, update

EVERY_STORY = [*STORIES, large_update]
by_name = pytest.mark.parametrize("tell", EVERY_STORY, ids=lambda tell: tell.__name__)
Tell = Callable[[Path], Story]
LAST = 1 << 30  # only the last step, and the first


class TestOfAFewSteps:
    @by_name
    def test_a_power_cut_after_a_step_loses_nothing(self, memory_path: Path, tell: Tell) -> None:
        tried = cut_everywhere(tell(memory_path), memory_path, every=23)

        assert tried.points >= tried.steps // 23 + 1
        assert tried.disks >= tried.points

    def test_a_power_cut_some_steps_after_a_kill_loses_nothing(self, memory_path: Path) -> None:
        assert cut_lives_that_were_killed(update(memory_path), memory_path, every=61).points >= 4


@pytest.mark.acceptance
class TestOfEveryStep:
    @pytest.mark.timeout(600)
    @by_name
    def test_a_power_cut_after_any_step_loses_nothing(self, memory_path: Path, tell: Tell) -> None:
        tried = cut_everywhere(tell(memory_path), memory_path)

        assert tried.points == tried.steps + 1 > 100

    @pytest.mark.timeout(600)
    @by_name
    def test_a_power_cut_some_steps_after_any_kill_loses_nothing(self, memory_path: Path, tell: Tell) -> None:
        cut_lives_that_were_killed(tell(memory_path), memory_path, every=5)


class WithoutDirectorySync(FaultyDisk):
    def sync_directory(self, path: Path) -> None:
        """Forget it."""


class WithoutBlockSync(FaultyDisk):
    def sync(self, descriptor: int) -> None:
        """Forget it."""


class InPlace(FaultyDisk):
    """Files are written where they are."""

    def write(self, path: Path, data: bytes) -> None:
        with explained(path, "write"):
            descriptor = self._open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self._write_all(descriptor, data)
            self._system.fsync(descriptor)
            self._system.close(descriptor)
            self.sync_directory(path.parent)


class RenamedUnsynced(FaultyDisk):
    """A file has its name before its content lasts."""

    def write(self, path: Path, data: bytes) -> None:
        with explained(path, "write"):
            temporary = path.with_name(path.name + ".new")
            descriptor = self._open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            self._write_all(descriptor, data)
            self._system.close(descriptor)
            self._system.replace(temporary, path)
            self.sync_directory(path.parent)


class AppendedUnsynced(FaultyDisk):
    def append(self, path: Path, data: bytes) -> None:
        with explained(path, "append to"):
            descriptor = self._open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._write_all(descriptor, data)
            self._system.close(descriptor)
            self.sync_directory(path.parent)


class Unsettled(FaultyDisk):
    """What a killed process has left unsynced is taken as it is."""

    def settle(self, path: Path) -> None:
        """Forget it."""


class TestOfTheHarness:
    @pytest.mark.parametrize(
        ("sabotaged", "tell", "every"),
        [
            (WithoutDirectorySync, first_start, LAST),
            (WithoutBlockSync, large_update, LAST),
            (InPlace, update, 1),
            (RenamedUnsynced, update, LAST),
            (AppendedUnsynced, update, LAST),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_a_disk_that_keeps_a_rule_less_is_found_out(
        self, memory_path: Path, sabotaged: Callable[..., FaultyDisk], tell: Tell, every: int
    ) -> None:
        with pytest.raises(AssertionError, match="the power goes after"):
            cut_everywhere(tell(memory_path), memory_path, lambda calls: sabotaged(system=calls), every=every)

    def test_what_a_killed_process_left_unsynced_is_found_out_when_nobody_settles_it(self, memory_path: Path) -> None:
        with pytest.raises(AssertionError, match="the power goes after"):
            cut_lives_that_were_killed(first_start(memory_path), memory_path, lambda calls: Unsettled(system=calls))

    def test_a_garbage_collection_is_among_what_is_recorded(self, memory_path: Path) -> None:
        life = record(swap_of_models(memory_path), memory_path / "box")

        assert len([step for step in life.calls.steps if "blobs/" in str(step) and "None" in str(step)]) >= 6


class TestOfTheModel:
    """What a cut may leave of a few system calls."""

    @pytest.fixture
    def calls(self, memory_path: Path) -> RecordingCalls:
        (memory_path / "file").write_bytes(b"old!")
        return RecordingCalls(memory_path)

    def left(self, calls: RecordingCalls, at: int) -> set[tuple[tuple[str, bytes], ...]]:
        """Return the disks that a cut after ``at`` steps may leave: names and contents."""
        found = set()
        for number, cut in enumerate(cuts(calls, lambda step: step == at)):
            place = calls.box.with_name(f"{calls.box.name}-{number}")
            cut.disk.put(place)
            found.add(tuple(sorted((path.name, path.read_bytes()) for path in place.iterdir())))
            for path in place.iterdir():
                path.unlink()
            place.rmdir()
        return found

    def test_an_unsynced_write_is_lost_or_there_or_torn_or_zeros(self, calls: RecordingCalls) -> None:
        descriptor = calls.open(calls.box / "file", os.O_WRONLY, 0)
        calls.pwrite(descriptor, b"new!", 0)
        calls.fsync(descriptor)
        calls.close(descriptor)

        assert self.left(calls, 1) == {(("file", data),) for data in (b"old!", b"new!", b"ned!", b"\0" * 4)}
        assert self.left(calls, 2) == {(("file", b"new!"),)}
        assert len(DATA_FATES) == 4

    def test_a_name_lasts_only_with_its_directory(self, calls: RecordingCalls) -> None:
        Disk(calls).write(calls.box / "file", b"new!")

        renamed = len(calls.steps) - 1
        assert self.left(calls, renamed) >= {(("file", b"old!"),), (("file", b"new!"),)}
        assert self.left(calls, renamed + 1) == {(("file", b"new!"),)}

    def test_a_removed_file_may_come_back(self, calls: RecordingCalls) -> None:
        Disk(calls).remove(calls.box / "file")

        assert self.left(calls, 1) == {(), (("file", b"old!"),)}

    def test_a_move_across_directories_may_last_in_its_target_alone_and_never_in_neither(
        self, calls: RecordingCalls
    ) -> None:
        disk = Disk(calls)
        disk.make_directory(calls.box / "folder")
        before = len(calls.steps)
        disk.move(calls.box / "file", calls.box / "folder" / "file")

        kinds = [cut.disk.names for cut in cuts(calls, lambda step: step >= before)]
        assert {tuple(sorted(set(names) & {"file", "folder/file"})) for names in kinds} == {
            ("file",),
            ("file", "folder/file"),
            ("folder/file",),
        }
