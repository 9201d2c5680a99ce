"""`edgeferry promote`: the canary becomes the version that answers."""

from collections.abc import Mapping

import click

from edgeferry.fleet.commands.push import (
    deliver_and_report,
    print_plans,
    with_delivery_options,
    with_previous_option,
)
from edgeferry.fleet.conflicts import newest_roots, refuse_if_behind
from edgeferry.fleet.delivery import Delivery
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.labelling import as_stable, canaries_of, wish_for_each
from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.planning import plans_for, targets_of
from edgeferry.fleet.push import refuse_what_cannot_be
from edgeferry.fleet.rendering import hint
from edgeferry.fleet.session import Session, fleet_command, now, now_s, signs
from edgeferry.wire.desired import CANARY

__all__ = ["promote"]


@click.command()
@click.argument("model")
@with_delivery_options
@with_previous_option
@click.option("--force", is_flag=True, help="Also where the canary does not serve, or has not said so.")
@fleet_command
@signs
def promote(
    session: Session,
    model: str,
    *,
    to: str,
    timeout_s: float,
    waits_for_offline: bool,
    dry_run: bool,
    keeps_previous: bool,
    force: bool,
) -> int:
    """Make the canary of MODEL the version that answers; a label moves, and nothing is transferred.

    Compare it before with `edgeferry status MODEL`. Ends as `push` does: 0 all run it, 1 one does not, 3 some are
    offline.

    Example: edgeferry promote digits --to group:kitchens
    """
    repository = session.repository()
    repository.manifests(model, max(repository.versions(model), default=0))  # an unknown name is told before all else
    addressed = repository.inventory.select(to)
    versions = canaries_of(repository, addressed, model)
    devices = [device for device in addressed if device.id in versions]
    if not devices:
        raise UsageError(f"no device within {to} has a canary of {model!r}; push one with --canary 10%")
    without = ", ".join(device.id for device in addressed if device.id not in versions)
    if without:
        hint(f"left as they are, because they have no canary of {model!r}: {without}")
    if not dry_run:
        repository.open_keys()
    with session.watch() as watch:
        view = watch.collect()
        if not force:
            _refuse_what_does_not_serve(versions, model, view)
        plans = plans_for(repository, devices, versions=versions, model=model, view=view, now=now_s())
        if dry_run:
            return print_plans(session, plans)
        refuse_what_cannot_be(plans)
        refuse_if_behind(repository, watch.hear(newest_roots(repository)))
        wanted = as_stable(repository, versions, model, keeps_previous=keeps_previous)
        wish_for_each(repository, wanted, model, "" if without else to)
        repository.publish(now())
        delivery = Delivery(targets_of(repository, devices, model), timeout_s, waits_for_offline)
        return deliver_and_report(session, repository, watch, delivery, plans)


def _refuse_what_does_not_serve(versions: Mapping[str, int], model: str, view: FleetView) -> None:
    """Do nothing when every canary serves.

    Raises:
        UsageError: One does not, or has not said so.
    """
    silent = [device for device, version in versions.items() if not _serves(view, device, model, version)]
    if silent:
        others = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        raise UsageError(
            f"the canary {versions[silent[0]]} of {model!r} does not serve on {silent[0]}{others}, as far as is known; "
            f"see `edgeferry status {model}`, or promote with --force"
        )


def _serves(view: FleetView, device: str, model: str, version: int) -> bool:
    state = view.get(device).state
    reported = state.models.get(model) if state else None
    canary = reported.of(CANARY) if reported else None
    return bool(reported and canary and not canary.quarantined and reported.labels.get(CANARY) == version)
