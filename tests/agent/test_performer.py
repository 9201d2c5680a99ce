"""What the lifecycle wants done, with simulated trial and serving processes, on a real disk."""

from pathlib import Path

import pytest

from edgeferry.agent.effects import Activate, Cancel, Collect, Fetch, Load, Restore, Try, Unload, Verify
from edgeferry.agent.events import (
    Activated,
    Failed,
    Fetched,
    LifecycleEvent,
    NotServed,
    Restored,
    TrialPassed,
    Verified,
)
from edgeferry.agent.fetching import Fetcher
from edgeferry.agent.following import installed_by
from edgeferry.agent.gathering import Gatherer
from edgeferry.agent.performer import Again, Lanes, Performer
from edgeferry.agent.state import Installed
from edgeferry.agent.store import Store
from edgeferry.wire.desired import ModelWish, decode_manifest
from edgeferry.wire.messages import Reason

from .disk_faults import FaultyDisk
from .simulated import MODEL, Fleet, HeldLane, SimulatedHands, problem


class Bench:
    """A performer; its lanes work when the test lets them."""

    def __init__(self, directory: Path) -> None:
        self.fleet = Fleet()
        self.store = Store(directory, FaultyDisk())
        self.store.open()
        self.hands = SimulatedHands()
        self.deploy, self.serving = HeldLane(), HeldLane()
        self.told: list[LifecycleEvent] = []
        self.collections = 0
        fetcher = Fetcher(self.store, lambda _: None, lambda _: None)
        gatherer = Gatherer(self.store, fetcher, self.deploy, offered=tuple, emit=self.told.append, now_s=lambda: 0.0)
        self.performer = Performer(
            self.store,
            gatherer,
            self.hands,
            Lanes(self.deploy, self.serving),
            emit=self.told.append,
            collect=self._collect,
        )
        self.performer.is_serving = True

    def artifact(self, version: int = 1) -> Installed:
        wish = self.fleet.artifact(version)
        return installed_by(wish, decode_manifest(self.fleet.blobs[wish.manifest.sha256]))

    def installed(self, version: int = 1) -> Installed:
        """Return an artifact whose blobs are on the disk."""
        target = self.artifact(version)
        for blob in target.blobs():
            self.store.blob_path(blob.sha256).write_bytes(self.fleet.blobs[blob.sha256])
        return target

    def _collect(self) -> None:
        self.collections += 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "device")


def test_fetching_is_begun_and_cancelled(bench: Bench) -> None:
    target = bench.installed()
    bench.performer.perform(Fetch(target.deployment, target))

    bench.performer.perform(Cancel(target.deployment))

    assert bench.told == [Fetched(target.deployment)]
    assert bench.hands.calls == ["cancel"]


class TestVerifying:
    def test_right_blobs_are_verified(self, bench: Bench) -> None:
        target = bench.installed()

        bench.performer.perform(Verify("id", target))

        assert bench.deploy.work() == Verified("id")

    def test_a_wrong_one_fails_the_deployment(self, bench: Bench) -> None:
        target = bench.installed()
        bench.store.blob_path(target.model.sha256).write_bytes(b"other bytes".ljust(target.model.size_bytes))

        bench.performer.perform(Verify("id", target))
        failed = bench.deploy.work()

        assert isinstance(failed, Failed)
        assert failed.problem.reason is Reason.BLOB_MISMATCH

    def test_a_missing_one_fails_the_deployment(self, bench: Bench) -> None:
        bench.performer.perform(Verify("id", bench.artifact()))
        failed = bench.deploy.work()

        assert isinstance(failed, Failed)
        assert failed.problem.reason is Reason.DISK_FAULT


class TestTrying:
    def test_a_candidate_that_passes_is_told(self, bench: Bench) -> None:
        bench.performer.perform(Try("id", MODEL, bench.installed()))

        assert bench.deploy.work() == TrialPassed("id")

    def test_a_candidate_that_does_not_is_told_with_the_reason(self, bench: Bench) -> None:
        bench.hands.trial = problem()

        bench.performer.perform(Try("id", MODEL, bench.installed()))

        assert bench.deploy.work() == Failed("id", problem())

    def test_a_cancelled_trial_that_had_not_begun_is_not_run(self, bench: Bench) -> None:
        bench.performer.perform(Try("id", MODEL, bench.installed()))

        bench.performer.perform(Cancel("id"))

        assert bench.deploy.work() is None
        assert bench.hands.calls == ["cancel"]

    def test_a_trial_that_was_cancelled_says_nothing_of_the_same_deployment_wished_again(self, bench: Bench) -> None:
        target = bench.installed()
        bench.hands.trial = problem(Reason.TRIAL_CRASHED)

        def cancel_and_wish_again() -> None:
            bench.performer.perform(Cancel("id"))
            bench.performer.perform(Verify("id", target))

        bench.hands.on_try = cancel_and_wish_again
        bench.performer.perform(Try("id", MODEL, target))

        assert bench.deploy.work() is None
        assert bench.deploy.work() == Verified("id")


class TestServing:
    def test_a_loaded_version_is_active_under_its_label(self, bench: Bench) -> None:
        bench.performer.perform(Activate("id", MODEL, bench.installed()))

        assert bench.serving.work() == Activated("id")
        assert bench.hands.calls == [f"load {MODEL} 1 stable"]

    def test_a_version_that_is_refused_fails_the_deployment(self, bench: Bench) -> None:
        bench.hands.refusal[1] = problem(Reason.MODEL_INVALID)

        bench.performer.perform(Activate("id", MODEL, bench.installed()))

        assert bench.serving.work() == Failed("id", problem(Reason.MODEL_INVALID))

    @pytest.mark.parametrize("kind", [Activate, Restore])
    def test_a_lost_process_ends_nothing(self, bench: Bench, kind: type[Activate] | type[Restore]) -> None:
        bench.hands.is_lost = True

        effect = kind("id", MODEL, bench.installed())
        bench.performer.perform(effect)

        assert bench.serving.work() == Again(effect)

    def test_a_lost_process_is_asked_again_for_what_is_active(self, bench: Bench) -> None:
        bench.hands.is_lost = True
        effect = Load(MODEL, bench.installed())

        bench.performer.perform(effect)

        assert bench.serving.work() == Again(effect)

    def test_what_needs_the_process_waits_for_it(self, bench: Bench) -> None:
        target = bench.installed()
        bench.performer.is_serving = False

        for effect in (Activate("id", MODEL, target), Restore("id", MODEL, target), Unload(MODEL)):
            bench.performer.perform(effect)

        assert bench.serving.jobs == []

    def test_going_back_loads_the_version_before(self, bench: Bench) -> None:
        bench.performer.perform(Restore("id", MODEL, bench.installed()))

        assert bench.serving.work() == Restored("id")
        assert bench.hands.serving == {MODEL: 1}

    def test_going_back_to_nothing_unloads_the_model(self, bench: Bench) -> None:
        bench.hands.serving[MODEL] = 1

        bench.performer.perform(Restore("id", MODEL, None))

        assert bench.serving.work() == Restored("id")
        assert bench.hands.serving == {}

    def test_a_version_before_that_is_refused_is_lost(self, bench: Bench) -> None:
        bench.hands.serving[MODEL] = 2
        bench.hands.refusal[1] = problem(Reason.MODEL_INVALID)

        bench.performer.perform(Restore("id", MODEL, bench.installed()))

        assert bench.serving.work() == Restored("id", is_lost=True)
        assert bench.hands.serving == {}

    def test_what_is_active_is_loaded_again(self, bench: Bench) -> None:
        bench.performer.perform(Load(MODEL, bench.installed()))

        assert bench.serving.work() is None
        assert bench.hands.serving == {MODEL: 1}

    def test_what_is_active_and_refused_is_told(self, bench: Bench) -> None:
        bench.hands.refusal[1] = problem(Reason.MODEL_INVALID)
        installed = bench.installed()

        bench.performer.perform(Load(MODEL, installed))

        assert bench.serving.work() == NotServed(MODEL, installed.deployment, problem(Reason.MODEL_INVALID))

    def test_what_is_active_and_damaged_is_not_served(self, bench: Bench) -> None:
        installed = bench.installed()
        bench.store.blob_path(installed.model.sha256).write_bytes(b"x" * installed.model.size_bytes)

        bench.performer.perform(Load(MODEL, installed))

        told = bench.serving.work()
        assert isinstance(told, NotServed)
        assert told.problem.reason is Reason.BLOB_MISMATCH
        assert bench.hands.serving == {}

    @pytest.mark.parametrize("is_lost", [False, True])
    def test_a_model_is_unloaded_or_gone_with_the_process(self, bench: Bench, *, is_lost: bool) -> None:
        bench.hands.is_lost = is_lost

        bench.performer.perform(Unload(MODEL))

        assert bench.serving.work() is None
        assert bench.hands.calls == [f"unload {MODEL} stable"]


def test_collecting_is_asked_for(bench: Bench) -> None:
    bench.performer.perform(Collect())

    assert bench.collections == 1


def test_a_deployment_is_named_by_its_wish() -> None:
    fleet = Fleet()
    wish: ModelWish = fleet.artifact(3)

    installed = installed_by(wish, decode_manifest(fleet.blobs[wish.manifest.sha256]))

    assert (installed.deployment, installed.version) == (wish.deployment_id(), 3)
