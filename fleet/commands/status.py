"""`edgeferry status`: wanted and running."""

from collections.abc import Sequence

import click

from edgeferry.fleet.errors import EXIT_DONE, EXIT_FAILED
from edgeferry.fleet.rendering import print_json, print_table
from edgeferry.fleet.session import Session, fleet_command, now_s
from edgeferry.fleet.status import ModelStatus, statuses_of
from edgeferry.wire.desired import STABLE

__all__ = ["status"]

_LABEL_COLUMNS = ("label", "requests", "errors", "p50", "p95")


@click.command()
@click.argument("model")
@fleet_command
def status(session: Session, model: str) -> int:
    """Show which version of MODEL each device should run, which it runs, and why they differ.

    Where a canary is out, it has a line of its own, with errors and latency beside those of the stable version. Ends
    with 1 when a device does not run what is wanted.

    Example: edgeferry status digits
    """
    repository = session.repository()
    repository.manifests(model, max(repository.versions(model), default=0))  # an unknown name is told before all else
    with session.watch() as watch:
        view = watch.collect()
    found = [
        one
        for device in repository.inventory.devices.values()
        for one in statuses_of(
            model,
            device.profile,
            repository.wishes_of(device.id),
            view.get(device.id),
            generation=repository.generation,
            now=now_s(),
        )
    ]
    if session.as_json:
        print_json([{**_as_dict(one), "agrees": one.agrees} for one in found])
    else:
        print_table(*_table(found))
    return EXIT_DONE if all(one.agrees for one in found) else EXIT_FAILED


def _table(found: Sequence[ModelStatus]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the table's columns and rows; those of labels only where there is another label than ``stable``."""
    has_labels = any(one.label != STABLE for one in found)
    columns = ("device", "profile", "is", *(_LABEL_COLUMNS if has_labels else ()), "wanted", "running", "scheme", "why")
    rows = [
        (
            *(one.device, one.profile, one.liveness),
            *(_label_cells(one) if has_labels else ()),
            *(_version(one.wanted), _version(one.running), one.scheme, one.why),
        )
        for one in found
    ]
    return columns, rows


def _label_cells(one: ModelStatus) -> tuple[str, ...]:
    figures, share = one.figures, one.error_share
    return (
        f"{one.label} {one.percent}%" if one.percent else one.label,
        str(figures.total) if figures else "-",
        "-" if share is None else f"{share:.1%}",
        f"{figures.p50_ms:.1f} ms" if figures and figures.p50_ms is not None else "-",
        f"{figures.p95_ms:.1f} ms" if figures and figures.p95_ms is not None else "-",
    )


def _version(version: int) -> str:
    return str(version) if version else "-"


def _as_dict(status: ModelStatus) -> dict[str, object]:
    return {name: getattr(status, name) for name in status.__slots__}
