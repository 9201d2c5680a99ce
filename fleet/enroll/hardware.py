"""What a machine says of itself, and which device profile that is. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeferry.device_profiles import DeviceProfile
from edgeferry.device_profiles.profile import Arch
from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.wire.codec import WireError
from edgeferry.wire.topics import check_id

__all__ = ["Hardware", "check_profile", "chosen_profile", "device_id", "parse_probe"]

_MODELS = (
    (r"Raspberry Pi (5|500|Compute Module 5)", "raspberry-pi-5"),
    (r"Raspberry Pi (4|400|Compute Module 4)", "raspberry-pi-4"),
    (r"Raspberry Pi (3|Compute Module 3)", "raspberry-pi-3"),
    (r"Raspberry Pi Zero 2", "raspberry-pi-zero-2w"),
    (r"Orange Pi 5", "orange-pi-5"),
    (r"Jetson Nano", "jetson-nano"),
    (r"Freescale i\.MX8MQ Phanbell", "coral-dev-board"),
)
_GENERIC = {Arch.AARCH64: "generic-aarch64", Arch.X86_64: "generic-x86-64", Arch.ARMV7L: "raspberry-pi-32bit"}
_SMALL_AARCH64 = "raspberry-pi-zero-2w"
# Firmware, kernel and graphics keep some of the memory that is sold: a Pi with 512 MB shows 416 to 480.
_VISIBLE_SHARE = 0.8
_UNUSUAL = re.compile(r"[^a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as it was found.

    Attributes:
        arch: Of the user space; None for one that there is no profile for.
        model: As the firmware names it; empty where it does not.
        memory_bytes: That the kernel has.
        pythons: Versions that could run the agent, the system's own first.
        sudo: How root is reached: ``root``, ``free``, ``asks`` or ``none``.
        free_bytes: Where the agent would go.
        device: Id of the device that is installed there; empty for none.
        home: Of the user who looked.
    """

    arch: Arch | None
    machine: str
    model: str
    memory_bytes: int
    cores: int
    pythons: tuple[str, ...]
    os: str
    hostname: str
    machine_id: str
    has_systemd: bool
    sudo: str
    free_bytes: int
    device: str
    home: str

    def __str__(self) -> str:
        memory = f"{self.memory_bytes >> 20} MiB"
        python = f"Python {self.pythons[0]}" if self.pythons else "no Python that could be used"
        return ", ".join(filter(None, (self.model, self.machine, f"{self.cores} cores", memory, self.os, python)))


def parse_probe(text: str) -> Hardware:
    """Return the machine that the probe's lines describe; lines of a login message are left out.

    Raises:
        FleetError: It is not the probe that has spoken.
    """
    lines = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    said = {key.strip(): value.strip() for key, value in lines}
    if said.get("edgeferry_probe") != "1":
        raise FleetError(f"the device did not answer as a Linux machine does; it said {text.strip()[:200]!r}")
    machine = said.get("machine", "")
    return Hardware(
        arch=_arch(machine, said.get("bits", "64")),
        machine=machine,
        model=said.get("model", ""),
        memory_bytes=_number(said, "memory_kib") * 1024,
        cores=_number(said, "cores"),
        pythons=tuple(said.get("pythons", "").split()),
        os=said.get("os", ""),
        hostname=said.get("hostname", ""),
        machine_id=said.get("machine_id", ""),
        has_systemd=said.get("systemd") == "yes",
        sudo=said.get("sudo", "none"),
        free_bytes=_number(said, "free_kib") * 1024,
        device=said.get("device", ""),
        home=said.get("home", ""),
    )


def chosen_profile(found: Hardware, profiles: Iterable[DeviceProfile]) -> str:
    """Return the name of the profile for a machine: its model's, else the generic one that its memory is enough for.

    Raises:
        UsageError: There is none for such a machine.
    """
    if found.arch is None:
        raise UsageError(f"there is no device profile for a machine of type {found.machine!r}; write one of your own")
    known = {profile.name: profile for profile in profiles}
    for pattern, name in _MODELS:
        if re.search(pattern, found.model) and known[name].hardware.arch is found.arch:
            return name
    name = _GENERIC[found.arch]
    is_small = found.memory_bytes < _VISIBLE_SHARE * known[name].hardware.memory_bytes
    return _SMALL_AARCH64 if is_small and found.arch is Arch.AARCH64 else name


def check_profile(found: Hardware, profile: DeviceProfile) -> str:
    """Return what should be known of a profile on a machine; an empty text when it fits.

    Raises:
        UsageError: Its programs would not run there.
    """
    if profile.hardware.arch != found.arch:
        raise UsageError(f"profile {profile.name} is for {profile.hardware.arch}, and the device is {found.machine}")
    if not set(found.pythons) & set(profile.runtime.python):
        raise UsageError(
            f"the device has Python {', '.join(found.pythons) or '(none with venv)'}, and {profile.name} needs one of "
            f"{', '.join(profile.runtime.python)}; install it: sudo apt-get install python3 python3-venv"
        )
    if found.memory_bytes < _VISIBLE_SHARE * profile.hardware.memory_bytes:
        wanted, there = profile.hardware.memory_bytes >> 20, found.memory_bytes >> 20
        return f"the device has {there} MiB of memory, and {profile.name} is meant for {wanted} MiB"
    return ""


def device_id(found: Hardware) -> str:
    """Return a name for the device: the one that it has already, else its host's.

    Raises:
        UsageError: The host has no name that could be one.
    """
    name = found.device or _UNUSUAL.sub("-", found.hostname.split(".")[0])
    try:
        check_id(name, what="device id")
    except WireError as err:
        raise UsageError(f"the host's name {found.hostname!r} cannot be a device's id; give one with --id") from err
    return name


def _arch(machine: str, bits: str) -> Arch | None:
    if machine in ("aarch64", "armv7l", "armv8l") and (bits == "32" or machine != "aarch64"):
        return Arch.ARMV7L  # a 32-bit user space, whatever the kernel
    return Arch(machine) if machine in tuple(Arch) else None


def _number(said: dict[str, str], key: str) -> int:
    text = said.get(key, "")
    return int(text) if text.isdigit() else 0
