"""The fleet's view: what a message changes, who counts as stale, and how it looks."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.reports import PROBLEM, TOPICS, heard, running, state, telemetry, view

from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor import view as view_module
from edgeferry.fleet.monitor.faces import device_row, device_summary, monitor_rows, view_summary
from edgeferry.fleet.monitor.view import FleetView, Liveness
from edgeferry.wire.codec import encode
from edgeferry.wire.messages import Info, ModelTelemetry
from edgeferry.wire.topics import TopicKind


def test_a_device_that_was_never_heard_is_unknown() -> None:
    assert view().get("pi").liveness(0.0) is Liveness.UNKNOWN


def test_a_device_that_said_offline_is_offline() -> None:
    assert heard(online=False).get("pi").liveness(0.0) is Liveness.OFFLINE


@pytest.mark.parametrize(("age_s", "liveness"), [(30.0, Liveness.ONLINE), (30.1, Liveness.STALE)])
def test_a_device_is_stale_after_three_intervals_without_telemetry(age_s: float, liveness: Liveness) -> None:
    assert heard(at=100.0, telemetry=telemetry()).get("pi").liveness(100.0 + age_s) is liveness


def test_a_device_without_any_telemetry_is_stale_by_the_default_interval() -> None:
    assert heard(at=100.0).get("pi").liveness(131.0) is Liveness.STALE


def test_coming_back_online_ends_staleness() -> None:
    fleet = heard(at=0.0, online=False)

    fleet.apply(TOPICS.device("pi", TopicKind.AVAILABILITY), b"online", 100.0)

    assert fleet.get("pi").liveness(101.0) is Liveness.ONLINE


def test_an_availability_that_is_said_again_is_no_news() -> None:
    fleet = FleetView(TOPICS)
    topic = TOPICS.device("pi", TopicKind.AVAILABILITY)
    fleet.apply(topic, b"online", 1.0)

    fleet.apply(topic, b"online", 5.0)

    assert fleet.get("pi").availability_at == 1.0


def test_an_emptied_topic_takes_back_what_it_said() -> None:
    fleet = heard(state(), telemetry=telemetry())
    fleet.apply(TOPICS.device("pi", TopicKind.INFO), encode(Info(v=1, id="pi", profile="p", boot="b")), 0.0)

    for kind in (TopicKind.AVAILABILITY, TopicKind.INFO, TopicKind.STATE, TopicKind.TELEMETRY):
        fleet.apply(TOPICS.device("pi", kind), b"", 0.0)

    device = fleet.get("pi")
    assert (device.availability, device.info, device.state, device.telemetry) == (None, None, None, None)


def test_a_message_tells_whose_it_was() -> None:
    assert view().apply(TOPICS.device("pi", TopicKind.AVAILABILITY), b"online", 0.0) == "pi"


@pytest.mark.parametrize("topic", [TOPICS.device("pi", TopicKind.EVENT), TOPICS.tuf_timestamp()])
def test_topics_of_other_kinds_change_nothing(topic: str) -> None:
    fleet = view()

    assert fleet.apply(topic, b"{}", 0.0) is None
    assert (fleet.devices, fleet.refused) == ({}, 0)


@pytest.mark.parametrize("payload", [b"away", b"\xff\xfe"])
def test_an_availability_that_is_none_is_refused_and_counted(payload: bytes) -> None:
    fleet = view()

    fleet.apply(TOPICS.device("pi", TopicKind.AVAILABILITY), payload, 0.0)

    assert (fleet.devices, fleet.refused) == ({}, 1)


def test_more_devices_than_can_be_remembered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "MAX_DEVICES", 1)
    fleet = heard()

    fleet.apply(TOPICS.device("another", TopicKind.AVAILABILITY), b"online", 0.0)

    assert list(fleet.devices) == ["pi"]
    assert fleet.refused == 1


@given(
    st.sampled_from(["", "x", "edgeferry/v1/d/pi/state", "edgeferry/v1/d/pi/telemetry", "edgeferry/v1/d/pi/info"]),
    st.binary(max_size=200),
)
def test_garbage_never_raises(topic: str, payload: bytes) -> None:
    fleet = FleetView(TOPICS)

    fleet.apply(topic, payload, 0.0)

    assert fleet.refused + len(fleet.devices) == 1


def test_a_reason_without_detail_is_told_alone() -> None:
    assert view_module.told(msgspec.structs.replace(PROBLEM, detail="")) == "SELFTEST_MISMATCH"


def test_a_row_of_devices_tells_groups_liveness_and_models() -> None:
    device = heard(state(running(7))).get("pi")

    assert device_row(Device("pi", "p", ("a", "b")), device, 0.0) == ("pi", "p", "a, b", "online", "digits 7")
    assert device_row(Device("pi", ""), device, 0.0)[1] == "not in the inventory"


def test_a_quarantined_model_is_told() -> None:
    device = heard(state(running(7, quarantined=True))).get("pi")

    assert device_row(Device("pi", "p"), device, 0.0)[4] == "digits quarantined"


def test_a_row_of_the_monitor_has_figures_with_units_and_gaps_for_absent_sensors() -> None:
    figures = telemetry(
        cpu_pct=23.4,
        disk_free_bytes=18_253_611_008,
        uptime_s=86400,
        infer_rps=4.2,
        models={"digits": ModelTelemetry(version=7, rps=4.2, total=1, errors_total=0, p95_ms=38.51)},
    )

    rows = monitor_rows(heard(state(running(7, phase="fetching")), telemetry=figures), 0.0)

    assert rows == [
        ("pi", "online", "23%", "", "", "18.3 GB", "24.0 h", "digits 7", "4.2", "38.5 ms", "digits: fetching")
    ]


def test_a_device_of_which_nothing_but_its_availability_is_known_has_a_row() -> None:
    assert monitor_rows(heard(), 0.0) == [("pi", "online", *[""] * 9)]


def test_what_a_person_should_mend_on_the_spot_stands_before_what_a_device_is_doing() -> None:
    figures = telemetry(undervoltage=True, throttled=True)

    row = monitor_rows(heard(state(running(7, phase="watching")), telemetry=figures), 0.0)[0]

    assert row[-1] == "low voltage, throttled, digits: watching"


def test_latencies_that_are_unknown_leave_a_gap() -> None:
    figures = telemetry(models={"digits": ModelTelemetry(version=7, rps=0, total=0, errors_total=0)})

    assert monitor_rows(heard(telemetry=figures), 0.0)[0][9] == ""


def test_the_summaries_become_json() -> None:
    fleet = heard(state(running(7)), at=5.0, telemetry=telemetry())

    summary = msgspec.to_builtins(view_summary(fleet, 7.04))
    of_one = msgspec.to_builtins(device_summary(Device("pi", "p", ("g",)), fleet.get("pi"), 7.04))

    assert summary["devices"]["pi"]["state"]["models"]["digits"]["labels"] == {"stable": 7}
    assert (of_one["heard_s_ago"], of_one["in_inventory"], of_one["groups"]) == (2.0, True, ["g"])
