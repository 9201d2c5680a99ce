"""When the hardware is worth an event."""

from edgeferry.agent.hardware_watch import QUIET_S, HardwareWatch
from edgeferry.wire.messages import Reason, Telemetry


def said(**figures: float | bool) -> Telemetry:
    return Telemetry(v=1, ts=0, boot="cafe", seq=1, interval_s=10.0, **figures)


def reasons(watch: HardwareWatch, telemetry: Telemetry, now_s: float = 0.0) -> list[Reason]:
    return [happened.problem.reason for happened in watch.look(telemetry, now_s) if happened.problem]


def test_a_healthy_machine_and_one_without_sensors_say_nothing() -> None:
    watch = HardwareWatch()

    assert reasons(watch, said(undervoltage=False, throttled=False, storage_used_pct=80.0)) == []
    assert reasons(watch, said()) == []


def test_each_trouble_is_told_once_while_it_lasts() -> None:
    watch = HardwareWatch()
    trouble = said(undervoltage=True, throttled=True, storage_used_pct=90.0)

    assert reasons(watch, trouble) == [Reason.UNDERVOLTAGE, Reason.THROTTLED, Reason.STORAGE_WORN]
    assert reasons(watch, trouble, QUIET_S + 1) == []


def test_throttling_is_told_with_the_temperature() -> None:
    (happened,) = HardwareWatch().look(said(throttled=True, cpu_temp_c=82.4), 0.0)

    assert happened.problem is not None
    assert "at 82 degrees Celsius" in happened.problem.detail


def test_what_comes_back_is_told_again_but_not_each_time_it_flickers() -> None:
    watch = HardwareWatch()
    reasons(watch, said(undervoltage=True), 0.0)

    reasons(watch, said(undervoltage=False), 10.0)
    assert reasons(watch, said(undervoltage=True), 20.0) == []
    reasons(watch, said(undervoltage=False), 30.0)
    assert reasons(watch, said(undervoltage=True), QUIET_S) == [Reason.UNDERVOLTAGE]


def test_a_sensor_that_falls_silent_for_once_is_no_recovery() -> None:
    watch = HardwareWatch()
    reasons(watch, said(undervoltage=True), 0.0)
    reasons(watch, said(), 10.0)

    assert reasons(watch, said(undervoltage=True), QUIET_S + 10.0) == []
