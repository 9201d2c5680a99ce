"""``edgeferry-agent``: the commands of a device."""

import os
import sys
from pathlib import Path

import click

from edgeferry import __version__
from edgeferry.agent.commands.doctor import doctor
from edgeferry.agent.commands.installation import install, uninstall, upgrade
from edgeferry.agent.commands.status import status
from edgeferry.agent.commands.token_file import read_token
from edgeferry.agent.errors import AgentError, ConfigError

__all__ = ["main"]


class _Commands(click.Group):
    """A group whose commands show our errors as one message and end with our exit codes."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except AgentError as err:
            click.echo(f"edgeferry-agent: {err}", err=True)
            ctx.exit(err.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeferry-agent")
def main() -> None:
    """Run models on this device: pull them over MQTT, prove them, serve them, report.

    Example: edgeferry-agent run --config /etc/edgeferry/agent.yaml
    """


@main.command()
@click.option("--token-file", required=True, help="File with the token from `edgeferry token`; - for standard input.")
@click.option("--state-dir", required=True, type=click.Path(path_type=Path), help="Where models and state are kept.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The agent.yaml to write.")
@click.option("--http", default="", help="HOST:PORT for the REST server; leave out to listen on a Unix socket alone.")
@click.option("--force", is_flag=True, help="Replace an existing configuration.")
def init(token_file: str, state_dir: Path, output: Path, http: str, *, force: bool) -> None:
    """Write agent.yaml and the credentials of this device from a joining token.

    Example: edgeferry-agent init --token-file - --state-dir /var/lib/edgeferry -o /etc/edgeferry/agent.yaml
    """
    from edgeferry.agent.config import write_config  # noqa: PLC0415 - keeps --help fast
    from edgeferry.agent.fsops import Disk  # noqa: PLC0415

    if output.exists() and not force:
        raise ConfigError(f"{output} is there already; --force replaces it and this device's identity")
    token = write_config(read_token(token_file), state_dir, output, http=http, disk=Disk())
    click.echo(f"{output}: device {token.id}, profile {token.profile}, broker {', '.join(token.brokers)}", err=True)
    click.echo(f"next: edgeferry-agent run --config {output}", err=True)


@main.command()
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The agent.yaml.")
@click.option("--verbose", is_flag=True, help="Log more than changes.")
def run(config_path: Path, *, verbose: bool) -> None:
    """Run the agent until it is told to stop.

    Example: edgeferry-agent run --config /etc/edgeferry/agent.yaml
    """
    from edgeferry.agent.logs import log_to_stderr  # noqa: PLC0415

    log_to_stderr(verbose=verbose)
    # python-tuf takes it where it is installed (a workstation); a device does without, and 8 MiB smaller.
    sys.modules.setdefault("cryptography", None)  # type: ignore[arg-type]  # None is Python's word for "not there"
    from edgeferry.agent.assembly import run_agent  # noqa: PLC0415
    from edgeferry.agent.config import load_config  # noqa: PLC0415

    run_agent(load_config(config_path))


@main.command()
@click.option("--models", required=True, type=click.Path(path_type=Path), help="Folder of NAME/VERSION/model.tflite.")
@click.option("--http", default="127.0.0.1:8501", show_default=True, help="HOST:PORT for REST.")
@click.option("--grpc", default="", help="HOST:PORT for gRPC, such as 127.0.0.1:8500; needs edgeferry[grpc].")
@click.option("--all-versions", is_flag=True, help="Load every version, not only the latest of each model.")
@click.option("--threads", default=1, type=click.IntRange(1, 64), show_default=True, help="Of each interpreter.")
@click.option("--tls-certificate", type=click.Path(path_type=Path), help="PEM file; for other machines to connect.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="PEM file of the certificate's key.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the token that clients have to show.")
def serve(
    *,
    models: Path,
    http: str,
    grpc: str,
    threads: int,
    tls_certificate: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    all_versions: bool,
) -> None:
    """Serve a folder of models without a fleet: TensorFlow Serving's REST and the Open Inference Protocol.

    Example: edgeferry-agent serve --models models --http 127.0.0.1:8501 --grpc 127.0.0.1:8500
    """
    from edgeferry.agent.serving.command import ServingOptions, child_environment  # noqa: PLC0415 - keeps --help fast

    options = ServingOptions(
        http=http,
        threads=threads,
        grpc=grpc or None,
        models=models,
        all_versions=all_versions,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        token_file=token_file,
    )
    command = options.command()
    os.execve(command[0], command, child_environment())  # noqa: S606 - it becomes the serving process


for command in (status, doctor, install, upgrade, uninstall):
    main.add_command(command)
