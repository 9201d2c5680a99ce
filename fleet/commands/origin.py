"""`edgeferry origin`: blocks for whoever asks, for as long as it runs."""

import re
import signal
import socket
from datetime import timedelta
from threading import Event

import click

from edgeferry.fleet.blockserver import OriginSettings
from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.options import FiniteRange
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now, now_s, signs, usage_checked
from edgeferry.fleet.telling import warn_of_expiry
from edgeferry.fleet.watch import FleetWatch
from edgeferry.wire.topics import check_id

__all__ = ["origin"]

_LIFETIME = timedelta(days=7)  # short, because somebody is always here to renew
_LOOK_S = 1.0
_RENEW_EVERY_S = 3600.0


@click.command()
@click.option("--id", "origin_id", metavar="ID", help="Name of this origin; by default after this machine.")
@click.option("--rate", "rate_mb_s", type=FiniteRange(min=0), default=0.0, help="Limit in MB/s; 0 for none.")
@fleet_command
@signs
def origin(session: Session, origin_id: str | None, rate_mb_s: float) -> None:
    """Serve models to devices and keep the fleet's signed metadata fresh, until it is interrupted.

    Example: edgeferry origin --rate 5
    """
    repository = session.repository()
    with usage_checked():
        name = check_id(origin_id or _after_this_machine(), what="origin")
    settings = OriginSettings(name, rate_bytes_s=rate_mb_s * 1e6, is_lasting=True)
    stop = _stop_at_a_signal()
    with session.watch() as watch, session.server(repository, settings) as server:
        if session.as_json:
            print_json({"origin": name, "broker": str(session.url())})
        else:
            click.echo(f"origin {name} serves generation {repository.generation} at {session.url()}")
            hint("press Ctrl-C to stop it")
        repository.reload()  # another command may have published while we connected; what is older confuses readers
        repository.renew(now(), lifetime=_LIFETIME)
        warn_of_expiry(repository, now())
        watch.say(repository.roots(), repository.timestamp())
        renewed_at_s = now_s()
        while server.is_serving and not stop.wait(_LOOK_S):
            is_due = now_s() - renewed_at_s >= _RENEW_EVERY_S
            _keep_fresh(repository, watch, renew=is_due)
            renewed_at_s = now_s() if is_due else renewed_at_s
    if not stop.is_set():
        raise FleetError(f"origin {name} has stopped serving; its log says why")


def _keep_fresh(repository: Repository, watch: FleetWatch, *, renew: bool) -> None:
    """Say what another command has published, and with ``renew`` sign anew what has lived half of its life."""
    changed = repository.reload()
    if renew:
        changed |= _renew(repository)
    if changed:
        watch.say(repository.roots(), repository.timestamp())


def _renew(repository: Repository) -> bool:
    """Return whether anything was signed; what cannot be is told and tried again an hour later: blobs are served on."""
    try:
        warn_of_expiry(repository, now())
        return repository.renew(now(), lifetime=_LIFETIME)
    except FleetError as err:
        hint(f"metadata not renewed: {err}")
        return False


def _stop_at_a_signal() -> Event:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _after_this_machine() -> str:
    return f"origin-{re.sub(r'[^A-Za-z0-9_-]', '-', socket.gethostname())}"[:64]
