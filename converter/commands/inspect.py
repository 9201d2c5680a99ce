"""``edgeferry inspect``: what is inside a model, and what of it a device could not run."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeferry.converter.child import MAX_DEADLINE_S
from edgeferry.converter.commands.ending import explained_errors
from edgeferry.converter.errors import RequestError

if TYPE_CHECKING:
    from edgeferry.converter.checking import Check
    from edgeferry.converter.inspection.facts import Inspection

__all__ = ["inspect"]


@click.command(short_help="Tell what is inside a model, without running it.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--tree", "as_tree", is_flag=True, help="Show layers or operations as a tree.")
@click.option("--check", "profile", metavar="PROFILE", help="Name every operation that this kind of device cannot run.")
@click.option("--signature", metavar="KEY", help="Only this signature; all of them unless given.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, MAX_DEADLINE_S),
    default=600,
    show_default=True,
    help="Seconds that it may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(
    *, path: Path, as_tree: bool, profile: str | None, signature: str | None, timeout_s: float, as_json: bool
) -> None:
    """Tell what is inside the model at PATH: a SavedModel, a .keras, .h5 or .tflite file, or an artifact folder.

    With --check, exit code 1 says that the device could not run it as it is.

    Example: edgeferry inspect artifacts/digits/1/raspberry-pi-4 --check raspberry-pi-32bit
    """
    from edgeferry.converter.inspection import inspect_model  # noqa: PLC0415 - `edgeferry --help` shall be quick
    from edgeferry.converter.inspection.layout import check_signature  # noqa: PLC0415

    with explained_errors():
        wanted = _profile(profile)
        inspection = inspect_model(path, deadline_s=timeout_s)
        check_signature(inspection, signature)
        check = _check(inspection, path, wanted, signature, timeout_s)
    if as_json:
        _print_json(inspection, check)
    else:
        _print(inspection, check, signature, as_tree=as_tree)
    if check is not None and check.problems:
        sys.exit(1)


def _profile(name: str | None) -> Any:
    from edgeferry.device_profiles import ProfileError, load_profile  # noqa: PLC0415 - see above

    if name is None:
        return None
    try:
        return load_profile(name)
    except ProfileError as err:
        raise RequestError(str(err)) from err


def _check(
    inspection: "Inspection", path: Path, profile: Any, signature: str | None, timeout_s: float
) -> "Check | None":
    from edgeferry.converter.checking import check_model  # noqa: PLC0415 - see above

    if profile is None:
        return None
    return check_model(inspection, path, profile, signature=signature, deadline_s=timeout_s, say=_say)


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def _print_json(inspection: "Inspection", check: "Check | None") -> None:
    import msgspec  # noqa: PLC0415 - see above

    told = msgspec.to_builtins(inspection)
    if check is not None:
        told["check"] = msgspec.to_builtins(check)
    click.echo(json.dumps(told, indent=1))


def _print(inspection: "Inspection", check: "Check | None", signature: str | None, *, as_tree: bool) -> None:
    from edgeferry.converter.inspection.face import print_page, print_tree  # noqa: PLC0415 - see above
    from edgeferry.converter.inspection.layout import page_of, title_of, tree_of  # noqa: PLC0415
    from edgeferry.converter.inspection.page import counted, printable  # noqa: PLC0415

    if as_tree:
        print_tree(title_of(inspection), tree_of(inspection, signature))
    elif check is None:
        print_page(page_of(inspection, signature))
    if check is None:
        return
    for problem in check.problems:
        places = ", ".join(check.places[problem.operation])
        click.echo(printable(f"{problem}" + (f" (at {places})" if places else "")))
    verdict = "cannot run" if check.problems else "can run"
    found = f"{counted(check.operations, 'operation')}, {counted(len(check.problems), 'problem')}"
    click.echo(f"{check.profile} {verdict} {inspection.path}: {found}")
