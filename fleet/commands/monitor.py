"""`edgeferry monitor`: the fleet, live."""

import sys

import click
from rich.console import Console
from rich.live import Live

from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.monitor.faces import MONITOR_COLUMNS, monitor_rows, view_summary
from edgeferry.fleet.monitor.view import Liveness
from edgeferry.fleet.rendering import print_json, print_table, table
from edgeferry.fleet.session import Session, fleet_command, now_s
from edgeferry.fleet.watch import FleetWatch

__all__ = ["monitor"]

_REFRESH_S = 0.5
_TELEMETRY_PATIENCE_S = 12.0  # devices say it every 10 s, and not every broker keeps it for us


@click.command()
@click.option("--once", is_flag=True, help="Wait for what every device that is online says, show it once, and end.")
@fleet_command
def monitor(session: Session, once: bool) -> None:
    """Watch the fleet: telemetry, models and what they do, until it is interrupted.

    Example: edgeferry monitor --once --json
    """
    if not once and (session.as_json or not sys.stdout.isatty()):
        raise UsageError("monitor without --once is a live table and needs a terminal; add --once for a single look")
    with session.watch() as watch:
        watch.collect()
        if once:
            _await_telemetry(watch)
        if session.as_json:
            print_json(view_summary(watch.view, now_s()))
        elif once:
            print_table(MONITOR_COLUMNS, monitor_rows(watch.view, now_s()))
        else:
            _watch_live(watch)


def _await_telemetry(watch: FleetWatch) -> None:
    """Wait until every device that is online has said how it is, for one interval at most."""
    until = now_s() + _TELEMETRY_PATIENCE_S
    while (left_s := until - now_s()) > 0 and any(
        view.telemetry is None and view.liveness(now_s()) is Liveness.ONLINE for view in watch.view.devices.values()
    ):
        watch.follow(left_s)


def _watch_live(watch: FleetWatch) -> None:
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            until = now_s() + _REFRESH_S
            while (left_s := until - now_s()) > 0:
                watch.follow(left_s)
            rows = monitor_rows(watch.view, now_s())
            live.update(table(f"{len(rows)} devices; Ctrl-C ends", MONITOR_COLUMNS, rows), refresh=True)
