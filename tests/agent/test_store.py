"""Blobs, partial blobs, state and metadata on a real disk."""

import errno
import hashlib
from pathlib import Path

import pytest

from edgeferry.agent.errors import AlreadyRunningError, BlobMismatchError, DiskFullError, StoreError
from edgeferry.agent.fsops import Usage
from edgeferry.agent.state import AgentState
from edgeferry.agent.store import FLOOR_BYTES, SYNC_BYTES, Store, room_needed
from edgeferry.agent.transfer import Want, Write
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import BlobRef

from .disk_faults import Fault, FaultyDisk
from .simulated import ref_of

BLOCK = 1024
DATA = bytes(range(256)) * 10  # 2.5 blocks


def want_of(data: bytes, block: int = BLOCK, *, with_digests: bool = True) -> Want:
    digests = b"".join(hashlib.sha256(data[at : at + block]).digest() for at in range(0, len(data), block))
    return Want(ref_of(data), block, digests if with_digests else b"")


def store_in(directory: Path, disk: FaultyDisk | None = None) -> Store:
    store = Store(directory, disk or FaultyDisk())
    store.open()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_in(tmp_path / "device")


def fill(store: Store, data: bytes = DATA, *, blocks: int = 3, block: int = BLOCK) -> Want:
    """Write the first ``blocks`` blocks of a blob and close it."""
    want = want_of(data, block)
    partial = store.open_partial(want)
    for index in range(blocks):
        partial.have.add(index)
        store.write_block(partial, Write(index, index * block, data[index * block : (index + 1) * block]))
    store.close_partial(partial)
    return want


def names(store: Store, folder: str) -> list[str]:
    return sorted(path.name for path in (store.directory / folder).iterdir())


def put_blob(store: Store, data: bytes) -> BlobRef:
    ref = ref_of(data)
    store.blob_path(ref.sha256).write_bytes(data)
    return ref


def test_a_directory_is_for_one_agent_alone(store: Store) -> None:
    with pytest.raises(AlreadyRunningError):
        store_in(store.directory)


class TestState:
    def test_a_fresh_directory_has_a_fresh_state(self, store: Store) -> None:
        assert store.load_state() == AgentState()

    def test_what_was_saved_is_loaded(self, store: Store) -> None:
        store.save_state(AgentState(next_seq=7))

        assert store.load_state() == AgentState(next_seq=7)

    def test_an_altered_state_is_not_believed_and_can_be_set_aside(self, store: Store) -> None:
        store.save_state(AgentState(next_seq=7))
        path = store.directory / "state"
        path.write_bytes(path.read_bytes().replace(b"7", b"8"))

        with pytest.raises(WireError, match="checksum differs"):
            store.load_state()
        aside = store.set_state_aside()

        assert aside.exists()
        assert store.load_state() == AgentState()

    def test_a_state_that_cannot_be_read_is_an_error_that_names_it(self, store: Store) -> None:
        (store.directory / "state").mkdir()

        with pytest.raises(StoreError, match=r"cannot read .*/state: Is a directory"):
            store.load_state()


class TestMetadata:
    def test_what_was_saved_is_loaded(self, store: Store) -> None:
        store.save_metadata({"1.root.json": b"root", "timestamp.json": b"one"})
        store.save_metadata({"1.root.json": b"root", "timestamp.json": b"two"})

        assert store.load_metadata() == {"1.root.json": b"root", "timestamp.json": b"two"}

    def test_what_is_no_longer_trusted_is_removed(self, store: Store) -> None:
        store.save_metadata({"1.root.json": b"root", "snapshot.json": b"old"})
        store.save_metadata({"1.root.json": b"root"})

        assert names(store, "tuf") == ["1.root.json"]

    def test_what_has_not_changed_is_not_written(self, tmp_path: Path) -> None:
        disk = FaultyDisk()
        store = store_in(tmp_path, disk)
        store.save_metadata({"1.root.json": b"root"})
        disk.operations.clear()

        store.save_metadata({"1.root.json": b"root"})

        assert disk.operations == []

    def test_what_a_crash_has_left_is_not_read(self, store: Store) -> None:
        (store.directory / "tuf" / "timestamp.json.new").write_bytes(b"half")

        assert store.load_metadata() == {}

    def test_metadata_that_cannot_be_read_is_an_error_of_ours(self, store: Store) -> None:
        (store.directory / "tuf" / "1.root.json").mkdir()

        with pytest.raises(StoreError, match=r"cannot read .*/tuf: Is a directory"):
            store.load_metadata()


class TestPartialBlobs:
    def test_a_whole_one_is_complete_and_becomes_a_blob_when_its_hash_is_right(self, store: Store) -> None:
        want = fill(store)
        assert store.is_complete(want)
        assert not store.has_blob(want.blob)

        store.check_blob(want.blob)

        assert store.has_blob(want.blob)
        assert store.is_complete(want)
        assert store.read_blob(want.blob) == DATA
        assert names(store, "partial") == []

    def test_a_part_is_kept_across_a_restart(self, store: Store) -> None:
        want = fill(store, blocks=2)

        partial = Store(store.directory, FaultyDisk()).open_partial(want)

        assert not store.is_complete(want)
        assert [partial.have.has(index) for index in range(3)] == [True, True, False]

    def test_room_is_reserved_for_all_of_it_at_once(self, store: Store) -> None:
        want = fill(store, blocks=0)

        assert (store.directory / "partial" / want.blob.sha256).stat().st_size == len(DATA)

    def test_what_was_written_is_noted_every_mebibyte(self, store: Store) -> None:
        block = 1 << 19
        data = bytes(3 * block)
        want = want_of(data, block)
        partial = store.open_partial(want)

        for index in range(3):
            partial.have.add(index)
            store.write_block(partial, Write(index, index * block, data[:block]))

        assert 2 * block == SYNC_BYTES
        noted = Store(store.directory, FaultyDisk()).open_partial(want).have
        assert [noted.has(index) for index in range(3)] == [True, True, False]

    def test_a_map_of_another_block_size_is_not_believed(self, store: Store) -> None:
        fill(store, blocks=2)

        partial = store.open_partial(want_of(DATA, 2 * BLOCK))

        assert partial.have.count == 0

    def test_a_map_that_cannot_be_read_is_not_believed(self, store: Store) -> None:
        want = fill(store, blocks=2)
        path = store.directory / "partial" / f"{want.blob.sha256}.map"
        path.unlink()
        path.mkdir()

        assert not store.is_complete(want)

    def test_a_map_without_its_blob_is_not_believed(self, store: Store) -> None:
        want = fill(store, blocks=2)
        (store.directory / "partial" / want.blob.sha256).unlink()

        assert not store.is_complete(want)
        assert store.open_partial(want).have.count == 0

    def test_a_file_of_another_length_is_begun_anew(self, store: Store) -> None:
        want = fill(store)
        (store.directory / "partial" / want.blob.sha256).write_bytes(DATA[:-1])

        assert not store.is_complete(want)
        assert store.open_partial(want).have.count == 0

    def test_without_block_hashes_nothing_is_complete_before_it_was_checked(self, store: Store) -> None:
        fill(store)

        assert not store.is_complete(want_of(DATA, with_digests=False))

    def test_a_dropped_one_leaves_nothing(self, store: Store) -> None:
        want = fill(store)

        store.drop_partial(want.blob.sha256)

        assert names(store, "partial") == []

    @pytest.mark.parametrize("operation", ["write_at", "sync", "write"])
    def test_what_the_disk_has_refused_is_never_noted_as_here(self, tmp_path: Path, operation: str) -> None:
        counting = FaultyDisk()
        fill(store_in(tmp_path / "counted", counting), blocks=2)
        at = next(n for n, done in enumerate(counting.operations) if done.startswith(operation) and "state" not in done)
        failing = FaultyDisk(Fault(at, errno.EIO, once=True))
        store = store_in(tmp_path / "device", failing)

        with pytest.raises(StoreError):
            fill(store, blocks=2)
        failing.end_of_life()

        have = store.open_partial(want_of(DATA)).have
        assert have.count == 0

    def test_a_second_sync_after_a_failed_one_is_not_believed(self, tmp_path: Path) -> None:
        """Linux marks pages clean whose write-back failed, so that the next fsync succeeds without them."""
        counting = FaultyDisk()
        fill(store_in(tmp_path / "counted", counting), blocks=1)
        at = counting.operations.index("sync")
        store = store_in(tmp_path / "device", FaultyDisk(Fault(at, errno.EIO, once=True)))
        partial = store.open_partial(want_of(DATA))
        partial.have.add(0)
        store.write_block(partial, Write(0, 0, DATA[:BLOCK]))

        with pytest.raises(StoreError):
            store.sync_partial(partial)
        store.close_partial(partial)

        assert store.open_partial(want_of(DATA)).have.count == 0


class TestRoom:
    def test_the_floor_is_64_mebibytes_or_a_twentieth(self) -> None:
        assert room_needed(10, 100 << 20) == 10 + FLOOR_BYTES
        assert room_needed(10, 100 << 30) == 10 + (5 << 30)

    def test_a_blob_that_would_eat_the_floor_is_refused_with_figures(self, tmp_path: Path) -> None:
        disk = FaultyDisk()
        disk.usage_told = Usage(total_bytes=1 << 30, free_bytes=60 << 20)
        store = store_in(tmp_path, disk)

        with pytest.raises(DiskFullError, match="60 MiB free, wanted 0 MiB for the blob and 64 MiB to stay free"):
            store.open_partial(want_of(DATA))

        assert names(store, "partial") == []

    def test_what_has_its_room_already_goes_on_on_a_full_disk(self, tmp_path: Path) -> None:
        disk = FaultyDisk()
        store = store_in(tmp_path, disk)
        want = fill(store, blocks=1)
        disk.usage_told = Usage(total_bytes=1 << 30, free_bytes=0)

        assert store.open_partial(want).have.count == 1

    def test_collecting_removes_what_is_not_kept_and_what_crashes_have_left(self, store: Store) -> None:
        kept = put_blob(store, b"kept")
        put_blob(store, b"not kept")
        fill(store)
        partial = store.directory / "partial"
        (partial / f"{kept.sha256}.map.new").touch()
        (partial / f"{kept.sha256}.map").touch()  # its blob is whole

        removed = store.collect({kept.sha256})

        assert removed == 5
        assert names(store, "blobs") == [kept.sha256]
        assert names(store, "partial") == []

    def test_collecting_removes_what_a_blob_was_moved_from_and_is_back_after_a_power_cut(self, store: Store) -> None:
        want = fill(store)
        store.check_blob(want.blob)
        (store.directory / "partial" / want.blob.sha256).write_bytes(DATA)

        store.collect({want.blob.sha256})

        assert names(store, "blobs") == [want.blob.sha256]
        assert names(store, "partial") == []

    def test_opening_removes_what_a_crash_has_left_beside_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "tuf").mkdir()
        (tmp_path / "models" / "cats").mkdir(parents=True)
        for name in ("state.new", "tuf/timestamp.json.new", "models/cats/active.new"):
            (tmp_path / name).touch()
        (tmp_path / "models" / "cats" / "notes.new").touch()  # a person's

        store_in(tmp_path)

        assert [path.name for path in tmp_path.rglob("*.new")] == ["notes.new"]

    def test_collecting_keeps_what_is_on_its_way(self, store: Store) -> None:
        want = fill(store, blocks=1)

        store.collect({want.blob.sha256})

        assert store.open_partial(want).have.count == 1


class TestDamagedBlobs:
    def test_wrong_bytes_are_removed_by_the_check(self, store: Store) -> None:
        ref = put_blob(store, DATA)
        store.blob_path(ref.sha256).write_bytes(DATA[::-1])

        with pytest.raises(BlobMismatchError, match="other bytes than its name says"):
            store.check_blob(ref)

        assert not store.has_blob(ref)

    def test_a_partial_blob_with_wrong_bytes_is_removed_with_its_map(self, store: Store) -> None:
        want = fill(store)
        (store.directory / "partial" / want.blob.sha256).write_bytes(DATA[::-1])

        with pytest.raises(BlobMismatchError):
            store.check_blob(want.blob)

        assert names(store, "partial") == []

    def test_one_of_a_wrong_length_is_replaced_by_what_was_fetched_for_it(self, store: Store) -> None:
        ref = put_blob(store, DATA)
        store.blob_path(ref.sha256).write_bytes(b"cut")
        fill(store)

        store.check_blob(ref)

        assert store.read_blob(ref) == DATA

    def test_a_missing_one_is_an_error_of_the_disk(self, store: Store) -> None:
        with pytest.raises(StoreError, match=r"cannot read .*: No such file"):
            store.check_blob(ref_of(DATA))

    @pytest.mark.parametrize("damaged", [DATA[::-1], DATA[:-1]])
    def test_one_that_is_read_with_wrong_bytes_is_removed_so_that_it_is_fetched_anew(
        self, store: Store, damaged: bytes
    ) -> None:
        ref = put_blob(store, DATA)
        store.blob_path(ref.sha256).write_bytes(damaged)

        assert store.read_blob(ref) is None
        assert not store.has_blob(ref)

    def test_one_that_cannot_be_read_is_removed_so_that_it_is_fetched_anew(self, store: Store) -> None:
        ref = ref_of(DATA)
        store.blob_path(ref.sha256).symlink_to("/proc/self/mem")  # opens, and fails to read

        assert store.read_blob(ref) is None
        assert not store.blob_path(ref.sha256).is_symlink()

    def test_a_missing_one_reads_as_none(self, store: Store) -> None:
        assert store.read_blob(ref_of(DATA)) is None

    def test_a_directory_that_cannot_be_listed_is_an_error_of_ours(self, store: Store) -> None:
        (store.directory / "models").rmdir()

        with pytest.raises(StoreError, match=r"cannot list .*models"):
            store.link_models({})


class TestLinksForPeople:
    def test_a_link_points_at_the_blob_of_the_active_version(self, store: Store) -> None:
        ref = put_blob(store, DATA)

        store.link_models({"cats": ref.sha256})
        store.link_models({"cats": ref.sha256})

        assert (store.directory / "models" / "cats" / "active").read_bytes() == DATA

    def test_a_link_follows_the_active_version(self, store: Store) -> None:
        store.link_models({"cats": "old"})
        store.link_models({"cats": "new"})

        assert (store.directory / "models" / "cats" / "active").readlink().name == "new"

    def test_the_link_of_a_model_that_is_gone_is_removed_with_what_a_crash_has_left(self, store: Store) -> None:
        store.link_models({"cats": "old"})
        (store.directory / "models" / "cats" / "active.new").symlink_to("left over")

        store.link_models({})

        assert names(store, "models") == []

    def test_what_a_person_has_put_there_stays_and_disturbs_nothing(self, store: Store) -> None:
        store.link_models({"cats": "old"})
        (store.directory / "models" / "cats" / "notes.txt").touch()
        (store.directory / "models" / "README").touch()

        store.link_models({})

        assert names(store, "models") == ["README", "cats"]
