"""What the doctor says of clock, room, memory and hardware."""

from dataclasses import replace

import pytest

from edgeferry.agent.doctor.finding import Finding, Verdict
from edgeferry.agent.doctor.machine import (
    Machine,
    examine_clock,
    examine_disk,
    examine_hardware,
    examine_memory,
)
from edgeferry.device_profiles import load_profile

MIB = 1 << 20
PI4 = load_profile("raspberry-pi-4")
GOOD = Machine(
    now_ms=1_800_000_000_000,
    is_synchronised=True,
    free_bytes=20_000 * MIB,
    total_bytes=30_000 * MIB,
    is_read_only=False,
    memory_bytes=PI4.hardware.memory_bytes,
    available_bytes=600 * MIB,
    has_memory_controller=True,
    arch="aarch64",
    cores=4,
)


def memory(machine: Machine) -> dict[str, Verdict]:
    return {finding.subject: finding.verdict for finding in examine_memory(machine, PI4)}


def disk(machine: Machine) -> Finding:
    return examine_disk(machine, 1000 * MIB, "/var/lib/edgeferry")


def test_a_good_machine_is_fine_in_every_respect() -> None:
    found = [
        examine_clock(GOOD, issued_ms=0, built_ms=1),
        disk(GOOD),
        examine_hardware(GOOD, PI4),
        *examine_memory(GOOD, PI4),
    ]

    assert {finding.verdict for finding in found} == {Verdict.FINE}
    assert not any(finding.advice for finding in found)


class TestClock:
    def test_one_before_the_newest_signed_time_is_a_problem(self) -> None:
        found = examine_clock(GOOD, issued_ms=GOOD.now_ms + 3_600_000, built_ms=0)

        assert found.verdict is Verdict.PROBLEM
        assert "2027-01-15 09:00 UTC has passed for certain" in found.found
        assert "set-ntp" in found.advice

    def test_one_of_1970_is_a_problem_without_any_metadata(self) -> None:
        assert examine_clock(replace(GOOD, now_ms=0), issued_ms=0, built_ms=GOOD.now_ms).verdict is Verdict.PROBLEM

    def test_a_few_minutes_are_no_matter(self) -> None:
        assert examine_clock(GOOD, issued_ms=GOOD.now_ms + 60_000, built_ms=0).verdict is Verdict.FINE

    def test_one_that_nobody_has_set_is_a_warning(self) -> None:
        assert examine_clock(replace(GOOD, is_synchronised=False), issued_ms=0, built_ms=0).verdict is Verdict.WARNING


class TestDisk:
    def test_less_than_the_largest_model_is_a_warning(self) -> None:
        assert disk(replace(GOOD, free_bytes=999 * MIB)).verdict is Verdict.WARNING

    def test_less_than_a_quarter_of_it_is_a_problem_with_figures(self) -> None:
        found = disk(replace(GOOD, free_bytes=249 * MIB))

        assert found.verdict is Verdict.PROBLEM
        assert "249 MiB of 29.3 GiB are free" in found.found
        assert "1000 MiB" in found.advice

    def test_a_read_only_one_is_a_problem_however_much_is_free(self) -> None:
        assert disk(replace(GOOD, is_read_only=True)).verdict is Verdict.PROBLEM


class TestMemory:
    def test_none_left_is_a_problem(self) -> None:
        assert memory(replace(GOOD, available_bytes=20 * MIB)) == {"memory": Verdict.PROBLEM}

    def test_less_than_the_limits_allow_is_a_warning(self) -> None:
        assert memory(replace(GOOD, memory_bytes=100 * MIB)) == {"memory": Verdict.WARNING}

    def test_a_firmware_that_switches_the_controller_off_is_a_warning(self) -> None:
        assert memory(replace(GOOD, has_memory_controller=False))["memory limits"] is Verdict.WARNING

    def test_nothing_is_said_of_what_the_system_does_not_tell(self) -> None:
        assert memory(replace(GOOD, memory_bytes=0, has_memory_controller=None)) == {}


class TestHardware:
    def test_another_architecture_is_a_problem(self) -> None:
        found = examine_hardware(replace(GOOD, arch="x86_64"), PI4)

        assert found.verdict is Verdict.PROBLEM
        assert "x86_64, 4 cores" in found.found
        assert "raspberry-pi-4 is aarch64" in found.found
        assert "--renew -p PROFILE" in found.advice

    @pytest.mark.parametrize("change", [{"memory_bytes": 100 * MIB}, {"cores": 1}])
    def test_a_smaller_machine_is_a_warning(self, change: dict[str, int]) -> None:
        assert examine_hardware(replace(GOOD, **change), PI4).verdict is Verdict.WARNING

    def test_memory_that_is_not_told_is_no_matter(self) -> None:
        assert examine_hardware(replace(GOOD, memory_bytes=0), PI4).verdict is Verdict.FINE

    @pytest.mark.parametrize("arch", ["armv7l", "armv8l", "aarch64"])
    def test_32_bit_programs_run_on_64_bit_kernels(self, arch: str) -> None:
        assert examine_hardware(replace(GOOD, arch=arch), load_profile("raspberry-pi-32bit")).verdict is Verdict.FINE
