"""`edgeferry rollback`: back to an earlier version."""

from collections.abc import Mapping, Sequence

import click

from edgeferry.fleet.commands.push import deliver_and_report, print_plans, with_delivery_options
from edgeferry.fleet.delivery import Delivery
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.planning import plans_for, targets_of
from edgeferry.fleet.push import refuse_what_cannot_be
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now, now_s

__all__ = ["rollback"]


@click.command()
@click.argument("model")
@click.option(
    "--version", type=click.IntRange(min=1), help="The version to run; by default what each device had before."
)
@with_delivery_options
@fleet_command
def rollback(
    session: Session,
    model: str,
    *,
    version: int | None,
    to: str,
    timeout_s: float,
    waits_for_offline: bool,
    dry_run: bool,
) -> int:
    """Go back to an earlier version of MODEL; devices keep the one before, so nothing is moved.

    Ends as `push` does: 0 all run it, 1 one does not, 3 some are offline.

    Example: edgeferry rollback digits --to pi-kitchen
    """
    repository = session.repository()
    devices = repository.inventory.select(to)
    with session.watch() as watch:
        view = watch.collect()
        versions = {device.id: version or _version_before(repository, device, model, view) for device in devices}
        plans = plans_for(repository, devices, versions=versions, model=model, view=view, now=now_s())
        if dry_run:
            return print_plans(session, plans)
        refuse_what_cannot_be(plans)
        _wish(repository, model, to, devices, versions)
        repository.publish(now())
        return deliver_and_report(
            session, repository, watch, Delivery(targets_of(repository, devices, model), timeout_s, waits_for_offline)
        )


def _version_before(repository: Repository, device: Device, model: str, view: FleetView) -> int:
    state = view.get(device.id).state
    reported = state.models.get(model) if state else None
    known = repository.versions(model)
    if reported is None or reported.previous not in known:
        raise UsageError(
            f"{device.id} has reported no version of {model!r} from before; name one with --version: "
            f"there are {', '.join(map(str, known)) or 'none'}"
        )
    return reported.previous


def _wish(repository: Repository, model: str, to: str, devices: Sequence[Device], versions: Mapping[str, int]) -> None:
    """Wish one version for the whole scope where all go back to the same one, else one for each device."""
    if len(set(versions.values())) == 1:
        repository.wish(model, next(iter(versions.values())), to)
        return
    for device in devices:
        repository.wish(model, versions[device.id], device.id)
