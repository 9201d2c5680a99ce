"""`edgeferry token`: a new device, and what its agent needs."""

import base64
from urllib.parse import urlsplit

import click

from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.inventory import Device, Inventory
from edgeferry.fleet.mosquitto.admission import wait_until_let_in
from edgeferry.fleet.mosquitto.folder import MosquittoFolder
from edgeferry.fleet.operator import BrokerError, Login
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now, profile_named
from edgeferry.fleet.settings import BrokerUrl, parse_broker_url
from edgeferry.wire.joining import JoinToken, format_token

__all__ = ["token"]


@click.command()
@click.argument("device", metavar="ID")
@click.option("-p", "--profile", help="Kind of device; see `edgeferry profiles`. Required for a new device.")
@click.option("--group", "groups", multiple=True, help="A group that it belongs to; again for more.")
@click.option(
    "--renew",
    is_flag=True,
    help="Make a new password for a device that is known; the old one ends. It keeps what is not given anew.",
)
@fleet_command
def token(session: Session, device: str, *, profile: str | None, groups: tuple[str, ...], renew: bool) -> None:
    """Add a device to the fleet and print the token that its agent joins with. The token is a secret.

    Example: edgeferry token pi-kitchen -p raspberry-pi-4 --group kitchens > pi-kitchen.token
    """
    repository = session.repository()
    _refuse_other_users(session, repository.inventory, device)
    if renew:
        added = _renewed(repository.inventory, device, profile, groups)
    else:
        added = _added(repository.inventory, device, profile, groups)
    repository.publish(now())
    _tell_the_fleet(session, repository)
    # last, because the embedded broker starts anew on a new password, and then says what is published
    password = session.passwords().make(device)
    admission = _let_in(session, repository, device, password)
    text = format_token(_join_token(session, repository, added, password))
    if session.as_json:
        print_json({"id": device, "profile": added.profile, "groups": list(added.groups), "token": text})
    else:
        click.echo(text)
    _advise(session, device)
    hint(admission)


def _refuse_other_users(session: Session, inventory: Inventory, device: str) -> None:
    """Do nothing unless ``device`` is the user name of somebody else, whose password its token would hand out.

    Raises:
        UsageError: It is the operator's, or that of a user who is no device.
    """
    if device == session.settings().operator:
        raise UsageError(f"{device!r} is the operator of this fleet, not a device; choose another id")
    if device not in inventory.devices and device in session.passwords().load():
        raise UsageError(
            f"{device!r} is a user at the broker already, but not a device of this fleet; choose another id, or remove "
            "it from secrets/passwords.json first"
        )


def _added(inventory: Inventory, device: str, profile: str | None, groups: tuple[str, ...]) -> Device:
    if device in inventory.devices:
        raise UsageError(f"device {device!r} is known already; --renew makes a new password, and the old one ends")
    if profile is None:
        raise UsageError(f"device {device!r} is new; say what kind it is with -p, see `edgeferry profiles`")
    return inventory.add(device, profile_named(profile).name, groups)


def _renewed(inventory: Inventory, device: str, profile: str | None, groups: tuple[str, ...]) -> Device:
    known = inventory.device(device)
    name = known.profile if profile is None else profile_named(profile).name
    return inventory.add(device, name, groups or known.groups, replace=True)


def _join_token(session: Session, repository: Repository, device: Device, password: str) -> JoinToken:
    settings = session.settings()
    roots = repository.roots()
    return JoinToken(
        v=1,
        id=device.id,
        profile=device.profile,
        brokers=settings.device_brokers or (settings.broker,),
        password=password,
        root=base64.b64encode(roots[max(roots)]).decode(),
        groups=device.groups,
        ca_pem=session.passwords().ca_pem(),
        topic_root=settings.topic_root,
    )


def _tell_the_fleet(session: Session, repository: Repository) -> None:
    try:
        with session.watch() as watch:
            watch.say(repository.roots(), repository.timestamp())
    except (BrokerError, FleetError) as err:
        hint(f"not said to the broker yet: {err}. The next `push`, `origin` or `broker run` says it.")


def _let_in(session: Session, repository: Repository, device: str, password: str) -> str:
    """Have the fleet's mosquitto let ``device`` in; return a sentence about what is left to do."""
    folder = MosquittoFolder(session.fleet_dir)
    setup = folder.setup()
    if setup is None:
        return (
            f"`edgeferry broker run` lets {device} in; a broker of your own needs its password, secrets/passwords.json"
        )
    if not folder.let_in(repository.inventory.devices):
        return f"copy {folder.path} to the broker's host and run its install.sh there, so that {device} is let in"
    people = parse_broker_url(session.settings().broker)
    url = BrokerUrl("mqtts", people.host, setup.settings.device_port)
    try:
        wait_until_let_in(url, Login(device, password, session.passwords().ca_pem()))
    except BrokerError as err:
        return f"the broker does not let {device} in yet ({err}); `sudo systemctl reload mosquitto`"
    return f"the broker lets {device} in"


def _advise(session: Session, device: str) -> None:
    hint(f"on {device}: edgeferry-agent init --token-file FILE --state-dir DIR -o agent.yaml")
    settings = session.settings()
    if not settings.device_brokers and urlsplit(settings.broker).hostname in ("127.0.0.1", "localhost", "::1"):
        hint(f"{settings.broker} is this machine only; for devices elsewhere set device_brokers in fleet.yaml")
