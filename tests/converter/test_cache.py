"""The cache of stages: whole entries or none, whatever happens to the disk and whoever else uses it."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from edgeferry.converter.cache import Cache, default_folder

KEY = "a" * 64
OTHER = "b" * 64


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def work(tmp_path) -> Path:
    """Return the folder of a child that has made a file and a folder."""
    folder = tmp_path / "work"
    (folder / "outputs").mkdir(parents=True)
    (folder / "model.tflite").write_bytes(b"model")
    (folder / "outputs" / "0.npy").write_bytes(b"numbers")
    (folder / "output.txt").write_bytes(b"chatter")
    return folder


def keep(cache: Cache, work: Path, key: str = KEY, content: bytes = b"model") -> None:
    (work / "model.tflite").unlink()
    (work / "model.tflite").write_bytes(content)
    cache.keep(key, "making cats", {"size": 5}, work, ["model.tflite", "outputs"])


def stored(cache: Cache, key: str = KEY) -> Path:
    return cache.folder / "entries" / key / "files" / "model.tflite"


def test_what_was_kept_comes_back_without_what_was_not_wanted(cache, work, tmp_path):
    keep(cache, work)

    result = cache.take(KEY, tmp_path / "again")

    assert result == {"size": 5}
    found = {path.relative_to(tmp_path / "again").as_posix() for path in (tmp_path / "again").rglob("*.*")}
    assert found == {"model.tflite", "outputs/0.npy"}
    assert (tmp_path / "again" / "model.tflite").read_bytes() == b"model"


def test_what_was_never_kept_is_not_there(cache, tmp_path):
    assert cache.take(KEY, tmp_path / "again") is None
    assert cache.held() == []
    assert cache.prune(0) == []


def test_nothing_is_left_beside_the_entries(cache, work):
    keep(cache, work)
    keep(cache, work)

    assert [path.name for path in cache.folder.iterdir()] == ["entries"]
    assert [path.name for path in (cache.folder / "entries").iterdir()] == [KEY]


def test_the_files_are_read_only(cache, work, tmp_path):
    keep(cache, work)
    cache.take(KEY, tmp_path / "again")

    assert (tmp_path / "again" / "model.tflite").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("content", [b"modem", b"mode", b""])
def test_a_damaged_file_is_thrown_away_and_never_handed_out(cache, work, tmp_path, content):
    keep(cache, work)
    stored(cache).chmod(0o600)
    stored(cache).write_bytes(content)

    assert cache.take(KEY, tmp_path / "again") is None

    assert not (cache.folder / "entries" / KEY).exists()
    assert not (tmp_path / "again" / "model.tflite").exists()


def test_a_file_that_is_gone_is_a_miss(cache, work, tmp_path):
    keep(cache, work)
    stored(cache).unlink()

    assert cache.take(KEY, tmp_path / "again") is None


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../escaped": {"sha256": "0" * 64, "size_bytes": 1}}},
        {"files": {"/etc/passwd": {"sha256": "0" * 64, "size_bytes": 1}}},
        {"format": 2},
        {"key": OTHER},
        {"result": 3},
    ],
)
def test_an_entry_that_says_something_else_is_a_miss(cache, work, tmp_path, change):
    keep(cache, work)
    path = cache.folder / "entries" / KEY / "entry.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    assert cache.take(KEY, tmp_path / "again") is None


def test_garbage_is_swept_by_pruning(cache, work):
    keep(cache, work)
    (cache.folder / "entries" / OTHER).mkdir()
    (cache.folder / "entries" / OTHER / "entry.json").write_text("{")

    assert cache.prune(2**30) == []

    assert [path.name for path in (cache.folder / "entries").iterdir()] == [KEY]


def test_what_a_killed_process_left_goes_after_a_day(cache, work):
    keep(cache, work)
    old, young = cache.folder / "new.old", cache.folder / "new.young"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, times=(time.time() - 100_000,) * 2)

    cache.prune(2**30)

    assert not old.exists()
    assert young.exists()


def test_the_least_recently_used_goes_first(cache, work, tmp_path):
    for index, key in enumerate((KEY, OTHER)):
        keep(cache, work, key, content=bytes([index]) * 100)
        os.utime(cache.folder / "entries" / key / "entry.json", times=(index, index))
    cache.take(KEY, tmp_path / "again")

    gone = cache.prune(150)

    assert [entry.key for entry in gone] == [OTHER]
    assert [held.entry.key for held in cache.held()] == [KEY]


def test_what_cannot_be_had_whole_leaves_nothing_that_could_be_written_into(cache, work, tmp_path):
    keep(cache, work)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "outputs").write_text("in the way")

    assert cache.take(KEY, tmp_path / "again") is None

    assert [path.name for path in (tmp_path / "again").iterdir()] == ["outputs"]
    assert cache.take(KEY, tmp_path / "elsewhere") == {"size": 5}


def test_what_is_kept_at_the_same_time_is_whole(cache, tmp_path):
    def one(number: int) -> None:
        folder = tmp_path / f"work{number}"
        folder.mkdir()
        for _ in range(20):
            (folder / "model.tflite").unlink(missing_ok=True)
            (folder / "model.tflite").write_bytes(b"same")
            cache.keep(KEY, "x", {}, folder, ["model.tflite"])
            taken = cache.take(KEY, folder / "again")
            assert taken in ({}, None)
            if number == 0:
                cache.prune(0)

    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            one(number)
        except BaseException as err:  # noqa: BLE001 - told by the test's own thread
            errors.append(err)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert [path.name for path in cache.folder.iterdir()] == ["entries"]


def test_another_file_system_is_copied_to(cache, work, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    keep(cache, work)

    assert cache.take(KEY, tmp_path / "again") == {"size": 5}
    assert (tmp_path / "again" / "model.tflite").read_bytes() == b"model"


def test_the_folder_follows_the_xdg_specification(tmp_path):
    assert default_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "edgeferry" / "converter"
    assert default_folder({"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache" / "edgeferry" / "converter"
    assert default_folder({}) == Path.home() / ".cache" / "edgeferry" / "converter"
