"""What a machine says of itself becomes a device profile, or a sentence about why not."""

import subprocess
from dataclasses import replace
from importlib.resources import files

import pytest

from edgeferry.device_profiles import load_profile, profile_names
from edgeferry.fleet.enroll.hardware import Hardware, check_profile, chosen_profile, device_id, parse_probe
from edgeferry.fleet.errors import FleetError, UsageError

PROFILES = [load_profile(name) for name in profile_names()]
PI_4 = """\
Linux pi 6.6.31+rpt-rpi-v8 -- the owner says hello, x=1
edgeferry_probe=1
machine=aarch64
bits=64
model=Raspberry Pi 4 Model B Rev 1.5
memory_kib=3882360
cores=4
os=Debian GNU/Linux 12 (bookworm)
hostname=pi.fritz.box
machine_id=0123
pythons=3.11
systemd=yes
sudo=free
free_kib=20000000
device=
home=/home/pi
"""


def found(**changes: str) -> Hardware:
    lines = [line for line in PI_4.splitlines() if line.split("=")[0] not in changes]
    return parse_probe("\n".join([*lines, *(f"{key}={value}" for key, value in changes.items())]))


def test_a_pi_4_is_read_as_one() -> None:
    pi = parse_probe(PI_4)

    assert (pi.arch, pi.memory_bytes, pi.pythons, pi.has_systemd, pi.sudo) == (
        "aarch64",
        3882360 * 1024,
        ("3.11",),
        True,
        "free",
    )
    assert str(pi).startswith("Raspberry Pi 4 Model B Rev 1.5, aarch64, 4 cores, 3791 MiB, Debian")


def test_the_probe_tells_of_this_machine_what_the_parser_wants() -> None:
    probe = files("edgeferry.fleet.enroll").joinpath("probe.sh").read_text()

    said = subprocess.run(["sh", "-s"], input=probe, capture_output=True, text=True, check=True)
    here = parse_probe(said.stdout)

    assert said.stderr == ""
    assert here.arch is not None
    assert here.memory_bytes > 1 << 28
    assert here.cores > 0
    assert here.free_bytes > 0
    assert here.hostname


@pytest.mark.parametrize(
    ("said", "profile"),
    [
        ({}, "raspberry-pi-4"),
        ({"model": "Raspberry Pi 400 Rev 1.0"}, "raspberry-pi-4"),
        ({"model": "Raspberry Pi Compute Module 4 Rev 1.1"}, "raspberry-pi-4"),
        ({"model": "Raspberry Pi 5 Model B Rev 1.0"}, "raspberry-pi-5"),
        ({"model": "Raspberry Pi 3 Model B Plus Rev 1.3", "memory_kib": "930000"}, "raspberry-pi-3"),
        ({"model": "Raspberry Pi Zero 2 W Rev 1.0", "memory_kib": "430000"}, "raspberry-pi-zero-2w"),
        ({"bits": "32"}, "raspberry-pi-32bit"),
        ({"machine": "armv7l", "bits": "32"}, "raspberry-pi-32bit"),
        ({"model": "Xunlong Orange Pi 5"}, "orange-pi-5"),
        ({"model": "linux,dummy-virt"}, "generic-aarch64"),
        ({"model": "linux,dummy-virt", "memory_kib": "470000"}, "raspberry-pi-zero-2w"),
        ({"machine": "x86_64", "model": "Standard PC"}, "generic-x86-64"),
    ],
)
def test_the_profile_follows_model_memory_and_user_space(said: dict[str, str], profile: str) -> None:
    assert chosen_profile(found(**said), PROFILES) == profile


def test_a_machine_of_another_kind_has_no_profile() -> None:
    with pytest.raises(UsageError, match="no device profile for a machine of type 'riscv64'"):
        chosen_profile(found(machine="riscv64"), PROFILES)


def test_a_profile_for_another_processor_is_refused() -> None:
    with pytest.raises(UsageError, match="generic-x86-64 is for x86_64, and the device is aarch64"):
        check_profile(found(), load_profile("generic-x86-64"))


@pytest.mark.parametrize("pythons", ["", "3.9", "3.14"])
def test_a_python_that_cannot_run_it_is_told_with_what_to_install(pythons: str) -> None:
    with pytest.raises(UsageError, match="apt-get install python3 python3-venv"):
        check_profile(found(pythons=pythons), load_profile("raspberry-pi-4"))


def test_less_memory_than_the_profile_is_meant_for_is_said_but_allowed() -> None:
    assert check_profile(found(), load_profile("raspberry-pi-4")) == ""
    assert "the device has 458 MiB of memory" in check_profile(
        found(memory_kib="470000"), load_profile("raspberry-pi-4")
    )


@pytest.mark.parametrize("text", ["", "bash: sh: command not found", "machine=aarch64\n"])
def test_an_answer_that_is_not_the_probes_is_told(text: str) -> None:
    with pytest.raises(FleetError, match="did not answer as a Linux machine does"):
        parse_probe(text)


@pytest.mark.parametrize(
    ("said", "name"),
    [({}, "pi"), ({"hostname": "Küchen Pi"}, "K-chen-Pi"), ({"hostname": "pi", "device": "kitchen"}, "kitchen")],
)
def test_a_device_is_called_what_it_is_called_already(said: dict[str, str], name: str) -> None:
    assert device_id(found(**said)) == name


def test_a_host_without_a_name_needs_one() -> None:
    with pytest.raises(UsageError, match="give one with --id"):
        device_id(replace(found(), hostname=""))
