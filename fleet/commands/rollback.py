"""`edgeferry rollback`: back to an earlier version."""

from collections.abc import Iterable, Sequence

import click

from edgeferry.fleet.commands.push import deliver_and_report, print_plans, with_delivery_options
from edgeferry.fleet.conflicts import newest_roots, refuse_if_behind
from edgeferry.fleet.delivery import Delivery
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.labelling import as_stable, canaries_of, wish_for_each
from edgeferry.fleet.monitor.view import DeviceView, FleetView
from edgeferry.fleet.planning import offer_differences, plans_for, targets_of
from edgeferry.fleet.push import refuse_what_cannot_be
from edgeferry.fleet.rendering import hint
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now, now_s, signs
from edgeferry.wire.desired import CANARY, STABLE

__all__ = ["rollback"]


@click.command()
@click.argument("model")
@click.option(
    "--version", type=click.IntRange(min=1), help="The version to run; by default what each device had before."
)
@with_delivery_options
@fleet_command
@signs
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

    Where a canary is out, it is taken back, and the version that answers stays. Ends as `push` does: 0 all run it,
    1 one does not, 3 some are offline.

    Example: edgeferry rollback digits --to pi-kitchen
    """
    repository = session.repository()
    repository.manifests(model, version or max(repository.versions(model), default=0))  # an unknown one is told first
    addressed = repository.inventory.select(to)
    canaries = {} if version else canaries_of(repository, addressed, model)
    if not dry_run:
        repository.open_keys()
    with session.watch() as watch:
        view = watch.collect()
        if canaries:
            versions = _stable_of(repository, canaries, model)
        elif version:
            versions = {device.id: version for device in addressed}
        else:
            versions = _versions_before(repository, addressed, model, view)
        devices = [device for device in addressed if device.id in versions]
        offer_differences(repository, devices, versions=versions, model=model, view=view, tell=hint)
        plans = plans_for(repository, devices, versions=versions, model=model, view=view, now=now_s())
        if dry_run:
            return print_plans(session, plans)
        refuse_what_cannot_be(plans)
        refuse_if_behind(repository, watch.hear(newest_roots(repository)))
        if canaries:
            hint(f"taken back: the canary of {model!r} on {', '.join(canaries)}; the version that answers stays")
        wanted = as_stable(repository, versions, model)
        wish_for_each(repository, wanted, model, to if len(devices) == len(addressed) else "")
        repository.publish(now())
        targets = targets_of(repository, devices, model, CANARY if canaries else STABLE)
        delivery = Delivery(targets, timeout_s, waits_for_offline)
        return deliver_and_report(session, repository, watch, delivery, plans)


def _stable_of(repository: Repository, devices: Iterable[str], model: str) -> dict[str, int]:
    return {device: repository.wishes_of(device)[model].labels[STABLE] for device in devices}


def _versions_before(repository: Repository, devices: Sequence[Device], model: str, view: FleetView) -> dict[str, int]:
    """Return what each device had before; those that had nothing are told and left out.

    Raises:
        UsageError: None had anything.
    """
    known = repository.versions(model)
    before = {device.id: _previous(view.get(device.id), model) for device in devices}
    versions = {name: version for name, version in before.items() if version in known}
    without = ", ".join(name for name in before if name not in versions)
    if without and not versions:
        raise UsageError(
            f"no version of {model!r} from before was reported by {without}; name one with --version; published: "
            f"{', '.join(map(str, known))}"
        )
    if without:
        hint(f"left as they are, because they reported no version of {model!r} from before: {without}")
    return versions


def _previous(view: DeviceView, model: str) -> int:
    reported = view.state.models.get(model) if view.state else None
    return reported.previous if reported else 0
