"""`edgeferry-agent install`, `upgrade` and `uninstall`: the agent as a service of this device."""

import os
import subprocess
import sys
from pathlib import Path

import click

from edgeferry import __version__
from edgeferry.agent.commands.token_file import read_token
from edgeferry.agent.errors import ConfigError

__all__ = ["install", "uninstall", "upgrade"]

DEFAULT_HTTP = "127.0.0.1:8501"


@click.command()
@click.option("--token-file", help="File with the token from `edgeferry token`; - for standard input.")
@click.option("--http", default=DEFAULT_HTTP, show_default=True, help="HOST:PORT for REST; empty for none.")
@click.option("--force", is_flag=True, help="Write the configuration anew, and take another device's place.")
def install(token_file: str | None, http: str, *, force: bool) -> None:
    """Run the agent as a service: account, configuration, unit, started now and at every boot.

    Run again, it changes what is different and keeps what is right. Without a token the configuration stays.

    Example: sudo edgeferry-agent install --token-file pi-kitchen.token
    """
    from edgeferry.agent.installation.account import check_root  # noqa: PLC0415 - keeps --help fast
    from edgeferry.agent.installation.environment import environment_from_index  # noqa: PLC0415
    from edgeferry.agent.installation.installing import Wanted  # noqa: PLC0415
    from edgeferry.agent.installation.installing import install as install_it  # noqa: PLC0415
    from edgeferry.agent.installation.places import Places  # noqa: PLC0415
    from edgeferry.agent.installation.service import Service  # noqa: PLC0415

    check_root("edgeferry-agent install")
    places = Places()
    token = read_token(token_file) if token_file else ""
    environment = Path(sys.prefix)
    if environment.parent != places.versions:  # run from somewhere else, where the service could not read it
        environment = environment_from_index(places, __version__)
    install_it(Wanted(environment, token, http, force), places, Service())
    click.echo(f"the agent {__version__} runs; look at it with `sudo edgeferry-agent status`", err=True)


@click.command()
@click.argument("bundle", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--to", "version", help="A version to download, where no BUNDLE is at hand.")
def upgrade(bundle: Path | None, version: str | None) -> None:
    """Put another version in this one's place, and go back to this one when that does not come up.

    Example: sudo edgeferry-agent upgrade ./edgeferry-bundle
    """
    from edgeferry.agent.installation.account import check_root  # noqa: PLC0415 - keeps --help fast
    from edgeferry.agent.installation.environment import environment_from_index  # noqa: PLC0415
    from edgeferry.agent.installation.places import Places  # noqa: PLC0415

    if (bundle is None) == (version is None):
        raise click.UsageError("say either a BUNDLE or --to VERSION")
    check_root("edgeferry-agent upgrade")
    if bundle is not None:
        installer = bundle.absolute() / "install.sh"
        if not installer.exists():
            raise ConfigError(f"{bundle} is no bundle: install.sh is missing; make one with `edgeferry bundle`")
        sys.exit(subprocess.run(["sh", str(installer)], check=False).returncode)
    environment = environment_from_index(Places(), str(version))
    command = str(environment / "bin" / "edgeferry-agent")
    os.execv(command, [command, "install"])  # noqa: S606 - the new version knows how to install itself


@click.command()
@click.option("--purge", is_flag=True, help="Remove configuration, models, state, credentials and account too.")
def uninstall(*, purge: bool) -> None:
    """Stop the agent and remove it from this device; what it knows and serves stays, unless --purge is given.

    Example: sudo edgeferry-agent uninstall --purge
    """
    from edgeferry.agent.installation.account import check_root  # noqa: PLC0415 - keeps --help fast
    from edgeferry.agent.installation.installing import uninstall as remove_it  # noqa: PLC0415
    from edgeferry.agent.installation.places import Places  # noqa: PLC0415
    from edgeferry.agent.installation.service import Service  # noqa: PLC0415

    check_root("edgeferry-agent uninstall")
    places = Places()
    remove_it(places, Service(), purge=purge)
    kept = "" if purge else f"; {places.config.parent} and {places.state_dir} stay, --purge removes them"
    click.echo(f"the agent is removed{kept}", err=True)
