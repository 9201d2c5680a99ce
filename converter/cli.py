"""``edgeferry convert``: the converter's command. Imports nothing heavy until it runs."""

import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from edgeferry.converter.child import MAX_DEADLINE_S
from edgeferry.converter.errors import ConverterError, RequestError

if TYPE_CHECKING:
    from edgeferry.converter.pipeline import Conversion
    from edgeferry.converter.request import ConversionRequest
    from edgeferry.device_profiles.measurements import MeasuredLatency

__all__ = ["convert"]

_Kind = TypeVar("_Kind", bound=StrEnum)
_MAX_VERSION = 2**53  # of wire.desired.Version, which is not quick to import
_FILE = click.Path(path_type=Path)


@click.command(short_help="Convert a model for one or more kinds of devices.")
@click.argument("model", type=_FILE)
@click.option("-p", "--profile", "profiles", multiple=True, required=True, help="Kind of device; may be repeated.")
@click.option("--name", required=True, help="Name of the model on the devices.")
@click.option(
    "--model-version", type=click.IntRange(1, _MAX_VERSION), help="Version; the next one in DIR/NAME unless given."
)
@click.option("--calibration", type=_FILE, help="Real samples; int8 learns its ranges from them.")
@click.option("--evaluation", type=_FILE, help="Held-out samples; those of --calibration unless given.")
@click.option(
    "--max-drop", type=float, default=0.01, show_default=True, help="Greatest allowed loss, with 95 % confidence."
)
@click.option("--metric", help="What candidates are judged by; what suits labels and outputs unless given.")
@click.option("--scheme", "schemes", multiple=True, help="Try only this scheme of a profile's list; may be repeated.")
@click.option("--objective", help="order (the profile's, as it is), accuracy, size, latency or pareto.")
@click.option("--engine", help="What quantizes: litert (as it is), or tensorflow, from the source model.")
@click.option("--io", help="Inputs and outputs of integer models: own (as it is), uint8 or float32.")
@click.option("--signature", help="Of a SavedModel; its serving signature, or the only one, unless given.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="[INPUT=]1,D,...", help="What the open dimensions of an input are."
)
@click.option(
    "--repair/--no-repair",
    "repairs",
    default=True,
    show_default=True,
    help="Repair a scheme that loses too much before a later one is taken.",
)
@click.option("--allow-training", "trains", is_flag=True, help="Train a Keras model where repairs do not do.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, MAX_DEADLINE_S),
    default=3600,
    show_default=True,
    help="Seconds that one step may take.",
)
@click.option("-o", "--output", type=_FILE, required=True, help="Folder for NAME/VERSION/PROFILE.")
@click.option("--labels", type=_FILE, help="Text file with the names of the classes, one a line.")
@click.option(
    "--preprocessing", type=_FILE, metavar="FILE.yaml", help="How pictures, sound or tables become the model's input."
)
@click.option(
    "--keep-rejected", "keeps_rejected", is_flag=True, help="Keep the candidates where none fits, to look into them."
)
@click.option("--no-cache", is_flag=True, help="Do all work anew, and keep nothing for the next time.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(*, as_json: bool, **options: Any) -> None:
    """Convert MODEL (.keras, .h5, .tflite, SavedModel) to the first of each profile's schemes that keeps its budgets.

    Example: edgeferry convert digits.keras -p raspberry-pi-4 --name digits --calibration train.npz --evaluation
    test.npz -o artifacts
    """
    from edgeferry.converter.cache import Cache, default_folder  # noqa: PLC0415 - `edgeferry --help` shall be quick
    from edgeferry.converter.pipeline import RejectedError  # noqa: PLC0415
    from edgeferry.converter.pipeline import convert as run  # noqa: PLC0415
    from edgeferry.converter.progress import face_for  # noqa: PLC0415
    from edgeferry.converter.stages import Stages  # noqa: PLC0415

    try:
        with _terminated_like_interrupted(), face_for(sys.stderr) as face:
            stages = Stages(None if options["no_cache"] else Cache(default_folder(os.environ)), face.watch)
            conversion = run(_request(options), face.say, stages)
            stages.prune()
    except RejectedError as err:
        _show(err.conversion, as_json=as_json, is_written=False)
        _fail(err)
    except ConverterError as err:
        _fail(err)
    _show(conversion, as_json=as_json, is_written=True)


def _request(options: dict[str, Any]) -> "ConversionRequest":
    from edgeferry.converter.metrics import Metric  # noqa: PLC0415
    from edgeferry.converter.objective import Objective  # noqa: PLC0415
    from edgeferry.converter.request import ConversionRequest  # noqa: PLC0415
    from edgeferry.converter.schemes import Engine, Io  # noqa: PLC0415
    from edgeferry.device_profiles import ProfileError, Scheme, load_profile  # noqa: PLC0415

    try:
        profiles = tuple(load_profile(name) for name in options["profiles"])
    except ProfileError as err:
        raise RequestError(str(err)) from err
    return ConversionRequest(
        model=options["model"],
        name=options["name"],
        profiles=profiles,
        output=options["output"],
        calibration=options["calibration"],
        evaluation=options["evaluation"],
        version=options["model_version"],
        max_drop=options["max_drop"],
        schemes=tuple(scheme for name in options["schemes"] if (scheme := _named(Scheme, name, "--scheme"))),
        deadline_s=options["timeout_s"],
        metric=_named(Metric, options["metric"], "--metric"),
        objective=_named(Objective, options["objective"], "--objective") or Objective.ORDER,
        engine=_named(Engine, options["engine"], "--engine") or Engine.LITERT,
        io=_named(Io, options["io"], "--io") or Io.OWN,
        signature=options["signature"],
        shapes=dict(_shape(text) for text in options["shapes"]),
        repairs=options["repairs"],
        trains=options["trains"],
        labels=options["labels"],
        preprocessing=options["preprocessing"],
        keeps_rejected=options["keeps_rejected"],
        measurements=_measurements(),
    )


def _measurements() -> "tuple[MeasuredLatency, ...]":
    from edgeferry.device_profiles.measurements import MeasurementsError, default_path, read  # noqa: PLC0415

    try:
        return read(default_path(os.environ))
    except MeasurementsError as err:
        raise RequestError(str(err)) from err


def _named(kind: type[_Kind], name: str | None, option: str) -> _Kind | None:
    """Return the member of ``kind`` that an option names, or None where it was not given."""
    if name is not None and name not in list(kind):
        raise RequestError(f"{option} {name!r} is not known; wanted one of {', '.join(kind)}")
    return None if name is None else kind(name)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the input's name, empty where there is none, and the shape that an option spells."""
    name, _, sizes = text.rpartition("=")
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9}){0,31}", sizes):
        raise RequestError(f"--shape {text!r}: wanted whole numbers, such as 1,224,224,3 or image=1,224,224,3")
    return name, tuple(int(size) for size in sizes.split(","))


def _fail(err: ConverterError) -> NoReturn:
    click.echo(f"edgeferry: {err.line}", err=True)
    sys.exit(err.exit_code)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that children end and temporary folders go."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python's rule for signal handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(conversion: "Conversion", *, as_json: bool, is_written: bool) -> None:
    from edgeferry.converter.report import verdict_row  # noqa: PLC0415 - see above
    from edgeferry.converter.table import headings, rows, text_table  # noqa: PLC0415

    if not conversion.is_held_out:
        _say("judged by the samples of --calibration, which flatters int8; give held-out ones with --evaluation")
    if as_json:
        summary = {
            "name": conversion.name,
            "version": conversion.version,
            "path": str(conversion.folder) if is_written else None,
            "held_out": conversion.is_held_out,
            "profiles": [
                {
                    "profile": choice.profile,
                    "scheme": choice.chosen.scheme if choice.chosen else None,
                    "candidates": [verdict_row(verdict) for verdict in choice.verdicts],
                }
                for choice in conversion.choices
            ],
        }
        click.echo(json.dumps(summary, indent=1))
        return
    click.echo(text_table(headings(conversion.choices), rows(conversion.choices)))
    if is_written:
        click.echo(f"Wrote {conversion.folder}")
