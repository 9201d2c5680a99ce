"""What the agent takes from the machine: a folder in memory, a free port, versions, log lines."""

import gc
import logging
import socket
import stat
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeferry import __version__
from edgeferry.agent import memory
from edgeferry.agent.errors import AgentError, ConfigError, StoreError
from edgeferry.agent.host import check_free, check_grpc, memory_folder, versions
from edgeferry.agent.logs import LOG_LINES, keep_log_lines


class TestTheFolderInMemory:
    def test_the_service_manager_s_is_taken_and_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/another")

        with memory_folder(tmp_path) as folder:
            assert folder == tmp_path

        assert tmp_path.exists()

    @pytest.fixture
    def without_manager(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)

    @pytest.mark.usefixtures("without_manager")
    def test_without_one_a_folder_of_our_own_is_made_and_removed(self, tmp_path: Path) -> None:
        with memory_folder(tmp_path) as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "file").touch()

        assert not folder.exists()

    @pytest.mark.usefixtures("without_manager")
    def test_the_one_that_a_killed_agent_has_left_is_taken_again(self, tmp_path: Path) -> None:
        with memory_folder(tmp_path) as left, memory_folder(tmp_path) as taken:
            assert taken == left

    @pytest.mark.usefixtures("without_manager")
    def test_one_that_others_may_look_into_is_refused(self, tmp_path: Path) -> None:
        with memory_folder(tmp_path) as folder:
            folder.chmod(0o755)

            with pytest.raises(StoreError, match=f"{folder} was made by somebody else"), memory_folder(tmp_path):
                pass


class TestPorts:
    @pytest.fixture
    def taken(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener

    @pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
    def test_a_free_one_is_free(self, address: str) -> None:
        check_free(address)

    def test_a_taken_one_is_told_with_what_to_do(self, taken: socket.socket) -> None:
        port = taken.getsockname()[1]

        with pytest.raises(AgentError, match=rf"cannot listen on 127.0.0.1:{port}: .*choose another HOST:PORT"):
            check_free(f"127.0.0.1:{port}", patience_s=0.0)

    def test_one_that_is_given_back_in_time_is_free(self, taken: socket.socket) -> None:
        threading.Timer(0.05, taken.close).start()

        check_free(f"127.0.0.1:{taken.getsockname()[1]}", patience_s=10.0)

    def test_grpc_without_grpcio_is_told_before_anything_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        check_grpc()
        monkeypatch.setitem(sys.modules, "grpc", None)  # Python's word for "not there"

        with pytest.raises(ConfigError, match=r"listen\.grpc needs grpcio"):
            check_grpc()

    @pytest.mark.parametrize("address", ["192.0.2.1:80", "127.0.0.1:99999", "127.0.0.1:port"])
    def test_an_address_that_is_not_this_machine_s_is_told_at_once(self, address: str) -> None:
        with pytest.raises(AgentError, match=f"cannot listen on {address}: "):
            check_free(address)


class TestVersions:
    def test_everything_that_runs_is_told(self) -> None:
        found = versions("msgspec")

        assert found["edgeferry"] == __version__
        assert found["runtime"].startswith("msgspec ")
        assert found["os"]

    def test_a_runtime_that_is_not_installed_is_left_out_and_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        assert "runtime" not in versions("no-such-runtime")
        assert "no-such-runtime is not installed" in caplog.text


def test_the_last_lines_of_the_log_are_kept() -> None:
    logger = logging.getLogger("edgeferry.test")
    lines = keep_log_lines()
    try:
        for number in range(LOG_LINES + 5):
            logger.warning("line %d", number)
    finally:
        logging.getLogger("edgeferry").handlers.pop()

    assert len(lines) == LOG_LINES
    assert lines[-1].endswith(f"WARNING edgeferry.test: line {LOG_LINES + 4}")


def test_giving_memory_back_collects_what_is_unreachable() -> None:
    class Ring:
        def __init__(self) -> None:
            self.me = self

    gc.disable()
    try:
        gone = weakref.ref(Ring())
        assert gone() is not None
        memory.give_back()
    finally:
        gc.enable()

    assert gone() is None
