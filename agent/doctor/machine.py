"""Whether the machine is what the profile says and has what an agent needs: clock, room, memory, hardware. Pure.

Bounds are generous: a finding has to be worth somebody's walk to the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from edgeferry.agent.doctor.finding import Finding, fine, problem, warning
from edgeferry.device_profiles.profile import DeviceProfile

__all__ = ["Machine", "examine_clock", "examine_disk", "examine_hardware", "examine_memory"]

CLOCK_SLACK_MS = 300_000
LEAST_MEMORY_SHARE = 0.8  # of what is sold; firmware and kernel keep the rest
LEAST_AVAILABLE_BYTES = 32 << 20
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found on the machine.

    Attributes:
        now_ms: By its clock.
        is_synchronised: Whether a time service has set the clock.
        free_bytes: On the partition of the state folder, for this user.
        total_bytes: Of that partition.
        is_read_only: Whether that partition is mounted read-only.
        memory_bytes: In all; 0 when it cannot be told.
        available_bytes: That programs could take now; 0 when it cannot be told.
        has_memory_controller: Whether the kernel can limit the memory of a service; None when it cannot be told.
        arch: As `uname -m` says it.
        cores: Of the processor.
    """

    now_ms: int
    is_synchronised: bool
    free_bytes: int
    total_bytes: int
    is_read_only: bool
    memory_bytes: int
    available_bytes: int
    has_memory_controller: bool | None
    arch: str
    cores: int


def examine_clock(machine: Machine, issued_ms: int, built_ms: int) -> Finding:
    """Return what the clock says against the newest time that is certain.

    Args:
        machine: Whose clock.
        issued_ms: Of the newest verified metadata; 0 for none.
        built_ms: Before which no edgeferry was built.
    """
    shown = _moment(machine.now_ms)
    certain_ms = max(issued_ms, built_ms)
    if machine.now_ms < certain_ms - CLOCK_SLACK_MS:
        advice = "let it be set: sudo timedatectl set-ntp true, and look whether the time server can be reached"
        return problem("clock", f"it says {shown}, and {_moment(certain_ms)} has passed for certain", advice)
    if not machine.is_synchronised:
        advice = (
            "sudo timedatectl set-ntp true; before that the expiry of metadata is judged by the newest time that signed"
            " metadata has told, and certificates may look invalid"
        )
        return warning("clock", f"it says {shown}, and no time service has set it", advice)
    return fine("clock", f"{shown}, set by a time service")


def examine_disk(machine: Machine, needed_bytes: int, directory: str) -> Finding:
    """Return whether there is room for a model of the largest size that the profile allows.

    Args:
        machine: Whose partition.
        needed_bytes: For such a model and what has to stay free.
        directory: The state folder.
    """
    room = f"{directory}: {_size(machine.free_bytes)} of {_size(machine.total_bytes)} are free"
    if machine.is_read_only:
        advice = "see the reason in `dmesg`, then mount it for writing; a card that is worn out has to be replaced"
        return problem("disk", f"{directory} is on a file system that is mounted read-only", advice)
    if machine.free_bytes < needed_bytes // 4:
        return problem("disk", room, f"make room: the largest model of this profile wants {_size(needed_bytes)}")
    if machine.free_bytes < needed_bytes:
        return warning("disk", room, f"the largest model of this profile wants {_size(needed_bytes)}")
    return fine("disk", room)


def examine_memory(machine: Machine, profile: DeviceProfile) -> Iterator[Finding]:
    """Yield whether there is memory left, and whether the kernel can keep a model from taking all of it."""
    if machine.memory_bytes:
        left = f"{_size(machine.available_bytes)} of {_size(machine.memory_bytes)} are available"
        limits_bytes = profile.serving.memory_limit_bytes + profile.trial.memory_limit_bytes
        if machine.available_bytes < LEAST_AVAILABLE_BYTES:
            yield problem("memory", left, "stop what else runs here; `ps aux --sort=-rss | head` shows the largest")
        elif machine.memory_bytes < limits_bytes:
            advice = "write a profile of your own with smaller serving and trial limits; docs/profiles.md tells how"
            yield warning("memory", f"{left}; serving and trial together may take {_size(limits_bytes)}", advice)
        else:
            yield fine("memory", left)
    if machine.has_memory_controller is False:
        advice = (
            "on a Raspberry Pi add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt and boot again; until"
            " then the agent itself watches what models take, which is slower"
        )
        yield warning("memory limits", "the kernel's memory controller is switched off", advice)


def examine_hardware(machine: Machine, profile: DeviceProfile) -> Finding:
    """Return whether the machine is the one that the profile describes, as far as a model could notice."""
    hardware = profile.hardware
    shown = f"{machine.arch}, {machine.cores} cores" + (
        f", {_size(machine.memory_bytes)}" if machine.memory_bytes else ""
    )
    wanted = f"{profile.name} is {hardware.arch}, {hardware.cores} cores, {_size(hardware.memory_bytes)}"
    advice = (
        "take a profile that fits: on the workstation `edgeferry profiles` and `edgeferry token ID --renew -p PROFILE`,"
        " and here `edgeferry-agent init --force`"
    )
    if not _can_run(machine.arch, str(hardware.arch)):
        return problem("hardware", f"{shown}; {wanted}", advice)
    too_small = machine.memory_bytes and machine.memory_bytes < LEAST_MEMORY_SHARE * hardware.memory_bytes
    if too_small or machine.cores < hardware.cores:
        return warning("hardware", f"{shown}; {wanted}", advice)
    return fine("hardware", f"{shown}, as {profile.name} wants it")


def _can_run(found: str, wanted: str) -> bool:
    """Tell whether a machine that calls itself ``found`` runs programs for ``wanted``; 32-bit ones also on 64 bit."""
    return found == wanted or (wanted == "armv7l" and found in ("armv8l", "aarch64"))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _MIB / 1024:.1f} GiB" if size_bytes >= 1024 * _MIB else f"{size_bytes // _MIB} MiB"


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
