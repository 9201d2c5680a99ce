"""The lifecycle, phase by phase: what succeeds, what fails, what a kill leaves behind."""

import pytest

from edgeferry.agent.effects import Activate, Cancel, Collect, Fetch, Load, Restore, Try, Unload, Verify
from edgeferry.agent.events import (
    Activated,
    Booted,
    Failed,
    Fetched,
    Happened,
    Noted,
    NotServed,
    Restored,
    ServingStarted,
    Tick,
)
from edgeferry.agent.lifecycle import MAX_REFUSED, is_wanted, kept_blobs, next_deadline_ms
from edgeferry.agent.state import Phase
from edgeferry.wire.messages import EventKind, Outcome, Reason, Swap

from .lifecycle_device import MODEL, WATCH_S, Device, blob, problem, target

V1, V2, V3 = target(1), target(2), target(3)

EFFECT_OF = {
    Phase.FETCHING: Fetch,
    Phase.VERIFYING: Verify,
    Phase.TRYING: Try,
    Phase.ACTIVATING: Activate,
}


@pytest.fixture
def device() -> Device:
    device = Device()
    device.boot()
    return device


@pytest.fixture
def running(device: Device) -> Device:
    """A device on which version 1 is active and no longer watched."""
    device.wish(V1)
    device.run()
    device.end_watch()
    return device


class TestTheGoodWay:
    def test_a_wished_model_becomes_active(self, device: Device) -> None:
        device.wish(V1)
        device.run()

        assert device.serving == {MODEL: 1}
        assert device.outcome() == (1, Outcome.ACTIVE, None)

    def test_the_phases_come_in_order(self, device: Device) -> None:
        device.wish(V1)
        device.run()

        kinds = [type(effect) for effect in device.effects if type(effect) in EFFECT_OF.values()]
        assert kinds == [Fetch, Verify, Try, Activate]

    def test_active_is_reported_on_entering_watching(self, device: Device) -> None:
        device.wish(V1)
        device.run()

        assert device.phase() is Phase.WATCHING
        assert next_deadline_ms(device.state) == device.now_ms + WATCH_S * 1000

    def test_a_watch_ends_after_its_time(self, device: Device) -> None:
        device.wish(V1)
        device.run()

        device.now_ms += WATCH_S * 1000 - 1
        device.now_ms -= WATCH_S * 1000
        device.end_watch()
        assert device.phase() is Phase.WATCHING
        device.now_ms += 1 - WATCH_S * 1000
        device.end_watch()

        assert device.phase() is None
        assert next_deadline_ms(device.state) is None

    def test_a_new_version_replaces_the_old_one_which_stays_as_previous(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        record = running.state.models[MODEL]
        assert running.serving == {MODEL: 2}
        assert record.active == V2.installed
        assert record.previous == V1.installed

    def test_the_old_version_serves_until_the_new_one_has_answered(self, running: Device) -> None:
        running.wish(V2)
        for phase in EFFECT_OF:
            running.run_until(phase)
            assert running.serving == {MODEL: 1}

    def test_what_is_already_active_is_not_deployed_again(self, running: Device) -> None:
        running.effects.clear()

        running.wish(V1)

        assert running.effects == []

    def test_going_back_is_a_wish_for_the_older_version(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.wish(V1)
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.state.models[MODEL].previous == V2.installed

    def test_the_same_version_with_another_manifest_keeps_the_previous_one(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        again = target(2, attempt=1)

        running.wish(again)
        running.run()

        assert running.state.models[MODEL].previous == V1.installed

    def test_several_models_are_deployed_one_after_the_other(self, device: Device) -> None:
        device.wish(target(1, "birds"), target(1, "cats"))

        assert [type(effect) for effect in device.pending] == [Fetch]
        device.run()

        assert device.serving == {"birds": 1, "cats": 1}

    def test_a_watched_model_holds_up_no_other(self, device: Device) -> None:
        device.wish(V1)
        device.run()

        device.wish(V1, target(1, "dogs"))
        device.run()

        assert device.serving == {MODEL: 1, "dogs": 1}
        assert device.phase() is Phase.WATCHING


class TestFailures:
    @pytest.mark.parametrize("phase", list(EFFECT_OF))
    def test_fails_in_any_phase_and_the_old_version_serves(self, running: Device, phase: Phase) -> None:
        running.failures[EFFECT_OF[phase]] = problem()

        running.wish(V2)
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.outcome() == (2, Outcome.FAILED, Reason.SELFTEST_MISMATCH)

    def test_a_failed_activation_has_the_old_version_loaded_again(self, running: Device) -> None:
        """Where memory holds one version alone, it was unloaded for the new one."""
        running.wish(V2)
        running.run_until(Phase.ACTIVATING)

        effects = running.tell(Failed(V2.installed.deployment, problem()))

        assert Load(MODEL, V1.installed) in effects

    def test_what_failed_is_not_tried_again(self, running: Device) -> None:
        running.failures[Try] = problem()
        running.wish(V2)
        running.run()
        running.effects.clear()

        running.wish(V2)
        running.tell(Booted())

        assert [e for e in running.effects if not isinstance(e, Collect)] == []

    def test_what_failed_is_reported_again_when_it_is_wished_anew(self, running: Device) -> None:
        running.failures[Try] = problem()
        running.wish(V2)
        running.run()
        running.wish(V1)

        running.wish(V2)

        assert running.outcome() == (2, Outcome.FAILED, Reason.SELFTEST_MISMATCH)
        assert running.outcomes()[-2:] == [(2, Outcome.FAILED), (2, Outcome.FAILED)]

    def test_what_failed_is_tried_again_when_the_operator_asks_for_it(self, running: Device) -> None:
        running.failures[Try] = problem()
        running.wish(V2)
        running.run()
        running.failures.clear()

        running.wish(target(2, attempt=1))
        running.run()

        assert running.serving == {MODEL: 2}

    def test_a_bad_model_does_not_hold_up_a_good_one(self, device: Device) -> None:
        device.failures[Try] = problem()
        device.wish(target(1, "bad"))
        device.run()
        device.failures.clear()

        device.wish(target(1, "bad"), target(1, "good"))
        device.run()

        assert device.serving == {"good": 1}

    def test_only_the_newest_failures_are_remembered(self, device: Device) -> None:
        device.failures[Try] = problem()
        for version in range(1, MAX_REFUSED + 3):
            device.wish(target(version))
            device.run()

        refused = device.state.models[MODEL].refused
        assert [result.version for result in refused] == list(range(3, MAX_REFUSED + 3))

    def test_a_late_answer_for_another_deployment_changes_nothing(self, running: Device) -> None:
        running.wish(V2)
        before = running.state

        for event in (Fetched(V3.installed.deployment), Activated(V2.installed.deployment)):
            running.tell(event)
        running.tell(Restored(V2.installed.deployment))
        running.tell(Failed(V3.installed.deployment, problem()))

        assert running.state == before

    def test_a_version_without_an_artifact_for_this_device_is_reported_once(self, running: Device) -> None:
        why = problem(Reason.NO_ARTIFACT_FOR_PROFILE)

        running.wish(refusals={MODEL: (2, why)})
        running.wish(refusals={MODEL: (2, why)})

        assert running.serving == {MODEL: 1}
        assert running.outcome() == (2, Outcome.FAILED, Reason.NO_ARTIFACT_FOR_PROFILE)
        assert running.outcomes().count((2, Outcome.FAILED)) == 1


class TestSuperseding:
    @pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.VERIFYING, Phase.TRYING])
    def test_another_wish_supersedes_in_the_phases_that_can_be_stopped(self, running: Device, phase: Phase) -> None:
        running.wish(V2)
        running.run_until(phase)

        running.wish(V3)
        running.run()

        assert Cancel(V2.installed.deployment) in running.effects
        assert (2, Outcome.SUPERSEDED) in running.outcomes()
        assert running.serving == {MODEL: 3}

    def test_an_activation_is_not_interrupted(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.ACTIVATING)

        running.wish(V3)
        running.run()

        assert running.outcomes()[-2:] == [(2, Outcome.ACTIVE), (3, Outcome.ACTIVE)]

    def test_the_same_wish_again_does_not_disturb(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.TRYING)
        before = running.state

        running.wish(V2)

        assert running.state == before

    def test_a_superseded_version_can_be_wished_again(self, running: Device) -> None:
        running.wish(V2)
        running.wish(V3)
        running.wish(V2)
        running.run()

        assert running.serving == {MODEL: 2}


class TestForgetting:
    def test_a_model_that_is_in_no_document_is_unloaded(self, running: Device) -> None:
        running.wish()

        assert running.state.models == {}
        assert running.effects[-2:] == [Unload(MODEL), Collect()]

    def test_a_fetch_for_a_forgotten_model_is_stopped(self, device: Device) -> None:
        device.wish(V1)

        device.wish()

        assert device.state.models == {}
        assert Cancel(V1.installed.deployment) in device.effects

    def test_a_model_that_is_being_activated_is_forgotten_afterwards(self, device: Device) -> None:
        device.wish(V1)
        device.run_until(Phase.ACTIVATING)
        device.wish()
        assert MODEL in device.state.models

        device.run()

        assert device.state.models == {}
        assert device.serving == {}

    def test_a_model_whose_activation_fails_is_forgotten_afterwards(self, device: Device) -> None:
        device.wish(V1)
        device.run_until(Phase.ACTIVATING)
        device.wish()
        device.failures[Activate] = problem()

        device.run()

        assert device.state.models == {}

    def test_a_model_that_is_being_rolled_back_is_forgotten_afterwards(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)
        running.wish()

        running.run()

        assert running.state.models == {}

    def test_blobs_of_active_previous_and_wished_versions_are_kept(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.wish(V3)

        wanted = {b.sha256 for t in (V1, V2, V3) for b in t.installed.blobs()}
        assert kept_blobs(running.state) == wanted
        assert blob("other").sha256 not in wanted


class TestRollingBack:
    def test_a_proven_fault_in_the_watch_rolls_back(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.fault(proven=True)
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.outcome() == (2, Outcome.ROLLED_BACK, Reason.SERVING_CRASHED)
        assert running.state.models[MODEL].previous is None

    def test_an_unproven_fault_in_the_watch_rolls_back_at_the_third(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.fault(proven=False)
        running.fault(proven=False)
        assert running.phase() is Phase.WATCHING
        running.fault(proven=False)
        running.run()

        assert running.serving == {MODEL: 1}

    def test_what_was_rolled_back_is_not_tried_again(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)
        running.run()

        running.wish(V2)
        running.run()

        assert running.serving == {MODEL: 1}

    def test_the_first_version_is_rolled_back_to_nothing(self, device: Device) -> None:
        device.wish(V1)
        device.run()

        device.fault(proven=True)
        device.run()

        assert device.serving == {}
        assert device.state.models[MODEL].active is None

    def test_a_version_before_that_cannot_be_loaded_any_more_is_given_up(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)

        running.tell(Restored(V2.installed.deployment, is_lost=True))

        assert running.state.models[MODEL].active is None
        assert running.outcome() == (2, Outcome.ROLLED_BACK, Reason.SERVING_CRASHED)

    def test_going_back_does_not_wait_for_another_deployment(self, device: Device) -> None:
        device.wish(V1)
        device.run()
        device.wish(V1, target(1, "dogs"))

        device.fault(proven=True)

        assert [type(effect) for effect in device.pending] == [Fetch, Restore]
        device.run()
        assert device.serving == {"dogs": 1}

    def test_a_second_fault_while_rolling_back_changes_nothing(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)
        before = running.state

        running.fault(proven=True)

        assert running.state == before

    def test_a_proven_fault_while_activating_ends_the_deployment(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.ACTIVATING)

        running.fault(proven=True)

        assert running.serving == {MODEL: 1}
        assert running.outcome() == (2, Outcome.FAILED, Reason.SERVING_CRASHED)

    def test_three_crashes_later_on_quarantine_the_model_alone(self, device: Device) -> None:
        device.wish(V1, target(1, "dogs"))
        device.run()
        device.end_watch()

        for _ in range(3):
            device.fault(proven=True)

        assert device.state.models[MODEL].quarantined
        assert device.serving == {"dogs": 1}
        assert device.state.outbox[-1].kind is EventKind.QUARANTINED

    def test_a_quarantined_model_is_not_loaded_again_until_another_version_comes(self, running: Device) -> None:
        for _ in range(4):
            running.fault(proven=True)

        running.restart_serving()
        assert running.serving == {}
        running.wish(V2)
        running.run()

        assert running.serving == {MODEL: 2}
        assert not running.state.models[MODEL].quarantined

    def test_a_fault_of_an_unknown_model_changes_nothing(self, running: Device) -> None:
        before = running.state

        running.fault(proven=True, model="unknown")

        assert running.state == before


class TestBlame:
    def test_a_crash_of_the_version_before_does_not_condemn_the_new_one(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.ACTIVATING)

        running.fault(proven=True, version=1)
        running.run()

        assert running.serving == {MODEL: 2}

    def test_a_crash_of_the_candidate_is_not_counted_for_the_active_version(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.ACTIVATING)

        running.fault(proven=False, version=2)

        assert running.state.models[MODEL].crashes == 0

    def test_a_crash_of_a_version_that_goes_rolls_nothing_back(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.fault(proven=True, version=1)

        assert running.phase() is Phase.WATCHING

    def test_an_active_version_that_cannot_be_loaded_again_is_deployed_anew(self, running: Device) -> None:
        running.serving.clear()

        running.tell(NotServed(MODEL, V1.installed.deployment, problem(Reason.BLOB_MISMATCH)))
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.outcome() == (1, Outcome.ACTIVE, None)

    def test_what_was_not_served_long_ago_changes_nothing(self, running: Device) -> None:
        before = running.state

        running.tell(NotServed(MODEL, V2.installed.deployment, problem(Reason.BLOB_MISMATCH)))

        assert running.state == before

    def test_a_clock_that_is_set_back_ends_a_watch(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.now_ms -= 1_000_000
        running.tell(Tick())

        assert running.phase() is None


class TestDoingAgain:
    def test_an_activation_is_done_again_while_it_is_due(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.ACTIVATING)
        (effect,) = running.pending

        assert is_wanted(running.state, effect)
        running.run()
        assert not is_wanted(running.state, effect)

    def test_going_back_is_done_again_while_it_is_due(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)
        (effect,) = running.pending

        assert is_wanted(running.state, effect)

    def test_what_is_active_is_loaded_again_unless_it_has_changed(self, running: Device) -> None:
        effect = Load(MODEL, V1.installed)

        assert is_wanted(running.state, effect)
        running.wish(V2)
        running.run()
        assert not is_wanted(running.state, effect)

    def test_nothing_is_done_again_for_a_model_that_is_gone(self, running: Device) -> None:
        running.wish()

        assert not is_wanted(running.state, Load(MODEL, V1.installed))


class TestKills:
    @pytest.mark.parametrize("phase", [*EFFECT_OF, Phase.WATCHING])
    def test_killed_in_any_phase_it_converges(self, running: Device, phase: Phase) -> None:
        running.wish(V2)
        running.run_until(phase)

        running.kill()
        running.boot()
        running.run()

        assert running.serving == {MODEL: 2}
        assert running.outcomes().count((2, Outcome.ACTIVE)) == 1

    def test_killed_while_trying_the_old_version_serves_again(self, running: Device) -> None:
        running.wish(V2)
        running.run_until(Phase.TRYING)

        running.kill()
        running.boot()

        assert running.serving == {MODEL: 1}

    def test_killed_while_rolling_back_it_goes_back_all_the_same(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)

        running.kill()
        running.boot()
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.outcome() == (2, Outcome.ROLLED_BACK, Reason.SERVING_CRASHED)

    @pytest.mark.parametrize("phase", [Phase.TRYING, Phase.ACTIVATING])
    def test_killed_too_often_in_a_phase_that_the_candidate_may_have_caused_it_fails(
        self, running: Device, phase: Phase
    ) -> None:
        running.wish(V2)
        running.run_until(phase)

        for _ in range(3):
            running.kill()
            running.boot()

        assert running.outcome() == (2, Outcome.FAILED, Reason.INTERRUPTED_TOO_OFTEN)
        assert running.serving == {MODEL: 1}

    def test_a_transfer_may_be_killed_for_ever(self, running: Device) -> None:
        running.wish(V2)
        for _ in range(20):
            running.kill()
            running.boot()
        running.run()

        assert running.serving == {MODEL: 2}

    @pytest.mark.parametrize("phase", [*EFFECT_OF, Phase.WATCHING])
    def test_the_serving_process_may_be_killed_in_any_phase(self, running: Device, phase: Phase) -> None:
        running.wish(V2)
        running.run_until(phase)

        running.restart_serving()
        running.run()

        assert running.serving == {MODEL: 2}

    def test_the_serving_process_may_be_killed_while_rolling_back(self, running: Device) -> None:
        running.wish(V2)
        running.run()
        running.fault(proven=True)

        effects = running.restart_serving()
        running.run()

        assert running.serving == {MODEL: 1}
        assert Load(MODEL, V2.installed) not in effects, "the version that goes is served again"


class TestEvents:
    def test_every_outcome_is_an_event_with_a_number_of_its_own(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        assert [event.seq for event in running.state.outbox] == [1, 2]
        assert running.state.next_seq == 3

    def test_spooled_events_leave_the_outbox_and_their_numbers_are_not_used_again(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.tell(Noted(1))
        running.tell(Happened(EventKind.STARTED))

        assert [event.seq for event in running.state.outbox] == [2, 3]

    def test_what_happened_is_told_with_its_reason(self, device: Device) -> None:
        device.tell(Happened(EventKind.METADATA_REFUSED, problem(Reason.METADATA_ROLLBACK)))

        event = device.state.outbox[-1]
        assert (event.kind, event.reason) == (EventKind.METADATA_REFUSED, Reason.METADATA_ROLLBACK)

    def test_a_serving_process_that_starts_with_nothing_to_serve_gets_nothing(self, device: Device) -> None:
        assert device.tell(ServingStarted()) == ()

    def test_a_rollback_names_the_version_to_go_back_to(self, running: Device) -> None:
        running.wish(V2)
        running.run()

        running.fault(proven=True)

        assert running.pending == [Restore(V2.installed.deployment, MODEL, V1.installed)]


CANARY = f"{MODEL}/canary"
CANARY2 = target(2, CANARY, percent=10)


class TestLabels:
    def test_a_canary_serves_beside_the_stable_version(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()

        assert running.serving == {MODEL: 1, CANARY: 2}
        assert running.outcome(CANARY) == (2, Outcome.ACTIVE, None)
        assert running.state.served() == {MODEL: {"stable": 1, "canary": 2}}

    def test_what_is_on_its_way_serves_nobody(self, running: Device) -> None:
        running.wish(V1, CANARY2)

        assert running.state.served() == {MODEL: {"stable": 1}}

    def test_it_goes_the_whole_way_that_every_version_goes(self, running: Device) -> None:
        running.effects.clear()

        running.wish(V1, CANARY2)
        running.run()

        assert [type(e) for e in running.effects if type(e) in EFFECT_OF.values()] == [Fetch, Verify, Try, Activate]

    def test_the_stable_version_comes_first(self, device: Device) -> None:
        device.wish(V1, CANARY2)
        device.run()

        assert [version for version, _ in device.outcomes()] == [1, 2]

    def test_its_events_name_the_model_and_the_label(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()

        stable, canary = running.state.outbox
        assert (stable.model, stable.label) == (MODEL, "")
        assert (canary.model, canary.label) == (MODEL, "canary")

    def test_a_canary_that_fails_its_trial_leaves_the_stable_version_alone(self, running: Device) -> None:
        running.failures[Try] = problem()

        running.wish(V1, CANARY2)
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.outcome(CANARY) == (2, Outcome.FAILED, Reason.SELFTEST_MISMATCH)
        assert running.state.models[MODEL].active == V1.installed

    def test_a_watched_canary_at_fault_is_withdrawn_and_the_stable_version_stays(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()

        running.fault(proven=True, version=2)
        running.run()

        assert running.serving == {MODEL: 1}
        assert running.outcome(CANARY) == (2, Outcome.ROLLED_BACK, Reason.SERVING_CRASHED)
        assert running.outcome() == (1, Outcome.ACTIVE, None)

    def test_a_canary_that_crashes_too_often_is_quarantined_alone(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()
        running.end_watch()

        for _ in range(3):
            running.crash_serving(CANARY, proven=True)

        assert running.serving == {MODEL: 1}
        assert running.state.models[CANARY].quarantined
        assert not running.state.models[MODEL].quarantined

    def test_a_fault_of_the_stable_version_is_not_the_canarys(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()
        running.end_watch()

        running.fault(proven=False, version=1)

        assert (running.state.models[MODEL].crashes, running.state.models[CANARY].crashes) == (1, 0)

    def test_both_are_loaded_again_by_a_new_serving_process(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()
        running.end_watch()

        running.kill()
        running.boot()

        assert running.serving == {MODEL: 1, CANARY: 2}

    def test_another_share_is_a_deployment_that_loads_and_fetches_nothing(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()
        running.effects.clear()

        running.wish(V1, target(2, CANARY, percent=50))
        running.run()

        assert [type(e) for e in running.effects if not isinstance(e, Collect)] == [Activate]
        active = running.state.models[CANARY].active
        assert active is not None
        assert active.percent == 50
        assert running.phase(CANARY) is Phase.WATCHING

    def test_a_share_that_turns_out_too_large_ends_in_no_canary_at_all(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()
        running.wish(V1, target(2, CANARY, percent=50))
        running.run()

        running.fault(proven=True, version=2)
        running.run()

        assert running.serving == {MODEL: 1}

    def test_a_canary_that_is_no_longer_wished_is_withdrawn_at_once(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()

        running.wish(V1)

        assert running.serving == {MODEL: 1}
        assert CANARY not in running.state.models

    def test_what_only_the_canary_needed_is_kept_as_long_as_it_is_wished(self, running: Device) -> None:
        running.wish(V1, CANARY2)
        running.run()
        assert CANARY2.installed.model.sha256 in kept_blobs(running.state)

        running.wish(V1)

        assert CANARY2.installed.model.sha256 not in kept_blobs(running.state)


class TestPromotion:
    @pytest.fixture
    def canary(self, running: Device) -> Device:
        """A device on which version 2 has been the canary for a while."""
        running.wish(V1, CANARY2)
        running.run()
        running.end_watch()
        running.effects.clear()
        return running

    def test_it_moves_a_label_and_nothing_else(self, canary: Device) -> None:
        canary.wish(V2)
        canary.run()

        work = [effect for effect in canary.effects if not isinstance(effect, Collect)]
        assert [type(effect) for effect in work] == [Activate, Unload]
        assert canary.serving == {MODEL: 2}
        assert canary.outcome() == (2, Outcome.ACTIVE, None)

    def test_the_canary_serves_until_it_is_stable(self, canary: Device) -> None:
        canary.wish(V2)

        assert canary.serving == {MODEL: 1, CANARY: 2}
        canary.run()
        assert set(canary.state.models) == {MODEL}

    def test_the_version_before_stays_as_previous_and_going_back_works_as_ever(self, canary: Device) -> None:
        canary.wish(V2)
        canary.run()
        assert canary.state.models[MODEL].previous == V1.installed

        canary.fault(proven=True, version=2)
        canary.run()

        assert canary.serving == {MODEL: 1}

    def test_one_that_fails_withdraws_the_canary_too(self, canary: Device) -> None:
        canary.failures[Activate] = problem(Reason.MODEL_INVALID)

        canary.wish(V2)
        canary.run()

        assert canary.serving == {MODEL: 1}
        assert set(canary.state.models) == {MODEL}

    def test_killed_while_activating_it_is_stable_after_the_restart(self, canary: Device) -> None:
        canary.wish(V2)

        canary.kill()
        canary.boot()
        canary.wish(V2)
        canary.run()

        assert canary.serving == {MODEL: 2}
        assert set(canary.state.models) == {MODEL}

    def test_taken_back_before_it_is_done_the_canary_is_withdrawn_at_the_end(self, canary: Device) -> None:
        canary.wish(V2)

        canary.wish(V1)
        canary.run()
        canary.run()

        assert canary.serving == {MODEL: 1}
        assert set(canary.state.models) == {MODEL}

    def test_a_crash_of_the_version_under_way_ends_the_promotion(self, canary: Device) -> None:
        canary.wish(V2)

        canary.fault(proven=True, version=2)

        assert canary.serving == {MODEL: 1}
        assert canary.outcome() == (2, Outcome.FAILED, Reason.SERVING_CRASHED)

    def test_a_version_that_stays_loaded_as_previous_serves_again_without_being_loaded(self, canary: Device) -> None:
        before = target(1, f"{MODEL}/previous")
        canary.wish(V2, before)
        canary.run()
        assert canary.serving == {MODEL: 2, f"{MODEL}/previous": 1}
        canary.effects.clear()

        canary.wish(V1)
        canary.run()

        work = [effect for effect in canary.effects if not isinstance(effect, Collect)]
        assert [type(effect) for effect in work] == [Activate, Unload]
        assert canary.serving == {MODEL: 1}


def test_how_a_version_took_over_is_told(running: Device) -> None:
    running.wish(V2)
    running.run_until(Phase.ACTIVATING)

    running.pending.clear()
    running.tell(Activated(V2.installed.deployment, Swap.STOP_FIRST, 120))

    last, event = running.state.models[MODEL].last, running.state.outbox[-1]
    assert last is not None
    assert (last.swap, last.gap_ms) == (event.swap, event.gap_ms) == (Swap.STOP_FIRST, 120)
