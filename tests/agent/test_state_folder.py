"""An agent's state folder, looked at from the outside."""

import os
from pathlib import Path

import pytest

from edgeferry.agent.errors import StoreError
from edgeferry.agent.fsops import Disk
from edgeferry.agent.spool import SEGMENT_EVENTS, Spool, newest_events
from edgeferry.agent.state import AgentState, ModelRecord
from edgeferry.agent.state_folder import holder_of, read_state_folder
from edgeferry.agent.store import Store
from edgeferry.wire.messages import Event, EventKind


def event(seq: int) -> Event:
    return Event(v=1, seq=seq, ts=seq, kind=EventKind.STARTED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a state and two events, one of them not in the spool yet; nobody holds it."""
    store = Store(tmp_path, Disk())
    for name in ("blobs", "partial", "tuf", "models"):
        (tmp_path / name).mkdir()
    spool = Spool(tmp_path / "spool", Disk())
    spool.open()
    spool.append((event(1),))
    store.save_state(AgentState(models={"cats": ModelRecord(wanted=3)}, next_seq=3, outbox=(event(1), event(2))))
    return tmp_path


def test_state_and_events_are_read_each_event_once(folder: Path) -> None:
    found = read_state_folder(folder)

    assert found.state is not None
    assert found.state.models["cats"].wanted == 3
    assert [one.seq for one in found.events] == [1, 2]
    assert found.pid == 0


def test_nothing_is_changed(folder: Path) -> None:
    with (folder / "spool" / "000000000001.jsonl").open("ab") as segment:
        segment.write(b'{"v":1,"se')  # as a crash leaves it
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    found = read_state_folder(folder)

    assert [one.seq for one in found.events] == [1, 2]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_of_an_agent_that_has_never_run_is_empty(tmp_path: Path) -> None:
    found = read_state_folder(tmp_path)

    assert (found.state, found.events, found.pid) == (AgentState(), (), 0)


def test_a_damaged_state_is_none(folder: Path) -> None:
    (folder / "state").write_bytes(b"rubbish")

    assert read_state_folder(folder).state is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot look into"):
        read_state_folder(tmp_path / "nowhere")


def test_only_the_newest_segments_of_a_long_spool_are_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Disk())
    spool.open()
    spool.append(tuple(event(seq) for seq in range(1, 2 * SEGMENT_EVENTS + 2)))

    assert [one.seq for one in newest_events(tmp_path, segments=1)] == [2 * SEGMENT_EVENTS + 1]


class TestHolder:
    def test_the_process_that_has_locked_the_file_is_named(self, tmp_path: Path) -> None:
        descriptor = Disk().lock(tmp_path / "lock")

        assert holder_of(tmp_path / "lock") == os.getpid()
        os.close(descriptor)
        assert holder_of(tmp_path / "lock") == 0

    def test_a_process_of_another_container_is_somebody(self, tmp_path: Path) -> None:
        lock, locks = tmp_path / "lock", tmp_path / "locks"
        lock.touch()
        found = lock.stat()
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        locks.write_text(f"1: POSIX  ADVISORY  READ 5 00:01:7 0 EOF\n2: FLOCK  ADVISORY  WRITE 0 {place} 0 EOF\n")

        assert holder_of(lock, locks) is None

    def test_a_system_that_does_not_tell_leaves_it_open(self, tmp_path: Path) -> None:
        (tmp_path / "lock").touch()

        assert holder_of(tmp_path / "lock", tmp_path / "no-such-list") is None
