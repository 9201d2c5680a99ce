"""``edgeferry-agent status``: what runs here, since when, and how each last deployment ended."""

from pathlib import Path

import click

__all__ = ["status"]

DEFAULT_CONFIG = Path("/etc/edgeferry/agent.yaml")


@click.command()
@click.option(
    "--config",
    "config_path",
    default=DEFAULT_CONFIG,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The agent.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.pass_context
def status(ctx: click.Context, config_path: Path, *, as_json: bool) -> None:
    """Show what runs on this device, since when, and why the last deployment of each model ended as it did.

    Looks at the agent's state folder and changes nothing. Ends with 1 when no agent is running.

    Example: sudo edgeferry-agent status
    """
    import msgspec  # noqa: PLC0415 - keeps --help fast

    from edgeferry.agent.clock import now_ms  # noqa: PLC0415
    from edgeferry.agent.config import load_config  # noqa: PLC0415
    from edgeferry.agent.errors import EXIT_FAILED  # noqa: PLC0415
    from edgeferry.agent.processes import started_ms  # noqa: PLC0415
    from edgeferry.agent.state_folder import read_state_folder  # noqa: PLC0415
    from edgeferry.agent.status import status_of  # noqa: PLC0415

    config = load_config(config_path)
    folder = read_state_folder(config.state_dir)
    since_ms = started_ms(folder.pid) if folder.pid else 0
    found = status_of(config.id, config.profile.name, folder.state, folder.events, pid=folder.pid, since_ms=since_ms)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        for line in found.lines(now_ms()):
            click.echo(line)
    if not found.is_running:
        ctx.exit(EXIT_FAILED)
