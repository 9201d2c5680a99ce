"""`edgeferry bundle`: what a device needs to install the agent without the internet."""

from dataclasses import asdict
from pathlib import Path

import click

from edgeferry.fleet.bundle.making import make_bundle, pythons_of
from edgeferry.fleet.rendering import hint, human_bytes, print_json
from edgeferry.fleet.session import profile_named

__all__ = ["bundle"]


@click.command()
@click.option(
    "--for", "profile_name", required=True, metavar="PROFILE", help="Kind of device; see `edgeferry profiles`."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--python", "pythons", multiple=True, metavar="VERSION", help="Of the device; by default 3.11 and 3.13.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def bundle(profile_name: str, output: Path, pythons: tuple[str, ...], *, as_json: bool) -> None:
    """Write a folder that installs the agent on a device, with all that it needs, without the internet.

    Example: edgeferry bundle --for raspberry-pi-4 -o pi-bundle
    """
    profile = profile_named(profile_name)
    made = make_bundle(output, profile, pythons_of(profile, pythons), hint)
    if as_json:
        print_json({**asdict(made), "path": str(made.path)})
        return
    click.echo(f"{made.path}: {human_bytes(made.size_bytes)} for {made.machine}, Python {', '.join(made.pythons)}")
    hint("copy it to the device, and there: sudo sh install.sh --token-file FILE")
