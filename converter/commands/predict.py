"""``edgeferry predict``: samples through a model of any format, on this machine."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeferry.converter.child import MAX_DEADLINE_S
from edgeferry.converter.commands.ending import explained_errors
from edgeferry.converter.errors import ConverterError, RequestError

if TYPE_CHECKING:
    from edgeferry.converter.answers import OutputSummary
    from edgeferry.converter.prediction import Prediction

__all__ = ["predict"]

_FILE = click.Path(path_type=Path)


@click.command(short_help="Run samples through a model on this machine.")
@click.argument("path", type=_FILE)
@click.option(
    "--input", "inputs", type=_FILE, required=True, metavar="X", help="Samples: .npy, .npz by input, or real data."
)
@click.option(
    "--preprocessing", type=_FILE, metavar="FILE.yaml", help="How real data becomes inputs; as the model says itself."
)
@click.option("--output", type=_FILE, metavar="Y.npz", help="Where the outputs go; .npy for a single one.")
@click.option("--signature", metavar="KEY", help="Of a SavedModel or .tflite; the serving one, or the only one.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, MAX_DEADLINE_S),
    default=3600,
    show_default=True,
    help="Seconds that it may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def predict(
    *,
    path: Path,
    inputs: Path,
    preprocessing: Path | None,
    output: Path | None,
    signature: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Run the samples in X through the model at PATH, of any format that can be converted, or an artifact folder.

    Real values are quantized where the model is, and its outputs come back as real values.

    Example: edgeferry predict artifacts/digits/1/raspberry-pi-4 --input test.npz --output y.npz
    """
    from edgeferry.converter.prediction import predict as run  # noqa: PLC0415 - `edgeferry --help` shall be quick

    with explained_errors():
        if output is not None:
            _check_output(output)
        prediction = run(path, inputs, deadline_s=timeout_s, signature=signature, preprocessing=preprocessing)
        if output is not None:
            _write(output, prediction.outputs)
    _show(path, prediction, output, as_json=as_json)


def _check_output(path: Path) -> None:
    if path.suffix not in (".npy", ".npz"):
        raise RequestError(f"{path}: ends in {path.suffix or 'nothing'!r}; wanted .npz, or .npy for a single output")
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise RequestError(f"{path}: cannot be written; choose a file in a folder that is there and yours to write to")


def _write(path: Path, outputs: Mapping[str, Any]) -> None:
    """Put a whole file in the place of ``path``, or leave what is there."""
    import numpy as np  # noqa: PLC0415 - `edgeferry --help` shall be quick

    if path.suffix == ".npy" and len(outputs) > 1:
        raise RequestError(f"{path}: holds one array, the model's outputs are {', '.join(outputs)}; name a .npz file")
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            if path.suffix == ".npz":
                np.savez(file, **outputs)
            else:
                np.save(file, next(iter(outputs.values())))
        beside.replace(path)
    except OSError as err:
        raise ConverterError(f"{path}: cannot be written: {err.strerror}") from err
    finally:
        beside.unlink(missing_ok=True)


def _show(path: Path, prediction: "Prediction", output: Path | None, *, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415 - see above

    from edgeferry.converter.answers import right_share, summarize  # noqa: PLC0415
    from edgeferry.converter.inspection.page import printable  # noqa: PLC0415

    if prediction.doubt:
        click.echo(f"{prediction.doubt}; its labels are left out", err=True)
    summaries = [summarize(name, array, prediction.labels) for name, array in prediction.outputs.items()]
    shares = {name: right_share(array, prediction.truth) for name, array in prediction.outputs.items()}
    right = {name: share for name, share in shares.items() if share is not None}
    if as_json:
        told = {
            "path": str(path),
            "model": prediction.model,
            "samples": prediction.samples,
            "latency_ms": prediction.latency_ms,
            "outputs": msgspec.to_builtins(summaries),
            "right": right,
            "output": str(output) if output else None,
        }
        click.echo(json.dumps(told, indent=1))
        return
    for summary in summaries:
        _print(summary, prediction.samples)
    for name, share in right.items():
        click.echo(f"{name}: {share:.2%} of {prediction.samples} are the class that y says")
    whose = f" through {printable(prediction.model)}" if prediction.model else ""
    click.echo(f"{prediction.samples} samples{whose}, {prediction.latency_ms:.3g} ms each on this machine (median)")
    if output is not None:
        click.echo(f"outputs written to {output}", err=True)


def _print(summary: "OutputSummary", samples: int) -> None:
    from edgeferry.converter.inspection.page import printable  # noqa: PLC0415 - see above

    shape = ", ".join(map(str, summary.shape))
    values = (
        "no finite value"
        if summary.least is None
        else f"{summary.least:.4g} to {summary.greatest:.4g}, mean {summary.mean:.4g}"
    )
    bad = f", {summary.not_finite} NaN or infinite" if summary.not_finite else ""
    click.echo(printable(f"{summary.name}: {summary.type}[{shape}], {values}{bad}"))
    if summary.best:
        click.echo("  sample  best classes")
    for at, best in enumerate(summary.best):
        click.echo(f"  {at:>6}  " + printable("  ".join(f"{answer.name} ({answer.score:.3g})" for answer in best)))
    if summary.best and samples > len(summary.best):
        click.echo(f"  and {samples - len(summary.best)} more samples; --output writes all")
