"""`edgeferry status`: wanted and running."""

import click

from edgeferry.fleet.errors import EXIT_DONE, EXIT_FAILED
from edgeferry.fleet.rendering import print_json, print_table
from edgeferry.fleet.session import Session, fleet_command, now_s
from edgeferry.fleet.status import ModelStatus, status_of

__all__ = ["status"]


@click.command()
@click.argument("model")
@fleet_command
def status(session: Session, model: str) -> int:
    """Show which version of MODEL each device should run, which it runs, and why they differ.

    Ends with 1 when a device does not run what is wanted.

    Example: edgeferry status digits
    """
    repository = session.repository()
    repository.manifests(model, max(repository.versions(model), default=0))  # an unknown name is told before all else
    with session.watch() as watch:
        view = watch.collect()
    found = [
        status_of(
            model,
            device.profile,
            repository.wishes_of(device.id),
            view.get(device.id),
            generation=repository.generation,
            now=now_s(),
        )
        for device in repository.inventory.devices.values()
    ]
    if session.as_json:
        print_json([{**_as_dict(one), "agrees": one.agrees} for one in found])
    else:
        rows = [
            (one.device, one.profile, one.liveness, _version(one.wanted), _version(one.running), one.scheme, one.why)
            for one in found
        ]
        print_table(("device", "profile", "is", "wanted", "running", "scheme", "why"), rows)
    return EXIT_DONE if all(one.agrees for one in found) else EXIT_FAILED


def _version(version: int) -> str:
    return str(version) if version else "-"


def _as_dict(status: ModelStatus) -> dict[str, object]:
    return {name: getattr(status, name) for name in status.__slots__}
