"""`edgeferry push`: a version of a model on its way to devices."""

from collections.abc import Sequence
from pathlib import Path

import click

from edgeferry.fleet.conflicts import newest_roots, refuse_if_behind
from edgeferry.fleet.delivery import Delivery, deliver, raise_unless_done
from edgeferry.fleet.documents import Canary
from edgeferry.fleet.errors import EXIT_DONE, EXIT_FAILED
from edgeferry.fleet.labelling import as_canary, as_stable, wish_for_each
from edgeferry.fleet.options import FiniteRange, Percent
from edgeferry.fleet.planning import offer_differences, plans_for, targets_of
from edgeferry.fleet.push import Plan, Progress, Target, refuse_what_cannot_be
from edgeferry.fleet.rendering import hint, human_bytes, print_json, print_table, push_display
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Command, Session, fleet_command, now, now_s, signs
from edgeferry.fleet.watch import FleetWatch
from edgeferry.wire.desired import CANARY, STABLE

__all__ = ["deliver_and_report", "print_plans", "push", "with_delivery_options", "with_previous_option"]

_DELIVERY_OPTIONS = (
    click.option("--to", default="all", show_default=True, metavar="SCOPE", help="all, group:NAME or a device."),
    click.option(
        "--timeout",
        "timeout_s",
        type=FiniteRange(min=0.1, max=86_400),  # a large model over a slow link takes hours
        default=300.0,
        show_default=True,
        help="Seconds that a device may take.",
    ),
    click.option(
        "--watch", "waits_for_offline", is_flag=True, help="Stay until devices that are offline have got it, too."
    ),
    click.option("--dry-run", is_flag=True, help="Say who would get what, and change nothing."),
)


def with_delivery_options(function: Command) -> Command:
    """Give a command the options of everything that is delivered."""
    for option in reversed(_DELIVERY_OPTIONS):
        function = option(function)
    return function


def with_previous_option(function: Command) -> Command:
    """Give a command the option of what makes another version answer."""
    option = click.option(
        "--keep-previous",
        "keeps_previous",
        is_flag=True,
        help="Keep the version loaded that answered before, so that going back takes no time.",
    )
    return option(function)


@click.command()
@click.argument("artifact", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR/NAME/N")
@with_delivery_options
@click.option(
    "--canary",
    "percent",
    type=Percent(),
    metavar="PERCENT",
    help="Have it answer this share of the requests, such as 10%, beside the version that answers now.",
)
@with_previous_option
@click.option("--retry", is_flag=True, help="Have it tried again where this version has failed before.")
@fleet_command
@signs
def push(
    session: Session,
    artifact: Path,
    *,
    to: str,
    timeout_s: float,
    waits_for_offline: bool,
    dry_run: bool,
    percent: int | None,
    keeps_previous: bool,
    retry: bool,
) -> int:
    """Bring the artifacts in DIR/NAME/N to devices; each takes the one of its own profile.

    Serves the model itself and ends when every device runs it or has said why not: 0 all run it, 1 one does not,
    3 some are offline. A canary becomes the version that answers with `edgeferry promote`, and is taken back with
    `edgeferry rollback`.

    Example: edgeferry push build/digits/7 --to group:kitchens
    """
    repository = session.repository()
    devices = repository.inventory.select(to)
    if not dry_run:
        repository.open_keys()
    manifest = repository.add_artifacts(artifact)[0]
    model, version = manifest.name, manifest.version
    label = STABLE if percent is None else CANARY
    versions = dict.fromkeys((device.id for device in devices), version)
    if percent is None:
        wanted = as_stable(repository, versions, model, keeps_previous=keeps_previous, retry=retry)
    else:
        wanted = as_canary(repository, devices, model, Canary(version, percent), retry=retry)
    with session.watch() as watch:
        view = watch.collect()
        offer_differences(repository, devices, versions=versions, model=model, view=view, tell=hint)
        plans = plans_for(repository, devices, versions=versions, model=model, view=view, now=now_s(), label=label)
        if dry_run:
            return print_plans(session, plans)
        refuse_what_cannot_be(plans)
        refuse_if_behind(repository, watch.hear(newest_roots(repository)))
        wish_for_each(repository, wanted, model, to)
        repository.publish(now())
        delivery = Delivery(targets_of(repository, devices, model, label), timeout_s, waits_for_offline)
        return deliver_and_report(session, repository, watch, delivery, plans)


def print_plans(session: Session, plans: list[Plan]) -> int:
    """Print who would get what; return the exit code: 1 when some cannot take it."""
    if session.as_json:
        print_json(plans)
    else:
        rows = [
            (
                plan.device,
                plan.liveness,
                plan.profile,
                f"{plan.model} {plan.version}",
                plan.scheme or "-",
                human_bytes(plan.moved_bytes),
                human_bytes(plan.saved_bytes) if plan.saved_bytes else "-",
                "yes" if plan.fits else plan.obstacle or plan.doubt,
            )
            for plan in plans
        ]
        print_table(("device", "is", "profile", "artifact", "scheme", "to move", "saved", "fits"), rows)
    return EXIT_FAILED if any(plan.obstacle for plan in plans) else EXIT_DONE


def deliver_and_report(
    session: Session, repository: Repository, watch: FleetWatch, delivery: Delivery, plans: Sequence[Plan]
) -> int:
    """Serve, ring, follow and print; return 0 when every device runs what it was told.

    Raises:
        FleetError: One has failed.
        PendingError: Some are offline.
    """
    display = push_display(quiet=session.as_json)
    try:
        with session.server(repository) as server, display:
            progress = deliver(delivery, repository, watch, server, display.show)
    except KeyboardInterrupt:
        hint(
            "\nThe push is signed and published: devices go on with it as soon as an origin serves. "
            "Keep `edgeferry origin` running, or run the same command again."
        )
        raise
    if session.as_json:
        moved = {plan.device: plan for plan in plans}
        print_json([_result(target, progress[target.device], moved[target.device]) for target in delivery.targets])
    raise_unless_done(progress)
    if not session.as_json:
        word = "active" if all(target.version for target in delivery.targets) else "withdrawn"
        click.echo(f"{word} on {len(progress)} of {len(progress)} devices{_saved(plans, server.sent_bytes)}")
    return EXIT_DONE


def _saved(plans: Sequence[Plan], sent_bytes: int) -> str:
    """Return what differences have saved, by what was sent in fact; nothing where there were none."""
    if not any(plan.saved_bytes for plan in plans):
        return ""
    whole_bytes = sum(plan.whole_bytes for plan in plans)
    return f"; sent {human_bytes(sent_bytes)} where the whole would have been {human_bytes(whole_bytes)}"


def _result(target: Target, progress: Progress, plan: Plan) -> dict[str, object]:
    return {
        "device": target.device,
        "model": target.model,
        "version": target.version,
        "label": target.label,
        "deployment": target.deployment,
        "standing": progress.standing,
        "reason": progress.reason,
        "moved_bytes": plan.moved_bytes,
        "whole_bytes": plan.whole_bytes,
    }
