"""Samples from real programs, folders and topics."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.system.harness import wait_until

from edgeferry.agent.serving.pipelines import programs, sources
from edgeferry.agent.serving.pipelines.framing import LineFramer
from edgeferry.agent.serving.pipelines.sources import CommandSource, FolderSource, TopicSource


class Taken:
    """Takes samples and complaints."""

    def __init__(self) -> None:
        self.samples: list[tuple[bytes, str]] = []
        self.complaints: list[str] = []

    def offer(self, data: bytes, origin: str) -> None:
        self.samples.append((data, origin))


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(sources, "LOOK_S", 0.02)


class TestCommand:
    @pytest.fixture
    def started(self, taken: Taken) -> Iterator[list[CommandSource]]:
        made: list[CommandSource] = []
        yield made
        for source in made:
            source.stop()

    def start(self, started: list[CommandSource], taken: Taken, *command: str) -> CommandSource:
        source = CommandSource(command, LineFramer, taken.offer, taken.complaints.append)
        started.append(source)
        source.start()
        return source

    def test_what_it_writes_is_cut_into_samples(self, started: list[CommandSource], taken: Taken) -> None:
        self.start(started, taken, "sh", "-c", "echo 1,2; echo 3,4; exec sleep 600")

        wait_until(lambda: len(taken.samples) == 2, "two samples")
        assert taken.samples == [(b"1,2", ""), (b"3,4", "")]
        assert taken.complaints == []

    def test_one_that_ends_is_started_again_and_that_is_told(self, started: list[CommandSource], taken: Taken) -> None:
        self.start(started, taken, "sh", "-c", "echo 1; exit 3")

        wait_until(lambda: len(taken.samples) >= 3, "three starts")
        assert taken.complaints[0] == "sh has ended with 3; it is started again"

    def test_one_that_is_not_there_is_told(self, started: list[CommandSource], taken: Taken) -> None:
        self.start(started, taken, "/nowhere/camera")

        wait_until(lambda: taken.complaints, "a complaint")
        assert "/nowhere/camera cannot be started" in taken.complaints[0]

    def test_one_that_says_nothing_and_ignores_sigterm_ends_with_us(
        self, started: list[CommandSource], taken: Taken, tmp_path: Path
    ) -> None:
        script = (
            "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
            f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(600)"
        )
        source = self.start(started, taken, sys.executable, "-c", script)
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the program")
        pid = int((tmp_path / "pid").read_text())

        thread = threading.Thread(target=source.stop)
        thread.start()
        thread.join(20)

        wait_until(lambda: not psutil.pid_exists(pid), "its end")


class TestFolder:
    @pytest.fixture
    def source(self, tmp_path: Path, taken: Taken) -> FolderSource:
        (tmp_path / "old.jpg").write_bytes(b"old")
        made = FolderSource(tmp_path, taken.offer, taken.complaints.append)
        made.look()
        return made

    def test_a_file_is_taken_when_it_has_been_written_to_its_end(
        self, source: FolderSource, tmp_path: Path, taken: Taken
    ) -> None:
        (tmp_path / "b.jpg").write_bytes(b"half")
        source.look()
        (tmp_path / "b.jpg").write_bytes(b"half and whole")
        source.look()
        assert taken.samples == []

        source.look()
        source.look()

        assert taken.samples == [(b"half and whole", "b.jpg")]

    def test_several_come_in_the_order_of_their_names_and_hidden_ones_and_folders_never(
        self, source: FolderSource, tmp_path: Path, taken: Taken
    ) -> None:
        for name in ("3", "1", "2", ".hidden"):
            (tmp_path / name).write_bytes(name.encode())
        (tmp_path / "folder").mkdir()

        source.look()
        source.look()

        assert [origin for _, origin in taken.samples] == ["1", "2", "3"]

    def test_a_file_that_is_written_anew_is_a_sample_again(
        self, source: FolderSource, tmp_path: Path, taken: Taken
    ) -> None:
        for text in (b"one", b"the other"):
            (tmp_path / "latest.jpg").write_bytes(text)
            source.look()
            source.look()

        assert [data for data, _ in taken.samples] == [b"one", b"the other"]

    def test_a_file_that_is_too_large_or_cannot_be_read_is_told(
        self, source: FolderSource, tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "MAX_SAMPLE_BYTES", 4)
        (tmp_path / "large").write_bytes(b"12345")
        source.look()
        source.look()

        assert taken.samples == []
        assert "large is larger than" in taken.complaints[0]

    def test_a_folder_that_is_not_there_is_told_and_watched_all_the_same(self, tmp_path: Path, taken: Taken) -> None:
        folder = tmp_path / "later"
        source = FolderSource(folder, taken.offer, taken.complaints.append)
        source.start()
        try:
            wait_until(lambda: taken.complaints, "a complaint")
            folder.mkdir()
            wait_until(lambda: source._seen is not None, "a look")
            partial = folder / ".x"
            partial.write_bytes(b"x")
            partial.replace(folder / "x")
            wait_until(lambda: taken.samples, "a sample")
        finally:
            source.stop()
        assert taken.samples == [(b"x", "x")]


class TestTopic:
    def test_messages_on_its_topic_are_samples_while_it_runs(self, taken: Taken) -> None:
        source = TopicSource("porch", "sensors/+/raw", taken.offer)
        source.received("sensors/a/raw", b"early")
        source.start()

        source.received("sensors/a/raw", b"1")
        source.received("sensors/a/other", b"2")
        source.stop()
        source.received("sensors/a/raw", b"late")

        assert taken.samples == [(b"1", "sensors/a/raw")]
