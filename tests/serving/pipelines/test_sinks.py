"""Answers that go to real files and programs, and to a topic."""

import sys
from pathlib import Path

import pytest
from tests.system.harness import wait_until

from edgeferry.agent.serving.pipelines import sinks
from edgeferry.agent.serving.pipelines.sinks import CommandSink, FileSink, SinkError, TopicSink


class TestFile:
    def test_answers_are_lines_and_older_files_stay_as_many_as_wanted(self, tmp_path: Path) -> None:
        path = tmp_path / "answers" / "porch.jsonl"
        sink = FileSink(path, max_bytes=1024, keep=2)

        for number in range(40):
            sink.put(b"%03d" % number + b"x" * 97)
        sink.close()

        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["porch.jsonl", "porch.jsonl.1", "porch.jsonl.2"]
        assert all(file.stat().st_size <= 1024 for file in files)
        newest_first = [line[:3] for file in files for line in reversed(file.read_bytes().splitlines())]
        assert newest_first == [b"%03d" % number for number in range(39, 39 - len(newest_first), -1)]

    def test_it_goes_on_in_the_file_that_is_there(self, tmp_path: Path) -> None:
        for number in (b"1", b"2"):
            sink = FileSink(tmp_path / "a", max_bytes=1024, keep=0)
            sink.put(number)
            sink.close()

        assert (tmp_path / "a").read_bytes() == b"1\n2\n"

    def test_without_older_files_the_newest_begins_anew(self, tmp_path: Path) -> None:
        sink = FileSink(tmp_path / "a", max_bytes=1024, keep=0)
        for _ in range(30):
            sink.put(b"x" * 99)
        sink.close()

        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").stat().st_size <= 1024

    def test_a_disk_that_refuses_is_told_and_tried_again(self, tmp_path: Path) -> None:
        (tmp_path / "folder").touch()
        sink = FileSink(tmp_path / "folder" / "a", max_bytes=1024, keep=0)
        with pytest.raises(SinkError, match="cannot write"):
            sink.put(b"1")
        (tmp_path / "folder").unlink()

        sink.put(b"2")
        sink.close()

        assert (tmp_path / "folder" / "a").read_bytes() == b"2\n"

    def test_a_disk_that_is_full_leaves_no_half_line(self) -> None:
        sink = FileSink(Path("/dev/full"), max_bytes=1024, keep=0)

        with pytest.raises(SinkError, match="No space left"):
            sink.put(b"1")


class TestCommand:
    def test_answers_are_lines_on_its_input(self, tmp_path: Path) -> None:
        sink = CommandSink(["sh", "-c", f"cat > {tmp_path}/got"])

        sink.put(b"one")
        sink.put(b"two")

        wait_until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").read_bytes() == b"one\ntwo\n", "both")
        sink.close()

    def test_one_that_has_ended_is_told_and_started_again_after_a_pause(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sinks, "FIRST_PAUSE_S", 0.0)
        script = f"read line; echo $line >> {tmp_path}/got"
        sink = CommandSink(["sh", "-c", script])
        sink.put(b"first")
        wait_until((tmp_path / "got").exists, "the first")

        refusals: list[str] = []

        def refused() -> list[str]:
            try:
                sink.put(b"again")
            except SinkError as err:
                refusals.append(str(err))
            return refusals

        wait_until(refused, "a refusal")
        assert "sh did not take an answer" in refusals[0]
        sink.put(b"second")
        wait_until(lambda: (tmp_path / "got").read_bytes().endswith(b"second\n"), "the second")
        sink.close()

    def test_one_that_does_not_read_is_given_up_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sinks, "END_TIMEOUT_S", 0.1)
        sink = CommandSink([sys.executable, "-c", "import time; time.sleep(600)"], timeout_s=0.1)

        with pytest.raises(SinkError, match="has not read for"):
            sink.put(b"x" * (1 << 20))
        with pytest.raises(SinkError, match="started again soon"):
            sink.put(b"x")
        sink.close()

    def test_one_that_is_not_there_is_told(self) -> None:
        with pytest.raises(SinkError, match="/nowhere/program"):
            CommandSink(["/nowhere/program"]).put(b"1")


def test_a_message_that_was_not_taken_is_told() -> None:
    said: list[tuple[str, bytes]] = []

    TopicSink("answers", lambda topic, payload: said.append((topic, payload)) or 1).put(b"1")
    with pytest.raises(SinkError, match="not said on answers"):
        TopicSink("answers", lambda _topic, _payload: None).put(b"2")

    assert said == [("answers", b"1")]
