"""The steps of an enrolment, each of which can be done again: look, choose, join, bundle, copy, install, wait.

What is known of earlier ones: the inventory and passwords of the fleet, ``enrolments/ID`` with the machine that an id
was given to, the files that arrived on the device whole.
"""

import hashlib
import ipaddress
import os
import secrets
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from edgeferry.device_profiles import DeviceProfile, load_profile, profile_names
from edgeferry.fleet.bundle.making import Bundle, make_bundle
from edgeferry.fleet.enroll.hardware import Hardware, check_profile, chosen_profile, device_id, parse_probe
from edgeferry.fleet.enroll.ssh import Ssh
from edgeferry.fleet.errors import ConfigurationError, FleetError, UsageError
from edgeferry.fleet.files import explained, make_folder, write_atomically
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.joining import join_token, let_in, refuse_other_users
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, now, profile_named
from edgeferry.fleet.telling import tell_the_fleet
from edgeferry.wire.joining import format_token
from edgeferry.wire.messages import Availability

__all__ = ["AUTO", "Asked", "Enrolled", "enroll"]

AUTO = "auto"
ONLINE_PATIENCE_S = 60.0
_ENVIRONMENT_BYTES = 300 << 20
_JOINING = "joining-"

Tell = Callable[[str], None]
Meter = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person asks for.

    Attributes:
        profile: Name of a device profile, or ``auto``.
        device: Id; empty for the device's own name.
        groups: That a new device belongs to.
        online: Whether the device takes what it needs from the index itself.
    """

    profile: str = AUTO
    device: str = ""
    groups: tuple[str, ...] = ()
    online: bool = False


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that is online."""

    id: str
    profile: str
    hardware: Hardware
    seconds: float


def enroll(session: Session, ssh: Ssh, asked: Asked, *, tell: Tell, meter: Meter) -> Enrolled:
    """Have the agent run on the device behind ``ssh``, as a member of the fleet, and return when it is online.

    Args:
        session: The fleet.
        ssh: The device.
        asked: For what.
        tell: Takes a sentence before each step.
        meter: Takes how many bytes were copied, and of how many.

    Raises:
        UsageError: The device, the profile or the id cannot be used; nothing was changed.
        FleetError: A step failed; the same command goes on from there.
    """
    began_s = time.monotonic()
    repository = session.repository()
    repository.open_keys()
    tell(f"looking at {ssh.target}")
    found = parse_probe(ssh.script(files("edgeferry.fleet.enroll").joinpath("probe.sh").read_text()))
    tell(str(found))
    profile = _profile(found, asked.profile, tell)
    _check_machine(found)
    _check_brokers(session, ssh.target)
    device = _member(session, repository, found, asked, profile)
    tell(f"{device.id} is a {device.profile}")
    tell_the_fleet(session, repository)
    token = _token(session, repository, device, tell)
    bundle = _bundle(profile, found, online=asked.online, tell=tell)
    place = f"{found.home.rstrip('/')}/.cache/edgeferry/bundle"
    _copy(ssh, bundle, place, tell, meter)
    tell("installing")
    _install(ssh, place, token, found)
    tell("waiting for it to be online")
    _wait_until_online(session, device.id)
    cache = shlex.quote(str(Path(place).parent))  # others may keep something there
    ssh.script(f"cd && rm -rf -- {shlex.quote(place)} && {{ rmdir {cache} 2>/dev/null || true; }}\n")
    return Enrolled(device.id, device.profile, found, time.monotonic() - began_s)


def _profile(found: Hardware, asked: str, tell: Tell) -> DeviceProfile:
    if asked == AUTO:
        asked = chosen_profile(found, map(load_profile, profile_names()))
    profile = profile_named(asked)
    note = check_profile(found, profile)
    if note:
        tell(note)
    return profile


def _check_machine(found: Hardware) -> None:
    if not found.has_systemd:
        raise UsageError(
            "systemd does not run on the device; install the agent there by hand, with `edgeferry-agent init`"
        )
    if found.sudo == "none":
        raise UsageError("this user may not become root on the device, and there is no sudo; connect as root")
    if found.free_bytes < _ENVIRONMENT_BYTES and not found.device:
        raise UsageError(f"the device has {found.free_bytes >> 20} MiB of room, wanted {_ENVIRONMENT_BYTES >> 20}")


def _check_brokers(session: Session, target: str) -> None:
    """Refuse to hand out a broker that the device cannot mean."""
    settings = session.settings()
    hosts = {urlsplit(url).hostname or "" for url in settings.device_brokers or (settings.broker,)}
    if all(map(_is_loopback, hosts)) and not _is_loopback(target.rpartition("@")[2]):
        raise ConfigurationError(
            f"the fleet's broker is {', '.join(sorted(hosts))}, which means itself on any device; run "
            "`edgeferry broker setup`, or set device_brokers in fleet.yaml"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _member(session: Session, repository: Repository, found: Hardware, asked: Asked, profile: DeviceProfile) -> Device:
    """Return the device of the inventory that this machine is; add it where it is new."""
    name = asked.device or device_id(found)
    refuse_other_users(session, repository.inventory, name)
    note = session.fleet_dir / "enrolments" / name
    _check_same_machine(note, found, is_known=name in repository.inventory.devices, is_asked_for=bool(asked.device))
    known: Mapping[str, Device] = repository.inventory.devices
    profile_name, groups = profile.name, asked.groups
    if name in known:
        profile_name = profile.name if asked.profile != AUTO else known[name].profile
        groups = asked.groups or known[name].groups
    device = repository.inventory.add(name, profile_name, groups, replace=True)
    make_folder(note.parent)
    write_atomically(note, f"{found.machine_id}\n".encode())
    repository.publish(now())
    return device


def _check_same_machine(note: Path, found: Hardware, *, is_known: bool, is_asked_for: bool) -> None:
    with explained(note):
        before = note.read_text().strip() if note.exists() else ""
    is_here = found.device == note.name
    if is_known and before != found.machine_id and not (is_asked_for or is_here):
        raise UsageError(
            f"the device calls itself {note.name!r}, and another device of the fleet has that id; give this one a name "
            f"with --id, or let it take the other one's place with --id {note.name}"
        )


def _token(session: Session, repository: Repository, device: Device, tell: Tell) -> str:
    """Return what the device joins with: the same as before where it has joined before."""
    passwords = session.passwords()
    known = passwords.load().get(device.id)
    password = known or passwords.make(device.id)
    if not known:
        tell(let_in(session, repository, device.id, password))
    return format_token(join_token(session, repository, device, password))


def _bundle(profile: DeviceProfile, found: Hardware, *, online: bool, tell: Tell) -> Bundle:
    python = next(python for python in found.pythons if python in profile.runtime.python)
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if base.startswith("/") else Path.home() / ".cache"
    kind = "online" if online else "whole"
    target = cache / "edgeferry" / "bundles" / f"{profile.hardware.arch}-{python}-{kind}"
    return make_bundle(target, profile, (python,), tell, online=online)


def _copy(ssh: Ssh, bundle: Bundle, place: str, tell: Tell, meter: Meter) -> None:
    """Bring what differs onto the device, and remove there what is not of this bundle."""
    wanted = _sums(bundle.path)
    there = _listed(ssh.script(_LISTING.format(place=shlex.quote(place)), timeout_s=300))
    missing = sorted(name for name, digest in wanted.items() if there.get(name) != digest)
    strangers = sorted(name for name in set(there) - set(wanted) if not name.startswith(_JOINING))
    if strangers:
        ssh.script("cd {} && rm -f -- {}\n".format(shlex.quote(place), " ".join(map(shlex.quote, strangers))))
    size_bytes = sum((bundle.path / name).stat().st_size for name in missing)
    if missing:
        tell(f"copying {len(missing)} of {len(wanted)} files, {size_bytes / 1e6:.1f} MB")
        ssh.copy(bundle.path, missing, place, lambda sent: meter(min(sent, size_bytes), size_bytes))


_LISTING = "mkdir -p {place} && cd {place} && find . -type f -exec sha256sum {{}} +\n"


def _listed(text: str) -> dict[str, str]:
    lines = (line.split("  ", 1) for line in text.splitlines() if "  ./" in line)
    return {name.removeprefix("./"): digest for digest, name in lines}


def _sums(folder: Path) -> dict[str, str]:
    names = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def _install(ssh: Ssh, place: str, token: str, found: Hardware) -> None:
    # A name of its own: what a lost connection left running there removes its token when it ends.
    path = f"{place}/{_JOINING}{secrets.token_hex(4)}"
    ssh.write(path, token.encode())
    become = {"root": "", "free": "sudo -n "}.get(found.sudo, "sudo ")
    installer, joining = shlex.quote(f"{place}/install.sh"), shlex.quote(path)
    command = f"trap 'rm -f {joining}' EXIT; trap 'exit 1' HUP INT TERM; {become}sh {installer} --token-file {joining}"
    status = ssh.interactively(f"sh -c {shlex.quote(command)}")
    if status:
        raise FleetError(f"the installation on the device ended with {status}, see above; the same command goes on")


def _wait_until_online(session: Session, device: str) -> None:
    deadline_s = time.monotonic() + ONLINE_PATIENCE_S
    with session.watch() as watch:
        watch.collect(device)
        while watch.view.get(device).availability is not Availability.ONLINE:
            if time.monotonic() > deadline_s:
                raise FleetError(
                    f"{device} is installed, but was not heard at the broker within {ONLINE_PATIENCE_S:.0f} s; see "
                    "`sudo edgeferry-agent doctor` there"
                )
            watch.follow(1.0)
