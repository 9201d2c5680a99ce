"""The operations on the disk, on a real one."""

import errno
import os
import resource
import stat
from pathlib import Path

import pytest

from edgeferry.agent.errors import AlreadyRunningError, DiskFullError, StoreError
from edgeferry.agent.fsops import Disk, explained

FULL = Path("/dev/full")


@pytest.fixture
def disk() -> Disk:
    return Disk()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestDirectories:
    def test_what_is_missing_above_is_made_as_well_for_this_user_alone(self, disk: Disk, tmp_path: Path) -> None:
        disk.make_directory(tmp_path / "a" / "b")

        assert [mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")] == [0o700, 0o700]

    def test_one_that_is_there_is_left_as_it_is(self, disk: Disk, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)

        disk.make_directory(tmp_path)

        assert mode_of(tmp_path) == 0o755

    def test_a_file_in_its_place_is_an_error_that_names_it(self, disk: Disk, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(StoreError, match=f"cannot make the directory {tmp_path}/file: File exists"):
            disk.make_directory(tmp_path / "file" / "below")

    def test_an_empty_one_is_removed(self, disk: Disk, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()

        disk.remove_directory(tmp_path / "empty")
        disk.remove_directory(tmp_path / "empty")

        assert list(tmp_path.iterdir()) == []


class TestWriting:
    def test_a_file_is_replaced_as_a_whole(self, disk: Disk, tmp_path: Path) -> None:
        disk.write(tmp_path / "file", b"a long old content")
        disk.write(tmp_path / "file", b"new")

        assert (tmp_path / "file").read_bytes() == b"new"
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]

    def test_a_file_is_for_this_user_alone(self, disk: Disk, tmp_path: Path) -> None:
        disk.write(tmp_path / "file", b"secret")

        assert mode_of(tmp_path / "file") == 0o600

    def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(self, disk: Disk, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()

        with pytest.raises(StoreError, match=r"cannot write .*folder: Is a directory"):
            disk.write(tmp_path / "folder", b"content")

        assert list(tmp_path.iterdir()) == [tmp_path / "folder"]

    def test_lines_are_added_at_the_end_of_a_file_for_this_user_alone(self, disk: Disk, tmp_path: Path) -> None:
        disk.append(tmp_path / "file", b"one\n")
        disk.append(tmp_path / "file", b"two\n")

        assert (tmp_path / "file").read_bytes() == b"one\ntwo\n"
        assert mode_of(tmp_path / "file") == 0o600

    def test_a_full_disk_is_told_apart_from_other_faults(self, disk: Disk) -> None:
        with pytest.raises(DiskFullError, match=r"cannot append to /dev/full: No space left on device"):
            disk.append(FULL, b"x")

    def test_of_what_does_not_fit_nothing_is_added(self, disk: Disk, tmp_path: Path) -> None:
        path = tmp_path / "file"
        disk.append(path, b"x" * 90 + b"\n")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            with pytest.raises(DiskFullError, match="cannot append to"):
                disk.append(path, b"y" * 90 + b"\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

        assert path.read_bytes() == b"x" * 90 + b"\n"

    @pytest.mark.parametrize(("number", "kind"), [(errno.EDQUOT, DiskFullError), (errno.EIO, StoreError)])
    def test_the_number_of_the_error_decides_its_kind(self, number: int, kind: type[StoreError]) -> None:
        with pytest.raises(StoreError) as caught, explained(Path("file"), "write"):
            raise OSError(number, os.strerror(number))

        assert type(caught.value) is kind

    def test_a_file_is_cut(self, disk: Disk, tmp_path: Path) -> None:
        disk.write(tmp_path / "file", b"whole|torn")

        disk.truncate(tmp_path / "file", 5)

        assert (tmp_path / "file").read_bytes() == b"whole"


class TestBlocks:
    @pytest.mark.parametrize("size", [0, 5000])
    def test_room_is_reserved_for_all_of_a_file(self, disk: Disk, tmp_path: Path, size: int) -> None:
        disk.allocate(tmp_path / "blob", size)

        assert (tmp_path / "blob").stat().st_size == size

    def test_blocks_are_written_where_they_belong(self, disk: Disk, tmp_path: Path) -> None:
        disk.allocate(tmp_path / "blob", 6)
        descriptor = disk.open_for_blocks(tmp_path / "blob")

        disk.write_at(descriptor, b"def", 3)
        disk.write_at(descriptor, memoryview(b"abc"), 0)
        disk.sync(descriptor)
        disk.close(descriptor)

        assert (tmp_path / "blob").read_bytes() == b"abcdef"

    def test_a_closed_descriptor_is_an_error_of_ours(self, disk: Disk, tmp_path: Path) -> None:
        disk.allocate(tmp_path / "blob", 6)
        descriptor = disk.open_for_blocks(tmp_path / "blob")
        disk.close(descriptor)

        for use in (lambda: disk.write_at(descriptor, b"x", 0), lambda: disk.sync(descriptor)):
            with pytest.raises(StoreError, match="Bad file descriptor"):
                use()
        with pytest.raises(StoreError, match="Bad file descriptor"):
            disk.close(descriptor)


class TestNames:
    def test_a_file_moves_to_another_directory_and_replaces_what_is_there(self, disk: Disk, tmp_path: Path) -> None:
        (tmp_path / "partial").mkdir()
        (tmp_path / "blobs").mkdir()
        disk.write(tmp_path / "partial" / "blob", b"new")
        disk.write(tmp_path / "blobs" / "blob", b"old")

        disk.move(tmp_path / "partial" / "blob", tmp_path / "blobs" / "blob")

        assert (tmp_path / "blobs" / "blob").read_bytes() == b"new"
        assert not (tmp_path / "partial" / "blob").exists()

    def test_a_file_is_renamed_within_its_directory(self, disk: Disk, tmp_path: Path) -> None:
        disk.write(tmp_path / "state", b"damaged")

        disk.move(tmp_path / "state", tmp_path / "state.damaged")

        assert [path.name for path in tmp_path.iterdir()] == ["state.damaged"]

    def test_a_link_replaces_the_one_before_and_what_a_crash_has_left(self, disk: Disk, tmp_path: Path) -> None:
        (tmp_path / "active").symlink_to("old")
        (tmp_path / "active.new").symlink_to("left over")

        disk.link(tmp_path / "active", "new")

        assert str((tmp_path / "active").readlink()) == "new"
        assert list(tmp_path.iterdir()) == [tmp_path / "active"]

    def test_removing_what_is_missing_does_nothing(self, disk: Disk, tmp_path: Path) -> None:
        disk.remove(tmp_path / "missing")

    def test_a_missing_file_is_an_error_that_says_what_was_tried(self, disk: Disk, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"cannot open .*missing: No such file or directory"):
            disk.open_for_blocks(tmp_path / "missing")


def test_the_room_on_a_partition_is_told(tmp_path: Path) -> None:
    usage = Disk().usage(tmp_path)

    assert 0 < usage.free_bytes <= usage.total_bytes


def test_a_lock_is_had_by_one_alone_and_says_by_whom(tmp_path: Path) -> None:
    disk = Disk()
    descriptor = disk.lock(tmp_path / "lock")

    with pytest.raises(AlreadyRunningError, match=f"{tmp_path} is in use by another edgeferry-agent"):
        disk.lock(tmp_path / "lock")
    disk.close(descriptor)

    disk.close(disk.lock(tmp_path / "lock"))
