"""`edgeferry enroll`: from a workstation onto a device, over ssh."""

from pathlib import Path

import click

from edgeferry.fleet.enroll import enrolling
from edgeferry.fleet.enroll.enrolling import AUTO, Asked
from edgeferry.fleet.enroll.ssh import Ssh
from edgeferry.fleet.rendering import hint, meter, print_json
from edgeferry.fleet.session import Session, fleet_command, signs, usage_checked
from edgeferry.wire.topics import check_id

__all__ = ["enroll"]


@click.command()
@fleet_command
@signs
@click.argument("target", metavar="USER@HOST")
@click.option("-p", "--profile", default=AUTO, show_default=True, help="Kind of device; `auto` looks at the device.")
@click.option("--id", "device", default="", metavar="ID", help="Of the device; by default the name of its host.")
@click.option("--group", "groups", multiple=True, help="A group that it belongs to; again for more.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where its sshd listens.")
@click.option("--identity", type=click.Path(exists=True, path_type=Path), help="Private key for ssh.")
@click.option("--online", is_flag=True, help="Let the device fetch packages from the index itself.")
def enroll(
    session: Session,
    *,
    target: str,
    profile: str,
    device: str,
    groups: tuple[str, ...],
    port: int | None,
    identity: Path | None,
    online: bool,
) -> None:
    """Install the agent on a device over ssh, make it a member of the fleet, and wait until it is online.

    Interrupted at any moment, the same command goes on from there; on a device that is enrolled it upgrades the agent.

    Example: edgeferry enroll pi@raspberrypi.local --id kitchen
    """
    with usage_checked():
        for name in filter(None, (device, *groups)):
            check_id(name, what="name")
    with Ssh(target, port=port, identity=identity) as ssh, meter(quiet=session.as_json) as show:
        done = enrolling.enroll(session, ssh, Asked(profile, device, groups, online), tell=hint, meter=show)
    if session.as_json:
        print_json(
            {"id": done.id, "profile": done.profile, "hardware": done.hardware, "seconds": round(done.seconds, 1)}
        )
        return
    click.echo(f"{done.id} is online, after {done.seconds:.0f} s")
