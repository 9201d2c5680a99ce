"""`edgeferry demo`: the whole way on one machine."""

import os
import platform
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edgeferry.fleet.demo.processes import Household
from edgeferry.fleet.demo.story import MODEL, Story, Summary
from edgeferry.fleet.rendering import print_json
from edgeferry.fleet.session import Session, fleet_command

__all__ = ["demo"]


@click.command()
@click.option("--keep", is_flag=True, help="Leave broker and devices running until Ctrl-C, and say what to try next.")
@fleet_command
def demo(session: Session, *, keep: bool) -> None:
    """Go the whole way on this machine: train, convert, push, pull, prove, infer, refuse, roll back.

    Starts an embedded broker and two devices as processes of their own, in a folder of its own that is removed at the
    end; --broker uses a broker that is already there.

    Example: edgeferry demo --keep
    """
    console = Console(stderr=session.as_json, width=None if os.isatty(1) else 160)
    with _folder() as folder, _interruptible():
        environment = {"EDGEFERRY_FLEET": str(folder / "fleet"), "TF_CPP_MIN_LOG_LEVEL": "2"}
        household = Household(folder, environment)
        story = Story(household, folder, console, broker=session.broker, arch=platform.machine())
        household.environment["EDGEFERRY_BROKER"] = story.broker
        try:
            summary = story.tell()
            _print(session, console, summary)
            if keep:
                _stay(console, folder, story)
        finally:
            household.stop()


def _print(session: Session, console: Console, summary: Summary) -> None:
    if session.as_json:
        print_json(_as_data(summary))
        return
    table = Table(title=f"{MODEL}: float accuracy " + _by_version(summary.float_accuracy, "{:.2%}"))
    for heading in ("device", "profile", "scheme", "size", "accuracy on the device", "round trip p50", "REST"):
        table.add_column(heading)
    for device in summary.devices:
        table.add_row(
            device.id,
            device.profile,
            device.scheme,
            f"{device.size_bytes / 1024:.1f} KiB",
            _by_version(device.accuracy, "{:.2%}"),
            _by_version(device.p50_ms, "{:.1f} ms"),
            device.http,
        )
    console.print(table)
    console.print(f"push to active: {_by_version(summary.push_s, '{:.1f} s')}; v3 refused: {summary.refusal}")
    console.print(f"{summary.compared} answers were compared with LiteRT on this machine: the same labels")
    console.print(f"the whole way took {summary.elapsed_s:.0f} s", style="bold green")


def _by_version(figures: dict[int, float], pattern: str) -> str:
    return ", ".join(f"v{version} {pattern.format(figure)}" for version, figure in sorted(figures.items()))


def _as_data(summary: Summary) -> dict[str, object]:
    return {
        "devices": {
            device.id: {
                "profile": device.profile,
                "scheme": device.scheme,
                "size_bytes": device.size_bytes,
                "accuracy": device.accuracy,
                "p50_ms": device.p50_ms,
            }
            for device in summary.devices
        },
        "float_accuracy": summary.float_accuracy,
        "push_s": summary.push_s,
        "refusal": summary.refusal,
        "compared_with_host": summary.compared,
        "elapsed_s": round(summary.elapsed_s, 1),
    }


def _stay(console: Console, folder: Path, story: Story) -> None:
    """Say what to try and wait for Ctrl-C."""
    device = story.devices[0]
    console.print("\nEverything is still running. In another terminal:", style="bold")
    for line in (
        f"export EDGEFERRY_FLEET={folder / 'fleet'} EDGEFERRY_BROKER={story.broker}",
        "edgeferry monitor",
        f"edgeferry status {MODEL}",
        f"edgeferry push {folder / 'build' / MODEL / '2'} --to {device.id}",
        f"edgeferry infer {device.id} {MODEL} --input {folder / 'digits.npy'} --concurrency 8",
        f"curl -s http://{device.http}/v2/models/{MODEL}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print("Ctrl-C ends it and removes everything.")
    threading.Event().wait()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="edgeferry-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that nothing is left behind."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
