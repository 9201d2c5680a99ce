"""`edgeferry profiles`: the kinds of devices."""

import click

from edgeferry.device_profiles import profile_names
from edgeferry.fleet.rendering import human_bytes, print_json, print_table
from edgeferry.fleet.session import Session, fleet_command, profile_named

__all__ = ["profiles"]


@click.command()
@click.argument("name", required=False)
@fleet_command
def profiles(session: Session, name: str | None) -> None:
    """List the kinds of devices that models are made for, or tell all about the one called NAME (a file works, too).

    Example: edgeferry profiles raspberry-pi-4
    """
    found = [profile_named(one) for one in ([name] if name else profile_names())]
    if session.as_json:
        print_json(found[0] if name else found)
        return
    rows = [
        (
            profile.name,
            profile.title,
            f"{profile.hardware.cores} x {profile.hardware.arch}",
            human_bytes(profile.hardware.memory_bytes),
            human_bytes(profile.budgets.model_bytes),
            ", ".join(profile.schemes),
        )
        for profile in found
    ]
    print_table(("profile", "device", "cores", "memory", "model up to", "schemes, best first"), rows)
