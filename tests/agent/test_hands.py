"""The trial and the serving process as the performer uses them: a real trial, and a server that answers by the book."""

import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeferry.agent.hands import ModelHands
from edgeferry.agent.performer import LoadRefusedError, ServingLostError
from edgeferry.agent.serving_client import ServingClient
from edgeferry.device_profiles import Swap, load_profile
from edgeferry.wire.messages import Code, Problem, Reason
from tests.models import artifact_folder, countdown_model

from .waiting import wait_until

PROFILE = load_profile("generic-x86-64")


class Answering(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A serving process that gives the same answer to everything; nothing at all while ``answer`` is empty."""

    daemon_threads = True
    answer = b""

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.asked: list[bytes] = []


class _Handler(socketserver.StreamRequestHandler):
    server: Answering

    def handle(self) -> None:
        while line := self.rfile.readline():
            if line.startswith((b"POST ", b"{}POST")):
                self.server.asked.append(line)
            if line == b"\r\n" and self.server.answer:
                self.wfile.write(self.server.answer)


@pytest.fixture
def server(memory_path: Path) -> Iterator[Answering]:
    with Answering(str(memory_path / "serving.sock")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def hands_in(folder: Path, timeout_s: float = 10.0) -> ModelHands:
    return ModelHands(ServingClient(folder / "serving.sock", timeout_s), PROFILE)


def load(hands: ModelHands) -> None:
    hands.load("cats", 1, Path("/model"), Path("/manifest"), "stable")


class TestServing:
    def test_a_version_that_is_loaded_is_loaded(self, memory_path: Path, server: Answering) -> None:
        server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

        load(hands_in(memory_path))
        hands_in(memory_path).unload("cats")

    def test_a_process_that_is_gone_is_lost(self, memory_path: Path) -> None:
        hands = hands_in(memory_path)

        with pytest.raises(ServingLostError, match="does not answer"):
            load(hands)
        with pytest.raises(ServingLostError, match="does not answer"):
            hands.unload("cats")

    def test_a_version_that_is_refused_is_told_with_the_reason(self, memory_path: Path, server: Answering) -> None:
        body = b'{"error":"no such op","code":"INVALID_ARGUMENT","reason":"MODEL_INVALID"}'
        server.answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

        with pytest.raises(LoadRefusedError) as caught:
            load(hands_in(memory_path))

        assert caught.value.problem == Problem(
            code=Code.INVALID_ARGUMENT, reason=Reason.MODEL_INVALID, detail="no such op"
        )

    def test_where_memory_holds_one_version_alone_the_old_one_is_unloaded_first(
        self, memory_path: Path, server: Answering
    ) -> None:
        server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        small = replace(PROFILE, serving=replace(PROFILE.serving, swap=Swap.STOP_FIRST))

        load(ModelHands(ServingClient(memory_path / "serving.sock", 10.0), small))

        assert [line.split()[1] for line in server.asked] == [
            b"/v2/repository/models/cats/unload",
            b"/v2/repository/models/cats/load",
        ]

    def test_a_process_that_does_not_answer_has_said_nothing_of_the_model(
        self, memory_path: Path, server: Answering
    ) -> None:
        with pytest.raises(ServingLostError):
            load(hands_in(memory_path, timeout_s=0.05))


class TestTrials:
    def test_a_good_candidate_passes(self, tmp_path: Path) -> None:
        folder = artifact_folder(tmp_path)

        assert trial_of(hands_in(tmp_path), folder) is None

    def test_a_file_that_is_no_model_must_not_serve(self, tmp_path: Path) -> None:
        folder = artifact_folder(tmp_path)
        (folder / "model.tflite").write_bytes(b"no model")

        problem = trial_of(hands_in(tmp_path), folder)

        assert problem is not None
        assert problem.reason is Reason.MODEL_INVALID

    def test_a_trial_is_ended_at_once_when_it_is_cancelled(self, tmp_path: Path) -> None:
        hands = hands_in(tmp_path)
        folder = artifact_folder(tmp_path, model=countdown_model, samples=1)
        answers: list[Problem | None] = []
        thread = threading.Thread(target=lambda: answers.append(trial_of(hands, folder)))
        hands.cancel_trial()  # of an earlier one: it does not concern this one
        thread.start()

        def is_over() -> bool:
            hands.cancel_trial()
            return not thread.is_alive()

        wait_until(is_over, "the trial to end")
        (problem,) = answers
        assert problem is None or problem.code is Code.CANCELLED

    def test_a_machine_that_cannot_start_a_process_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.executable", str(tmp_path / "missing"))

        problem = trial_of(hands_in(tmp_path), artifact_folder(tmp_path))

        assert problem is not None
        assert "cannot start the trial process" in problem.detail


def trial_of(hands: ModelHands, folder: Path) -> Problem | None:
    return hands.try_model(folder / "model.tflite", folder / "artifact.json", folder / "selftest.npz")
