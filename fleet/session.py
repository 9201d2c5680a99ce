"""What every command starts from: the fleet folder, its settings, and who connects where."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click

from edgeferry.device_profiles import DeviceProfile, ProfileError, load_profile
from edgeferry.fleet.blockserver import BlockServer, OriginSettings
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.operator import Login, Operator
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.settings import (
    BrokerUrl,
    FleetSettings,
    Passwords,
    default_fleet_dir,
    load_settings,
    parse_broker_url,
)
from edgeferry.fleet.watch import FleetWatch, say_metadata
from edgeferry.wire.codec import WireError
from edgeferry.wire.topics import Topics

__all__ = ["Command", "Session", "fleet_command", "now", "now_s", "profile_named", "signs", "usage_checked"]

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Session:
    """A command's fleet.

    Attributes:
        broker: As given on the command line or in the environment; None for the one in `fleet.yaml`.
        as_json: True when the result is for a machine.
        passphrase_file: Holds what opens locked keys; None for none.
    """

    fleet_dir: Path
    broker: str | None
    as_json: bool
    passphrase_file: Path | None = None

    def settings(self) -> FleetSettings:
        """Return the settings of the fleet.

        Raises:
            SettingsError: There is no fleet, or its file cannot be understood.
        """
        return load_settings(self.fleet_dir).with_broker(self.broker)

    def repository(self) -> Repository:
        """Open the fleet's repository.

        Raises:
            FleetError: There is none, or it is damaged.
        """
        settings = self.settings()  # its message says how to make a fleet
        passphrase = Passphrase(self.passphrase_file, settings.passphrase_command)
        return Repository.open(self.fleet_dir, passphrase=passphrase)

    def passwords(self) -> Passwords:
        """Return the fleet's passwords."""
        return Passwords(self.fleet_dir)

    def topics(self) -> Topics:
        """Return the builder of the fleet's topics."""
        return self.settings().topics

    def url(self) -> BrokerUrl:
        """Return the broker."""
        return parse_broker_url(self.settings().broker)

    def login(self) -> Login:
        """Return the operator's name and password."""
        user = self.settings().operator
        return Login(user, self.passwords().of(user), self.passwords().ca_pem())

    def watch(self) -> FleetWatch:
        """Return a connection that follows the fleet; not yet connected."""
        return FleetWatch(self.url(), self.login(), self.topics())

    def server(self, repository: Repository, settings: OriginSettings | None = None) -> BlockServer:
        """Return a server of ``repository``'s blobs, for the length of a push unless ``settings`` say otherwise."""
        topics = self.topics()

        def say_again(operator: Operator) -> None:
            newest = Repository.open(self.fleet_dir)  # of this thread, and with what others have published since
            say_metadata(operator, topics, newest.roots(), newest.timestamp())

        return BlockServer(
            self.url(),
            self.login(),
            topics,
            settings or OriginSettings(f"push-{secrets.token_hex(4)}"),
            repository.blob_path,
            on_connected=say_again,
        )


def fleet_command(function: Command) -> Command:
    """Give a command `--fleet`, `--broker` and `--json`, and a `Session` as its first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option(
        "--broker", envvar="EDGEFERRY_BROKER", metavar="URL", help="mqtt://HOST[:PORT] or mqtts://HOST[:PORT]."
    )
    @click.option(
        "--fleet",
        envvar="EDGEFERRY_FLEET",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Fleet folder; by default ~/.local/share/edgeferry/fleet.",
    )
    @wraps(function)
    def command(*arguments: Any, fleet: Path | None, broker: str | None, as_json: bool, **options: Any) -> Any:
        session = Session(fleet or default_fleet_dir(os.environ), broker, as_json)
        if broker is not None:
            parse_broker_url(broker)  # a wrong URL is told before anything is done
        return function(session, *arguments, **options)

    return command


def signs(function: Command) -> Command:
    """Give a command that signs `--passphrase-file`; it stands right below `fleet_command`."""

    @click.option(
        "--passphrase-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        help="Holds the passphrase of the fleet's keys, `-` for standard input.",
    )
    @wraps(function)
    def command(session: Session, *arguments: Any, passphrase_file: Path | None, **options: Any) -> Any:
        return function(replace(session, passphrase_file=passphrase_file), *arguments, **options)

    return command


def profile_named(name: str) -> DeviceProfile:
    """Return a device profile.

    Raises:
        UsageError: There is none of that name, or its file is wrong.
    """
    try:
        return load_profile(name)
    except ProfileError as err:
        raise UsageError(str(err)) from err


@contextmanager
def usage_checked() -> Iterator[None]:
    """Turn a name that cannot stand in a topic into an error of usage.

    Raises:
        UsageError: The block met such a name.
    """
    try:
        yield
    except WireError as err:
        raise UsageError(str(err)) from err


def now() -> datetime:
    """Return the time that metadata is signed with."""
    return datetime.now(UTC)


def now_s() -> float:
    """Return the clock of all views: monotonic, in seconds."""
    return time.monotonic()
