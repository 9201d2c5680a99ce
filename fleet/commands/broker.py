"""`edgeferry broker run`: the embedded broker. `edgeferry broker setup` stands in a module of its own."""

import logging
import signal
from collections.abc import Mapping
from threading import Event

import click

from edgeferry.fleet.broker import BrokerAddress, EmbeddedBroker, keep_running, listening_address
from edgeferry.fleet.commands.broker_setup import setup
from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.operator import Operator
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command
from edgeferry.fleet.settings import Passwords, SettingsError, parse_broker_url
from edgeferry.fleet.watch import say_metadata

__all__ = ["broker"]

log = logging.getLogger(__name__)


@click.group()
def broker() -> None:
    """Run the embedded MQTT broker, for trying things out, or make a mosquitto for this fleet."""


broker.add_command(setup)


@broker.command()
@fleet_command
@click.option("--host", metavar="IP", help="Address to listen on; by default that of the fleet's broker URL.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; by default that of the URL.")
def run(session: Session, host: str | None, port: int | None) -> None:
    """Run the broker until it is interrupted; devices that `edgeferry token` adds are let in at once.

    Only this machine reaches it unless --host says otherwise: it has passwords, but neither TLS nor access rules.

    Example: edgeferry broker run --host 0.0.0.0
    """
    session.repository()  # told before a port is opened
    url = parse_broker_url(session.settings().broker)
    address = listening_address(host or url.host, port or url.port)
    embedded = EmbeddedBroker(address, session.fleet_dir / "secrets" / "broker.toml")
    keep_running(
        embedded,
        _LastGood(session.passwords()).load,
        stop=_stop_at_a_signal(),
        on_started=_Greeting(session, address),
    )
    hint("broker ended")


class _LastGood:
    """The passwords, or those before while a person has the file half edited."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords
        self._last = passwords.load()

    def load(self) -> Mapping[str, str]:
        try:
            self._last = self._passwords.load()
        except SettingsError as err:
            log.warning("%s; the passwords before still hold", err)
        return self._last


def _stop_at_a_signal() -> Event:
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


class _Greeting:
    """What follows each start of the broker; the person is told of the first only."""

    def __init__(self, session: Session, address: BrokerAddress) -> None:
        self._session = session
        self._address = address
        self._is_announced = False

    def __call__(self) -> None:
        if not self._is_announced:
            _announce(self._session, self._address)
            self._is_announced = True
        _say_metadata(self._session, self._address)


def _announce(session: Session, address: BrokerAddress) -> None:
    if session.as_json:
        print_json({"broker": address.url})
    else:
        click.echo(f"broker listening on {address.url}")
        hint("press Ctrl-C to stop it")


def _say_metadata(session: Session, address: BrokerAddress) -> None:
    """Tell the new broker the signed metadata, which its predecessor took with it."""
    repository = Repository.open(session.fleet_dir)
    url = parse_broker_url(address.url)
    try:
        with Operator(url, session.login(), client_id=f"{session.settings().operator}-broker") as operator:
            say_metadata(operator, session.topics(), repository.roots(), repository.timestamp())
    except FleetError as err:
        log.warning("metadata not said to the broker: %s", err)
