"""The trial and the serving process as the performer uses them: a real trial, and a server that answers by the book."""

import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replace_field

from edgeferry.agent.hands import ModelHands
from edgeferry.agent.performer import LoadRefusedError, ServingLostError
from edgeferry.agent.serving_client import Serve, ServingClient, Takeover
from edgeferry.device_profiles import DeviceProfile, load_profile
from edgeferry.device_profiles import Swap as ProfileSwap
from edgeferry.wire.codec import encode
from edgeferry.wire.messages import Code, Problem, Reason, Swap
from tests.models import artifact_folder, countdown_model
from tests.wire.examples import MANIFEST

from .waiting import wait_until

PROFILE = load_profile("generic-x86-64")
SMALL = replace(PROFILE, serving=replace(PROFILE.serving, swap=ProfileSwap.STOP_FIRST))
LENGTH = b"Content-Length:"


class Answering(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A serving process that gives the same answer to everything, with ``body``; none at all while that is empty.

    Attributes:
        loads: What it was told to load.
        refusal: What it answers to that; empty for ``body`` as to everything else.
    """

    daemon_threads = True
    body = b"{}"
    refusal = b""

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.loads: list[dict[str, Any]] = []


class _Handler(socketserver.StreamRequestHandler):
    server: Answering

    def handle(self) -> None:
        while line := self.rfile.readline():
            lengths = [int(field[15:]) for field in iter(self.rfile.readline, b"\r\n") if field.startswith(LENGTH)]
            body = self.rfile.read(*lengths)
            if b"/load " in line:
                self.server.loads.append(json.loads(body))
                self._say(b"400 Bad Request" if self.server.refusal else b"200 OK", self.server.refusal)
            else:
                self._say(b"200 OK", b"")

    def _say(self, status: bytes, refusal: bytes) -> None:
        if body := refusal or self.server.body:
            self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@pytest.fixture
def server(memory_path: Path) -> Iterator[Answering]:
    with Answering(str(memory_path / "serving.sock")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def hands_in(folder: Path, profile: DeviceProfile = PROFILE, timeout_s: float = 10.0) -> ModelHands:
    return ModelHands(ServingClient(folder / "serving.sock", timeout_s), profile)


def manifest_of(folder: Path, memory_bytes: int) -> Path:
    path = folder / "artifact.json"
    path.write_bytes(encode(replace_field(MANIFEST, memory_bytes=memory_bytes)))
    return path


def load(hands: ModelHands) -> Takeover:
    return hands.load(Serve("cats", 1, Path("/model"), Path("/manifest"), "stable"))


class TestServing:
    def test_a_version_that_is_loaded_is_loaded(self, memory_path: Path, server: Answering) -> None:
        load(hands_in(memory_path))
        hands_in(memory_path).unload("cats", "stable")

    def test_a_process_that_is_gone_is_lost(self, memory_path: Path) -> None:
        hands = hands_in(memory_path)

        with pytest.raises(ServingLostError, match="does not answer"):
            load(hands)
        with pytest.raises(ServingLostError, match="does not answer"):
            hands.unload("cats", "stable")

    def test_a_version_that_is_refused_is_told_with_the_reason(self, memory_path: Path, server: Answering) -> None:
        server.refusal = b'{"error":"no such op","code":"INVALID_ARGUMENT","reason":"MODEL_INVALID"}'

        with pytest.raises(LoadRefusedError) as caught:
            load(hands_in(memory_path))

        assert caught.value.problem == Problem(
            code=Code.INVALID_ARGUMENT, reason=Reason.MODEL_INVALID, detail="no such op"
        )

    def test_where_the_profile_holds_one_version_alone_the_old_one_is_unloaded_first(
        self, memory_path: Path, server: Answering
    ) -> None:
        server.body = b'{"swap":"stop_first","gap_ms":12}'

        takeover = load(hands_in(memory_path, SMALL))

        assert takeover == Takeover(Swap.STOP_FIRST, 12)
        assert server.loads[0]["stops_first"] is True

    def test_where_memory_holds_both_the_old_one_serves_on(self, memory_path: Path, server: Answering) -> None:
        server.body = b'{"swap":"both"}'

        takeover = load(hands_in(memory_path))

        assert takeover == Takeover(Swap.BOTH)
        assert server.loads[0]["stops_first"] is False

    @pytest.mark.parametrize(("needed_bytes", "stops_first"), [(100 << 20, False), (1 << 40, True)])
    def test_a_version_that_does_not_fit_beside_what_is_held_takes_its_place(
        self, memory_path: Path, server: Answering, needed_bytes: int, *, stops_first: bool
    ) -> None:
        manifest = manifest_of(memory_path, needed_bytes)

        hands_in(memory_path).load(Serve("cats", 1, Path("/model"), manifest, "stable"))

        assert server.loads[0]["stops_first"] is stops_first

    def test_memory_that_is_held_already_counts(self, memory_path: Path, server: Answering) -> None:
        limit_bytes = PROFILE.serving.memory_limit_bytes
        server.body = b'{"rss_bytes":%d}' % (limit_bytes - (99 << 20))

        hands_in(memory_path).load(Serve("cats", 1, Path("/model"), manifest_of(memory_path, 100 << 20), "stable"))

        assert server.loads[0]["stops_first"] is True

    @pytest.mark.parametrize("needed_bytes", [1 << 10, 1 << 40])
    def test_a_canary_for_which_there_is_no_room_is_refused(
        self, memory_path: Path, server: Answering, needed_bytes: int
    ) -> None:
        profile = SMALL if needed_bytes < 1 << 20 else PROFILE
        wanted = Serve("cats", 2, Path("/model"), manifest_of(memory_path, needed_bytes), "canary", 10)

        with pytest.raises(LoadRefusedError, match="cannot serve as canary beside what serves") as caught:
            hands_in(memory_path, profile).load(wanted)

        assert caught.value.problem.reason is Reason.MEMORY_LIMIT
        assert server.loads == []

    def test_a_version_that_is_loaded_already_needs_no_room(self, memory_path: Path, server: Answering) -> None:
        server.body = b'{"models":{"cats":{"1":{}}},"swap":"both"}'

        load(hands_in(memory_path, SMALL))

        assert server.loads[0]["stops_first"] is False

    def test_a_process_that_does_not_answer_has_said_nothing_of_the_model(
        self, memory_path: Path, server: Answering
    ) -> None:
        server.body = b""

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
