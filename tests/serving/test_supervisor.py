import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.brokers import free_port
from tests.models import artifact_folder, countdown_model, hungry_model
from tests.serving.conftest import wait_until

from edgeferry.agent.serving.command import ServingOptions
from edgeferry.agent.serving_client import Serve, ServingClient, ServingError
from edgeferry.agent.supervisor import (
    ServingDown,
    ServingUp,
    Supervisor,
    SupervisorEvent,
    WatchLimits,
    backoff_s,
)
from edgeferry.wire.messages import Reason

MIB = 1024 * 1024


@dataclass
class Watched:
    supervisor: Supervisor
    client: ServingClient
    events: list[SupervisorEvent] = field(default_factory=list)

    @property
    def pid(self) -> int:
        pid = self.supervisor.pid
        assert pid
        return pid

    def ups(self) -> list[ServingUp]:
        return [event for event in self.events if isinstance(event, ServingUp)]

    def downs(self) -> list[ServingDown]:
        return [event for event in self.events if isinstance(event, ServingDown)]

    def wait_for_restart(self, restarts: int = 1) -> ServingDown:
        wait_until(lambda: len(self.ups()) == restarts + 1)
        return self.downs()[restarts - 1]

    def load(self, folder: Path, name: str) -> None:
        self.client.load(
            Serve(name, 1, path=folder / "model.tflite", manifest=folder / "artifact.json", label="stable")
        )

    def hang(self, model: str) -> None:
        """Ask for a run that never ends, and go on."""
        body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1e38]}]}).encode()
        status, _, _ = self.client.infer(model, "", body, None, 0.05)
        assert status == 504


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    running: list[Watched] = []

    def start(
        *,
        memory_limit_bytes: int = 1024 * MIB,
        wait: bool = True,
        http: str | None = None,
        options: ServingOptions | None = None,
        **limits: Any,
    ) -> Watched:
        events: list[SupervisorEvent] = []
        socket_path = tmp_path / "serving.sock"
        quick = {"ping_s": 0.05, "tick_s": 0.02} | limits
        supervisor = Supervisor(
            socket_path=socket_path,
            http=http,
            runtime_dir=tmp_path / "run",
            threads=1,
            memory_limit_bytes=memory_limit_bytes,
            emit=events.append,
            limits=WatchLimits(**quick),
            options=options,
        )
        running.append(Watched(supervisor, ServingClient(socket_path, 10.0), events))
        supervisor.start()
        if wait:
            wait_until(running[-1].ups)
        return running[-1]

    yield start
    for each in running:
        each.client.close()
        each.supervisor.stop(5.0)
        assert not each.supervisor.is_alive


def test_the_process_is_up_when_it_answers(watched: Callable[..., Watched]) -> None:
    serving = watched()

    assert serving.events == [ServingUp(serving.pid)]
    serving.client.ping()


def test_a_killed_process_is_started_again(watched: Callable[..., Watched]) -> None:
    serving = watched()
    first = serving.pid

    os.kill(first, signal.SIGKILL)
    down = serving.wait_for_restart()

    assert (down.reason, down.exit_code, down.signal) == (Reason.SERVING_CRASHED, None, signal.SIGKILL)
    assert (down.suspect, down.is_proven) == ("", False)
    assert down.detail == "the serving process was ended by SIGKILL"
    assert serving.pid != first


def test_the_process_is_told_to_answer_grpc_too(watched: Callable[..., Watched]) -> None:
    address = f"127.0.0.1:{free_port()}"

    watched(options=ServingOptions(grpc=address))

    with grpc.insecure_channel(address) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10) == b"\x08\x01"


def test_a_kept_client_finds_the_new_process(watched: Callable[..., Watched]) -> None:
    serving = watched()
    serving.client.ping()

    os.kill(serving.pid, signal.SIGKILL)
    serving.wait_for_restart()

    serving.client.ping()


def test_a_crash_in_a_run_names_the_model(watched: Callable[..., Watched], tmp_path: Path) -> None:
    serving = watched()
    serving.load(artifact_folder(tmp_path, name="good"), "good")
    serving.load(artifact_folder(tmp_path, name="bad", model=countdown_model), "bad")
    serving.hang("bad")

    os.kill(serving.pid, signal.SIGSEGV)
    down = serving.wait_for_restart()

    assert (down.suspect, down.suspect_version, down.is_proven) == ("bad", 1, True)
    assert down.detail == "the serving process was ended by SIGSEGV while running bad 1"


def test_a_run_that_never_ends_costs_the_process_and_names_the_model(
    watched: Callable[..., Watched], tmp_path: Path
) -> None:
    serving = watched(run_s=0.2)
    serving.load(artifact_folder(tmp_path, name="bad", model=countdown_model), "bad")

    serving.hang("bad")
    down = serving.wait_for_restart()

    assert (down.reason, down.suspect, down.is_proven) == (Reason.SERVING_CRASHED, "bad", True)
    assert "did not come back for 0." in down.detail


def test_a_process_that_gives_no_sign_of_life_is_killed(watched: Callable[..., Watched]) -> None:
    serving = watched(ping_deadline_s=0.5)

    os.kill(serving.pid, signal.SIGSTOP)
    down = serving.wait_for_restart()

    assert (down.reason, down.signal) == (Reason.SERVING_CRASHED, signal.SIGKILL)
    assert "gave no sign of life for 0." in down.detail


def test_a_process_that_holds_too_much_memory_is_killed(watched: Callable[..., Watched], tmp_path: Path) -> None:
    serving = watched(memory_limit_bytes=150 * MIB)
    folder = artifact_folder(tmp_path, name="hungry", samples=1, model=lambda p: hungry_model(p, size_bytes=200 * MIB))

    # It is killed before the load has been answered, or after.
    with contextlib.suppress(ServingError):
        serving.load(folder, "hungry")
    down = serving.wait_for_restart()

    assert down.reason == Reason.MEMORY_LIMIT
    assert f"allowed are {150 * MIB}" in down.detail


def test_a_process_that_cannot_listen_is_tried_again_and_again(watched: Callable[..., Watched]) -> None:
    serving = watched(http="256.0.0.0:1", wait=False)

    wait_until(lambda: len(serving.downs()) >= 2)

    assert serving.downs()[0].exit_code == 78
    assert serving.ups() == []


def test_a_process_that_is_not_ready_in_time_is_killed(watched: Callable[..., Watched]) -> None:
    serving = watched(ready_s=0.0, wait=False)

    wait_until(serving.downs)

    assert serving.downs()[0].reason == Reason.SERVING_UNAVAILABLE
    assert serving.downs()[0].detail == "the serving process did not answer within 0 s"


def test_a_process_that_cannot_be_started_is_an_event(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")

    serving = watched(wait=False)
    wait_until(serving.downs)

    assert serving.downs()[0].reason == Reason.SERVING_UNAVAILABLE
    assert "cannot be started" in serving.downs()[0].detail


def test_asking_for_it_ends_the_wait_for_the_next_start(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeferry.agent.supervisor.backoff_s", lambda *_: 3600.0)
    serving = watched(http="256.0.0.0:1", wait=False)
    wait_until(serving.downs)

    wait_until(lambda: serving.supervisor.ensure_running() or len(serving.downs()) > 1)


def test_a_wanted_end_is_no_event_and_leaves_nothing(watched: Callable[..., Watched], tmp_path: Path) -> None:
    serving = watched()
    pid = serving.pid

    serving.supervisor.ensure_running()
    serving.supervisor.stop(5.0)

    assert serving.downs() == []
    assert serving.supervisor.pid is None
    assert not Path(f"/proc/{pid}").exists()
    assert not (tmp_path / "serving.sock").exists()


def test_a_process_that_does_not_stop_is_killed(watched: Callable[..., Watched]) -> None:
    serving = watched()
    pid = serving.pid
    os.kill(pid, signal.SIGSTOP)

    serving.supervisor.stop(0.2)

    assert not Path(f"/proc/{pid}").exists()
    assert serving.downs() == []


def test_stopping_what_was_never_started_does_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor(
        socket_path=tmp_path / "s",
        http=None,
        runtime_dir=tmp_path,
        threads=1,
        memory_limit_bytes=1,
        emit=lambda _: None,
    )

    supervisor.stop(0.1)

    assert not supervisor.is_alive


def test_stopping_at_once_after_the_start_leaves_nothing(watched: Callable[..., Watched]) -> None:
    serving = watched(wait=False)

    serving.supervisor.stop(5.0)

    assert serving.supervisor.pid is None
    assert serving.downs() == []


def test_the_wait_grows_and_is_capped_and_spread() -> None:
    assert [backoff_s(n, 1.0) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert backoff_s(1000, 1.0) == 30.0
    assert backoff_s(1000, 0.0) == 15.0


def test_other_threads_are_not_disturbed_by_a_stop(watched: Callable[..., Watched]) -> None:
    serving = watched()
    stops = [threading.Thread(target=serving.supervisor.stop, args=(5.0,)) for _ in range(3)]

    for stop in stops:
        stop.start()
    for stop in stops:
        stop.join(10)

    assert serving.downs() == []
