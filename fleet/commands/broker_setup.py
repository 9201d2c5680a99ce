"""`edgeferry broker setup`: a mosquitto for this fleet."""

import ipaddress
import os
import re
import socket
import subprocess
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import click
import psutil

from edgeferry.fleet.errors import ConfigurationError, FleetError, UsageError
from edgeferry.fleet.mosquitto.admission import wait_until_let_in
from edgeferry.fleet.mosquitto.configuration import MosquittoSettings
from edgeferry.fleet.mosquitto.folder import MosquittoFolder, Setup
from edgeferry.fleet.operator import Login
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.session import Session, fleet_command, usage_checked
from edgeferry.fleet.settings import FleetSettings, load_settings, parse_broker_url, save_settings
from edgeferry.wire.topics import check_id

__all__ = ["setup"]

_LOOPBACK = ("localhost", "127.0.0.1")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")


@click.command()
@fleet_command
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name or address that devices reach it by; again for more. By default those of this machine.",
)
@click.option("--bind", metavar="IP", help="Address to listen on; by default all of its host's.")
@click.option("--monitor", "monitors", multiple=True, metavar="USER", help="A user who may read everything.")
@click.option("--application", "applications", multiple=True, metavar="USER", help="A user who may ask models.")
@click.option("--max-devices", type=click.IntRange(1, 100_000), help="Connected at the same time; by default 10000.")
@click.option("--install", is_flag=True, help="Put it onto this Debian host, with sudo where that is needed.")
def setup(
    session: Session,
    *,
    hosts: tuple[str, ...],
    bind: str | None,
    monitors: tuple[str, ...],
    applications: tuple[str, ...],
    max_devices: int | None,
    install: bool,
) -> None:
    """Make a mosquitto for this fleet: TLS, a password for each device, access rules, limits.

    Example: edgeferry broker setup --host broker.local --install
    """
    repository = session.repository()
    _refuse_foreign_root(session.fleet_dir)
    _check_names(hosts, bind, (*monitors, *applications))
    folder = MosquittoFolder(session.fleet_dir)
    before = folder.setup()
    fleet = load_settings(session.fleet_dir)
    asked = _asked(
        before.settings if before else None,
        fleet,
        hosts=hosts,
        bind=bind,
        monitors=monitors,
        applications=applications,
        max_devices=max_devices,
    )
    _have_passwords(session, asked.people, repository.inventory.devices)
    installed_before = bool(before and before.is_installed)
    folder.make(Setup(asked, is_installed=installed_before), repository.inventory.devices)
    if install:
        _install(folder)
        folder.make(Setup(asked, is_installed=True), repository.inventory.devices)
    reached = _reached(fleet, asked, is_here=install or installed_before)
    save_settings(session.fleet_dir, reached)
    if install:
        _check_operator(session, reached)
    _tell(session, folder, asked, reached, is_here=install or installed_before)


def _refuse_foreign_root(fleet_dir: Path) -> None:
    owner = fleet_dir.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise ConfigurationError(
            f"{fleet_dir} belongs to user {owner}, and root would leave files there that are not theirs; run the "
            "command as that user, it asks for sudo itself"
        )


def _have_passwords(session: Session, people: tuple[str, ...], devices: Collection[str]) -> None:
    for user in people:
        if user in devices:
            raise UsageError(f"{user!r} is a device of this fleet; choose another user name")
        if user not in session.passwords().load():
            session.passwords().make(user)


def _check_names(hosts: tuple[str, ...], bind: str | None, users: tuple[str, ...]) -> None:
    for host in hosts:
        if not _is_address(host) and not _HOST_NAME.fullmatch(host):
            raise UsageError(f"--host {host[:80]!r} is neither a name nor an address; wanted one such as broker.local")
    if bind is not None and not _is_address(bind):
        raise UsageError(f"--bind {bind[:80]!r} is no address; wanted one of the broker's host, such as 192.168.1.10")
    with usage_checked():
        for user in users:
            check_id(user, what="user")


def _asked(
    before: MosquittoSettings | None,
    fleet: FleetSettings,
    *,
    hosts: tuple[str, ...],
    bind: str | None,
    monitors: tuple[str, ...],
    applications: tuple[str, ...],
    max_devices: int | None,
) -> MosquittoSettings:
    """Return what was asked for now, and for the rest what was asked for before."""
    kept = before or MosquittoSettings(hosts=(*_hosts_of_this_machine(), *_LOOPBACK))
    return replace(
        kept,
        operator=fleet.operator,
        topic_root=fleet.topic_root,
        hosts=tuple(dict.fromkeys((*hosts, *_LOOPBACK))) if hosts else kept.hosts,
        bind=kept.bind if bind is None else bind,
        monitors=monitors or kept.monitors,
        applications=applications or kept.applications,
        max_devices=max_devices or kept.max_devices,
    )


def _hosts_of_this_machine() -> tuple[str, ...]:
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not ipaddress.ip_address(address.address).is_loopback
    ]
    name = socket.gethostname()
    return (*dict.fromkeys(found), *([name] if _HOST_NAME.fullmatch(name) and name not in _LOOPBACK else []))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _reached(fleet: FleetSettings, asked: MosquittoSettings, *, is_here: bool) -> FleetSettings:
    """Return the fleet's settings with this broker in them."""
    for_devices = [host for host in asked.hosts if host not in _LOOPBACK] or [asked.hosts[0]]
    bound = asked.bind if asked.bind and not ipaddress.ip_address(asked.bind).is_unspecified else "127.0.0.1"
    for_people = bound if is_here and bound in asked.hosts else asked.hosts[0]
    return replace(
        fleet,
        broker=_url(for_people, asked.people_port),
        device_brokers=tuple(_url(host, asked.device_port) for host in for_devices),
    )


def _url(host: str, port: int) -> str:
    return f"mqtts://[{host}]:{port}" if ":" in host else f"mqtts://{host}:{port}"


def _install(folder: MosquittoFolder) -> None:
    """Run the installer as root.

    Raises:
        FleetError: It did not end well; it has said why.
    """
    owner = folder.path.owner()
    command = ["sh", str(folder.installer), owner]
    try:
        done = subprocess.run(command if os.geteuid() == 0 else ["sudo", *command], check=False)
    except FileNotFoundError as err:
        raise FleetError(f"sudo is not here; run as root: sh {folder.installer} {owner}") from err
    if done.returncode:
        raise FleetError(f"the installation ended with {done.returncode}, see above; run the same command again")


def _check_operator(session: Session, reached: FleetSettings) -> None:
    passwords = session.passwords()
    login = Login(reached.operator, passwords.of(reached.operator), passwords.ca_pem())
    wait_until_let_in(parse_broker_url(reached.broker), login)


def _tell(
    session: Session, folder: MosquittoFolder, asked: MosquittoSettings, reached: FleetSettings, *, is_here: bool
) -> None:
    if session.as_json:
        print_json(
            {
                "folder": str(folder.path),
                "broker": reached.broker,
                "device_brokers": list(reached.device_brokers),
                "hosts": list(asked.hosts),
                "installed": is_here,
            }
        )
        return
    click.echo(f"{reached.broker} for you, {', '.join(reached.device_brokers)} for devices")
    hint(f"configuration, certificates and users are in {folder.path}; fleet.yaml names this broker now")
    for user in (*asked.monitors, *asked.applications):
        hint(f"the password of {user} is in secrets/passwords.json, the certificate to trust in secrets/ca.pem")
    if not is_here:
        hint("on its host: copy the folder there, then `sudo sh install.sh`; or put it onto this one with --install")
