"""`edgeferry verify`: whether an artifact can be made again, byte for byte."""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeferry.converter.child import MAX_DEADLINE_S
from edgeferry.converter.errors import ConverterError

if TYPE_CHECKING:
    from edgeferry.converter.verify import Verification

__all__ = ["verify"]

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("artifact", type=_PATH)
@click.option("--model", type=_PATH, help="The source model; by default where it was.")
@click.option("--calibration", type=_PATH, help="The calibration samples; by default where they were.")
@click.option("--evaluation", type=_PATH, help="The evaluation samples; by default where they were.")
@click.option("--preprocessing", type=_PATH, help="The preprocessing file; by default where it was.")
@click.option("--labels", type=_PATH, help="The file with the names of the classes; by default where it was.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, MAX_DEADLINE_S),
    default=3600,
    show_default=True,
    help="Seconds that one step may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(*, artifact: Path, timeout_s: float, as_json: bool, **given: Path | None) -> None:
    """Make the model of ARTIFACT again from its inputs, without the cache, and compare it byte for byte.

    ARTIFACT is DIR/NAME/N/PROFILE, or DIR/NAME/N for all profiles.

    Example: edgeferry verify build/digits/1/raspberry-pi-4 --model digits.keras
    """
    from edgeferry.converter.cache import Cache  # noqa: PLC0415 - `edgeferry --help` shall be quick
    from edgeferry.converter.progress import face_for  # noqa: PLC0415
    from edgeferry.converter.stages import Stages  # noqa: PLC0415
    from edgeferry.converter.verify import artifacts_in  # noqa: PLC0415
    from edgeferry.converter.verify import verify as run  # noqa: PLC0415

    inputs = {role: path for role, path in given.items() if path is not None}
    try:
        # A new cache, so that profiles share what they have in common and nothing is taken from before.
        with face_for(sys.stderr) as face, tempfile.TemporaryDirectory(prefix="edgeferry-verify-") as folder:
            stages = Stages(Cache(Path(folder)), face.watch)
            done = [
                run(one, inputs, stages=stages, say=face.say, deadline_s=timeout_s) for one in artifacts_in(artifact)
            ]
    except ConverterError as err:
        click.echo(f"edgeferry: {err}", err=True)
        sys.exit(err.exit_code)
    if as_json:
        click.echo(json.dumps([_as_data(one) for one in done], indent=1))
    else:
        for one in done:
            click.echo(_sentence(one))
    sys.exit(0 if all(one.is_equal for one in done) else 1)


def _sentence(done: "Verification") -> str:
    if not done.is_equal:
        return f"{done.folder}: differs: {done.reason}"
    tools = ", ".join(map(str, done.changed_tools))
    return f"{done.folder}: the same, byte for byte" + (f", although other tools made it ({tools})" if tools else "")


def _as_data(done: "Verification") -> dict[str, object]:
    return {
        "path": str(done.folder),
        "equal": done.is_equal,
        "sha256": done.wanted_sha256,
        "made_sha256": done.found_sha256,
        "reason": done.reason,
        "steps": [{"what": step.what, "equal": step.is_equal} for step in done.steps],
        "changed_tools": {tool.name: {"then": tool.then, "now": tool.now} for tool in done.changed_tools},
    }
