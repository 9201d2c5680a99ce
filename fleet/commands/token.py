"""`edgeferry token`: a new device, and what its agent needs."""

from urllib.parse import urlsplit

import click

from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.inventory import Device, Inventory
from edgeferry.fleet.joining import join_token, let_in, refuse_other_users
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.session import Session, fleet_command, now, profile_named, signs
from edgeferry.fleet.telling import refuse_changed_elsewhere, tell_the_fleet
from edgeferry.wire.joining import format_token

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
@signs
def token(session: Session, device: str, *, profile: str | None, groups: tuple[str, ...], renew: bool) -> None:
    """Add a device to the fleet and print the token that its agent joins with. The token is a secret.

    Example: edgeferry token pi-kitchen -p raspberry-pi-4 --group kitchens > pi-kitchen.token
    """
    repository = session.repository()
    refuse_other_users(session, repository.inventory, device)
    repository.open_keys()
    refuse_changed_elsewhere(session, repository)
    if renew:
        added = _renewed(repository.inventory, device, profile, groups)
    else:
        added = _added(repository.inventory, device, profile, groups)
    repository.publish(now())
    tell_the_fleet(session, repository)
    # last, because the embedded broker starts anew on a new password, and then says what is published
    password = session.passwords().make(device)
    admission = let_in(session, repository, device, password)
    text = format_token(join_token(session, repository, added, password))
    if session.as_json:
        print_json({"id": device, "profile": added.profile, "groups": list(added.groups), "token": text})
    else:
        click.echo(text)
    _advise(session, device)
    hint(admission)


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


def _advise(session: Session, device: str) -> None:
    hint(f"on {device}: edgeferry-agent init --token-file FILE --state-dir DIR -o agent.yaml")
    settings = session.settings()
    if not settings.device_brokers and urlsplit(settings.broker).hostname in ("127.0.0.1", "localhost", "::1"):
        hint(f"{settings.broker} is this machine only; for devices elsewhere set device_brokers in fleet.yaml")
