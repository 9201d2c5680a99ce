"""`edgeferry bench`: how fast a model is on a real device."""

import os

import click

from edgeferry.device_profiles.measurements import default_path
from edgeferry.fleet.bench import keep, measured_on, subject_named
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.monitor.view import Liveness
from edgeferry.fleet.options import FiniteRange
from edgeferry.fleet.rendering import hint, human_bytes, print_json, print_table
from edgeferry.fleet.session import Session, fleet_command, now, now_s
from edgeferry.wire.bench import MAX_BENCH_S

__all__ = ["bench"]


@click.command()
@click.argument("device")
@click.argument("artifact")
@click.option(
    "--seconds",
    type=FiniteRange(min=0.1, max=MAX_BENCH_S),
    default=5.0,
    show_default=True,
    help="How long the model is run.",
)
@fleet_command
def bench(session: Session, *, device: str, artifact: str, seconds: float) -> None:
    """Measure ARTIFACT (MODEL, MODEL:VERSION or a folder DIR/NAME/N that was pushed) on DEVICE, and keep the figure.

    The model is run in a process of its own, beside whatever is served; `edgeferry convert` shows the figure for the
    next version.

    Example: edgeferry bench pi-kitchen build/digits/3 --seconds 10
    """
    profile = session.repository().inventory.device(device).profile
    subject = subject_named(artifact, profile)
    path = default_path(os.environ)
    with session.watch() as watch:
        liveness = watch.collect(device).get(device).liveness(now_s())
        if liveness in (Liveness.OFFLINE, Liveness.UNKNOWN):
            raise UsageError(f"{device} is {liveness}; see `edgeferry devices`")
        hint(f"{device} runs {subject.model} for {seconds:g} s")
        measured = measured_on(watch.operator, session.topics(), device, subject, seconds=seconds, now=now())
    keep(measured, path)
    if session.as_json:
        print_json(measured)
        return
    columns = ("model", "scheme", "threads", "runs", "p50", "p95", "memory of the process")
    row = (
        f"{measured.model} {measured.version}",
        measured.scheme,
        str(measured.threads),
        str(measured.runs),
        f"{measured.p50_ms:.2f} ms",
        f"{measured.p95_ms:.2f} ms",
        human_bytes(measured.peak_rss_bytes),
    )
    print_table(columns, [row])
    hint(f"kept in {path}")
