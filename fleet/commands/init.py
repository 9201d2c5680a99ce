"""`edgeferry init`: a new fleet."""

from typing import IO

import click

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now, signs, usage_checked
from edgeferry.fleet.settings import (
    FleetSettings,
    Passwords,
    check_ca,
    parse_broker_url,
    parse_password,
    save_settings,
)
from edgeferry.wire.topics import DEFAULT_ROOT, check_id, check_root

__all__ = ["init"]


@click.command()
@fleet_command
@signs
@click.option("--operator", default="operator", show_default=True, metavar="USER", help="Your user name at the broker.")
@click.option(
    "--password-file",
    type=click.File("rb"),
    metavar="FILE",
    help="Your password at the broker, `-` for standard input.",
)
@click.option("--ca-file", type=click.File("rb"), metavar="FILE", help="Certificate (PEM) that signed the broker's.")
@click.option(
    "--device-broker",
    "device_brokers",
    multiple=True,
    metavar="URL",
    help="The broker as devices reach it, where that differs; again for more.",
)
@click.option("--topic-root", default=DEFAULT_ROOT, show_default=True, help="What all topics begin with.")
def init(
    session: Session,
    *,
    operator: str,
    password_file: IO[bytes] | None,
    ca_file: IO[bytes] | None,
    device_brokers: tuple[str, ...],
    topic_root: str,
) -> None:
    """Make a new fleet: keys, signed metadata, inventory and settings.

    Example: edgeferry init --broker mqtts://broker.example.org --password-file -
    """
    with usage_checked():
        check_id(operator, what="operator")
        check_root(topic_root)
    settings = FleetSettings(
        operator=operator,
        topic_root=topic_root,
        device_brokers=tuple(str(parse_broker_url(url)) for url in device_brokers),
    ).with_broker(session.broker)
    if not _is_made(session):  # the repository last: interrupted before it, the same command begins anew
        _keep_secrets(session.passwords(), operator, password_file, ca_file)
        save_settings(session.fleet_dir, settings)
    passphrase = Passphrase(session.passphrase_file)
    if not _is_made(session):
        passphrase.choose("the keys of root, targets and documents")
    repository = Repository.create(session.fleet_dir, now=now(), passphrase=passphrase)
    if session.as_json:
        print_json({"fleet": str(session.fleet_dir), "broker": settings.broker, "generation": repository.generation})
        return
    click.echo(f"fleet made in {session.fleet_dir}, broker {settings.broker}")
    if not passphrase.is_given:
        hint("its keys lie open on this disk; lock them with `edgeferry keys passphrase`")
    hint("its keys/ and secrets/ are the only copies: back them up. Next: `edgeferry broker run`, `edgeferry token`")


def _is_made(session: Session) -> bool:
    try:
        session.repository()
    except ConfigurationError:
        return False
    return True


def _keep_secrets(
    passwords: Passwords, operator: str, password_file: IO[bytes] | None, ca_file: IO[bytes] | None
) -> None:
    """Keep what the files hold, or nothing when one of them cannot be used."""
    password = parse_password(password_file.read()) if password_file else ""
    pem = ca_file.read().decode(errors="replace") if ca_file else ""  # what is no text is no certificate either
    if ca_file:
        check_ca(pem)
    if password:
        passwords.put(operator, password)
    elif operator not in passwords.load():
        passwords.make(operator)
    if ca_file:
        passwords.put_ca(pem)
