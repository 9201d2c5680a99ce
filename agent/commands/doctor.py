"""``edgeferry-agent doctor``: what is wrong on this device, and what to do."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeferry.agent.commands.status import DEFAULT_CONFIG

if TYPE_CHECKING:
    from edgeferry.agent.doctor.finding import Finding

__all__ = ["doctor"]


@click.command()
@click.option(
    "--config",
    "config_path",
    default=DEFAULT_CONFIG,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The agent.yaml.",
)
@click.option("--json", "as_json", is_flag=True, help="All findings as JSON.")
@click.pass_context
def doctor(ctx: click.Context, config_path: Path, *, as_json: bool) -> None:
    """Look at all that the agent needs, and say what is wrong and what to do.

    Configuration, runtime, hardware, clock, disk, memory, permissions, broker, credentials, trust and service.
    Nothing is changed, and a running agent is not disturbed. Ends with 1 when something keeps it from its work.

    Example: sudo edgeferry-agent doctor
    """
    import msgspec  # noqa: PLC0415 - keeps --help fast

    from edgeferry.agent.doctor.examination import examine  # noqa: PLC0415
    from edgeferry.agent.doctor.finding import is_healthy  # noqa: PLC0415
    from edgeferry.agent.errors import EXIT_FAILED  # noqa: PLC0415

    found = []
    for finding in examine(config_path):
        found.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _sum_up(found)
    if not is_healthy(found):
        ctx.exit(EXIT_FAILED)


_COLOURS = {"fine": "green", "warning": "yellow", "problem": "red"}
_WORDS = {"fine": "fine", "warning": "to be improved", "problem": "to be mended"}


def _show(finding: "Finding") -> None:
    verdict = click.style(f"{finding.verdict:8}", fg=_COLOURS[finding.verdict])  # click leaves it out beyond terminals
    click.echo(f"{verdict} {finding.subject}: {finding.found}")
    if finding.advice:
        click.echo(f"{'':8}   do: {finding.advice}")


def _sum_up(found: list["Finding"]) -> None:
    counts = Counter(str(finding.verdict) for finding in found)
    parts = (f"{counts[verdict]} {word}" for verdict, word in _WORDS.items() if counts[verdict])
    click.echo(f"\n{len(found)} things looked at: {', '.join(parts)}")
