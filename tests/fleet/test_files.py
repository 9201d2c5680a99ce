"""Changes of the fleet folder last, or leave what was there."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeferry.fleet.errors import (
    ArtifactError,
    BusyError,
    ConfigurationError,
    FleetError,
    PendingError,
    UsageError,
    did_you_mean,
)
from edgeferry.fleet.files import folder_lock, make_folder, names_in, replacing, write_all_atomically, write_atomically


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    write_atomically(tmp_path / "a", b"new", mode=0o600)

    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_a_crash_left_beside_a_secret_does_not_open_it_to_others(tmp_path):
    left = tmp_path / f".secret.{os.getpid()}.new"
    left.touch(0o644)

    write_atomically(tmp_path / "secret", b"", mode=0o600)

    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert not left.exists()


def test_file_and_folder_are_synced_before_it_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(Path(f"/proc/self/fd/{fd}").readlink()), real(fd)))

    write_all_atomically({tmp_path / "a": b"1", tmp_path / "b": b"2"})

    assert len(synced) == 3
    assert synced[-1] == tmp_path


def test_a_block_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    write_atomically(tmp_path / "a", b"old")

    def fail_half_way() -> None:
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()

    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_folder_that_may_not_be_written_is_told_in_a_sentence(tmp_path, monkeypatch):
    def refuse(*_arguments: object, **_keywords: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(ConfigurationError, match="a: permission denied; run as the user who owns the fleet folder"):
        write_atomically(tmp_path / "a", b"")


def test_a_full_disk_is_told_in_a_sentence_and_the_old_file_stays(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(FleetError, match="a: No space left on device; make room on the disk and try again"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_missing_folder_is_told_in_a_sentence(tmp_path):
    with pytest.raises(FleetError, match=r"missing/a: No such file or directory$"):
        write_atomically(tmp_path / "missing" / "a", b"")


def test_folders_are_made_with_what_is_above_them(tmp_path):
    make_folder(tmp_path / "a" / "b", mode=0o700)
    make_folder(tmp_path / "a" / "b", mode=0o700)

    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_files_that_are_being_written_are_not_listed(tmp_path):
    for name in ("b", "a", ".a.1.new"):
        (tmp_path / name).touch()

    assert [path.name for path in names_in(tmp_path)] == ["a", "b"]


def test_two_commands_do_not_hold_a_folder_at_once(tmp_path):
    with (
        folder_lock(tmp_path / "lock"),
        pytest.raises(BusyError, match=rf"process {os.getpid()}\) is changing this fleet"),
        folder_lock(tmp_path / "lock", timeout_s=0.05),
    ):
        pass


def test_a_lock_whose_holder_cannot_be_told_is_still_a_lock(tmp_path):
    with folder_lock(tmp_path / "lock"):
        (tmp_path / "lock").write_bytes(b"")

        with pytest.raises(BusyError, match="process unknown"), folder_lock(tmp_path / "lock", timeout_s=0):
            pass


def test_a_lock_that_was_let_go_can_be_taken(tmp_path):
    for _ in range(2):
        with folder_lock(tmp_path / "lock", timeout_s=0):
            pass


def test_a_lock_ends_with_the_process_that_held_it(tmp_path):
    script = (
        "import sys, pathlib\nfrom edgeferry.fleet.files import folder_lock\n"
        "with folder_lock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.kill()

    with folder_lock(tmp_path / "lock", timeout_s=10):
        pass


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        (["cam-1", "door"], "; did you mean 'cam-1'?"),
        (["b", "a"], "; there are a, b"),
        ([], "; there are none yet"),
        ([f"{i:02}" for i in range(12)], "; there are 00, 01, 02, 03, 04, 05, 06, 07, 08, 09, ..."),
    ],
)
def test_an_unknown_name_comes_with_a_hint(known, hint):
    assert did_you_mean("cam1", known) == hint


def test_each_kind_of_error_has_its_exit_code():
    codes = {kind: kind.exit_code for kind in (FleetError, ArtifactError, BusyError, UsageError, PendingError)}
    assert list(codes.values()) == [1, 1, 1, 2, 3]
    assert ConfigurationError.exit_code == 78
