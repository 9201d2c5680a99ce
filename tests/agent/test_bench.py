"""A model is measured when an operator asks, without changing what is installed or served."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeferry.agent.bench import Bench
from edgeferry.agent.state import AgentState, Installed, ModelRecord
from edgeferry.wire.bench import BenchReport
from edgeferry.wire.codec import Message
from edgeferry.wire.desired import BlobRef
from edgeferry.wire.messages import Problem
from tests.models import artifact_folder, countdown_model

from .simulated import MODEL, PROFILE


def installed(version: int, folder: Path | None = None) -> Installed:
    """Return what an agent remembers of an artifact; of one without files where there is no ``folder``."""
    names = ("artifact.json", "model.tflite", "selftest.npz")
    manifest, model, selftest = (_ref(folder / name if folder else None) for name in names)
    return Installed("d" * 64, version, "int8", manifest, model, selftest)


def _ref(path: Path | None) -> BlobRef:
    data = path.read_bytes() if path else b""
    return BlobRef(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


class Stand:
    """A bench, what lies on its disk, and what it has answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: dict[str, Path] = {}
        self.record = ModelRecord()
        self.jobs: list[Callable[[], None]] = []
        self.answers: list[Message] = []
        self.bench = Bench(self.paths.__getitem__, PROFILE, self.jobs.append, self._state)

    def install(self, version: int, **how: Any) -> Installed:
        folder = artifact_folder(self.folder, version=version, **how)
        self.paths |= {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.iterdir()}
        return installed(version, folder)

    def ask(self, **parameters: Any) -> Problem | None:
        return self.bench.begin({"model": MODEL, "seconds": 0.05} | parameters, self.answers.append)

    def report(self) -> BenchReport:
        self.jobs.pop()()
        (answer,) = self.answers
        assert isinstance(answer, BenchReport)
        return answer

    def _state(self) -> AgentState:
        return AgentState(models={MODEL: self.record})


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def test_the_active_version_is_measured(stand: Stand) -> None:
    stand.record = ModelRecord(active=stand.install(3))

    assert stand.ask() is None

    report = stand.report()
    assert (report.model, report.version, report.scheme, report.profile) == (MODEL, 3, "int8", PROFILE.name)
    assert stand.record.active is not None
    assert report.sha256 == stand.record.active.model.sha256
    assert report.runs > 20
    assert 0 < report.p50_ms <= report.p95_ms
    assert report.load_ms > 0
    assert report.peak_rss_bytes > 1 << 20


def test_the_previous_version_is_measured_when_it_is_named(stand: Stand) -> None:
    stand.record = ModelRecord(active=stand.install(3), previous=stand.install(2))

    assert stand.ask(version=2) is None

    assert stand.report().version == 2


def test_a_version_that_is_not_here_is_refused_with_those_that_are(stand: Stand) -> None:
    stand.record = ModelRecord(active=installed(3), previous=installed(2))

    problem = stand.ask(version=1)

    assert problem is not None
    assert problem.reason == "UNKNOWN_MODEL"
    assert "wanted version 1, on this device are 3, 2" in problem.detail


@pytest.mark.parametrize("model", ["unheard", MODEL])
def test_a_model_that_is_not_here_is_refused(stand: Stand, model: str) -> None:
    problem = stand.ask(model=model)

    assert problem is not None
    assert "on this device are none" in problem.detail


@pytest.mark.parametrize(
    "parameters", [{"seconds": 31}, {"seconds": 0}, {"seconds": "1"}, {"version": -1}, {"model": "../etc"}]
)
def test_parameters_out_of_range_are_refused(stand: Stand, parameters: dict[str, object]) -> None:
    problem = stand.ask(**parameters)

    assert problem is not None
    assert problem.reason == "BAD_REQUEST"


def test_a_second_one_is_refused_until_the_first_has_ended(stand: Stand) -> None:
    stand.record = ModelRecord(active=stand.install(3))
    assert stand.ask() is None

    busy = stand.ask()
    stand.report()
    again = stand.ask()

    assert busy is not None
    assert busy.reason == "BUSY"
    assert again is None


def test_a_model_that_fails_its_self_test_now_is_told(stand: Stand) -> None:
    stand.record = ModelRecord(active=stand.install(3, passing=False))
    assert stand.ask() is None

    stand.jobs.pop()()

    (answer,) = stand.answers
    assert isinstance(answer, Problem)
    assert answer.reason == "SELFTEST_MISMATCH"


def test_it_ends_when_the_agent_ends(stand: Stand) -> None:
    stand.record = ModelRecord(active=stand.install(3, model=countdown_model, samples=1))
    assert stand.ask(seconds=30) is None
    stand.bench.cancel()

    stand.jobs.pop()()

    (answer,) = stand.answers
    assert isinstance(answer, Problem)
    assert answer.code == "CANCELLED"
