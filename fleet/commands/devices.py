"""`edgeferry devices`: who is in the fleet."""

import click

from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.faces import device_row, device_summary
from edgeferry.fleet.rendering import print_json, print_table
from edgeferry.fleet.session import Session, fleet_command, now_s

__all__ = ["devices"]


@click.command()
@fleet_command
def devices(session: Session) -> None:
    """List the devices of the fleet and how they are; those that are not in the inventory are marked.

    Example: edgeferry devices --json
    """
    inventory = session.repository().inventory
    with session.watch() as watch:
        view = watch.collect()
    strangers = {name: Device(name, "") for name in view.devices if name not in inventory.devices}
    members = [*inventory.devices.values(), *strangers.values()]
    if session.as_json:
        print_json([device_summary(member, view.get(member.id), now_s()) for member in members])
        return
    rows = [device_row(member, view.get(member.id), now_s()) for member in members]
    print_table(("device", "profile", "groups", "is", "models"), rows)
