"""`edgeferry infer`: samples through a model on a device."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.infer import GROUP, InferenceReport, InferenceRun, refuse_what_is_too_large, requests_from
from edgeferry.fleet.monitor.view import DeviceView, Liveness
from edgeferry.fleet.options import FiniteRange
from edgeferry.fleet.outputs import check_can_write, check_holds, write_outputs
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now_s
from edgeferry.fleet.watch import FleetWatch
from edgeferry.wire.desired import STABLE, ArtifactManifest
from edgeferry.wire.tensors import TensorBytes

__all__ = ["infer"]


@click.command()
@click.argument("device")
@click.argument("model")
@click.option(
    "--input",
    "input_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="X.npy",
    help="Samples along the first axis.",
)
@click.option(
    "--output",
    "output_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="Y.npy",
    help="Where the output goes; .npz for several.",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Requests on their way.")
@click.option(
    "--timeout",
    "timeout_s",
    type=FiniteRange(min=0.1, max=3600),
    default=10.0,
    show_default=True,
    help="Seconds that one answer may take.",
)
@fleet_command
def infer(
    session: Session,
    *,
    device: str,
    model: str,
    input_file: Path,
    output_file: Path | None,
    concurrency: int,
    timeout_s: float,
) -> None:
    """Run the samples in X.npy through MODEL on DEVICE, over MQTT, and say how long it took.

    DEVICE may be group:NAME: each sample then goes to whichever device of the group the broker gives it to.

    Example: edgeferry infer pi-kitchen digits --input x.npy --output y.npy --concurrency 8
    """
    repository = session.repository()
    is_group, inventory = device.startswith(GROUP), repository.inventory
    addressed = inventory.select(device) if is_group else [inventory.device(device)]
    if output_file:
        check_can_write(output_file)
    x = _read_array(input_file)
    with session.watch() as watch:
        _refuse_a_group_without_mqtt_5(device, watch)
        fleet = watch.collect(*([] if is_group else [device]))
        view, manifest = _answering(repository, [fleet.get(one.id) for one in addressed], model)
        if output_file:
            check_holds(output_file, [spec.name for spec in manifest.outputs])
        tensors = _requests(x, manifest, input_file)
        refuse_what_is_too_large(tensors[0], view.info.max_packet_bytes if view.info else 0)
        run = InferenceRun(
            watch.operator, session.topics(), device, model, timeout_s=timeout_s, concurrency=concurrency
        )
        with _progress(len(tensors), f"{model} on {device}") as show:
            report = run.run(tensors, show)
    outputs = report.outputs()
    if output_file:
        write_outputs(output_file, outputs)
        hint(f"outputs written to {output_file}")
    _print(session, report, manifest)


@contextmanager
def _progress(requests: int, label: str) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many requests are done; at a terminal only."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task(label, total=requests)
        yield lambda done: bars.update(task, completed=done)


def _read_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as err:
        raise UsageError(f"{path}: is not a .npy file of numbers: {err}") from err
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{path}: holds several arrays, wanted one; save it with numpy.save")
    return array


def _requests(x: np.ndarray, manifest: ArtifactManifest, path: Path) -> list[TensorBytes]:
    try:
        return requests_from(x, manifest.inputs[0])
    except UsageError as err:
        raise UsageError(f"{path}: {err}") from err


def _refuse_a_group_without_mqtt_5(device: str, watch: FleetWatch) -> None:
    if device.startswith(GROUP) and not watch.operator.speaks_mqtt5:
        raise UsageError("a group is asked over MQTT 5, which this broker refused; ask one of its devices")


def _answering(repository: Repository, views: Sequence[DeviceView], model: str) -> tuple[DeviceView, ArtifactManifest]:
    """Return the first device that answers for the model, and the manifest of its version.

    Raises:
        UsageError: None does; the sentence is that of the first.
    """
    refusals: list[UsageError] = []
    for view in views:
        try:
            return view, _manifest(repository, view, model)
        except UsageError as err:
            refusals.append(err)
    raise refusals[0] if refusals else UsageError("no device is addressed; see `edgeferry devices`")


def _manifest(repository: Repository, view: DeviceView, model: str) -> ArtifactManifest:
    """Return the manifest of the version that answers on the device."""
    if view.liveness(now_s()) in (Liveness.OFFLINE, Liveness.UNKNOWN):
        raise UsageError(f"{view.id} is {view.liveness(now_s())}; see `edgeferry devices`")
    device = repository.inventory.device(view.id)
    reported = view.state.models.get(model) if view.state else None
    version = reported.labels.get(STABLE, 0) if reported else 0
    if not version:
        running = ", ".join(sorted(view.state.models)) if view.state else ""
        raise UsageError(f"{view.id} does not run {model!r}; it runs {running or 'nothing'}")
    manifest = repository.manifests(model, version)[device.profile]
    if len(manifest.inputs) != 1:
        names = ", ".join(spec.name for spec in manifest.inputs)
        raise UsageError(f"{model} has the inputs {names}; infer sends one. Use the device's REST endpoint")
    return manifest


def _print(session: Session, report: InferenceReport, manifest: ArtifactManifest) -> None:
    if session.as_json:
        print_json(
            {
                "model": manifest.name,
                "versions": sorted(report.versions),
                "samples": report.samples,
                "elapsed_s": report.elapsed_s,
                "per_s": report.per_s,
                "p50_ms": report.latency_ms(0.50),
                "p95_ms": report.latency_ms(0.95),
                "outputs": {name: list(output.shape) for name, output in report.outputs().items()},
            }
        )
        return
    click.echo(
        f"{manifest.name} {', '.join(sorted(report.versions))}: {report.samples} answers in {report.elapsed_s:.2f} s, "
        f"{report.per_s:.0f}/s; round trip p50 {report.latency_ms(0.50):.1f} ms, p95 {report.latency_ms(0.95):.1f} ms"
    )
