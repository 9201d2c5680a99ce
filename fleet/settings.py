"""`fleet.yaml` and the secrets of a fleet folder: where the broker is, who the operator is, and the passwords.

Decides where each of them lies:

    fleet.yaml                what a person may edit: an unknown key is an error
    secrets/passwords.json    user name -> password at the broker, mode 0600; the embedded broker follows it
    secrets/ca.pem            the certificate that signed the broker's, where it is not one that the system knows

A password never stands in a URL or on a command line, where other users of the machine could read it.
"""

import difflib
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import PRIVATE, make_folder, write_atomically
from edgeferry.wire.codec import WireError
from edgeferry.wire.topics import DEFAULT_ROOT, Topics, check_id, check_root

__all__ = [
    "DEFAULT_BROKER",
    "BrokerUrl",
    "FleetSettings",
    "Passwords",
    "SettingsError",
    "check_ca",
    "default_fleet_dir",
    "load_settings",
    "parse_broker_url",
    "parse_password",
    "save_settings",
]

DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FILE = "fleet.yaml"
_WANTED = "write for example `broker: mqtt://HOST:1883`, or restore the file from a backup"
_MAX_PASSWORD_BYTES = 65_535  # MQTT 5, 3.1.3.6


class SettingsError(ConfigurationError):
    """A setting of the fleet cannot be what it is; fit to show."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A broker: ``mqtt://host:port``, or ``mqtts://host:port`` for TLS."""

    scheme: str
    host: str
    port: int

    @property
    def tls(self) -> bool:
        """Return whether the connection is encrypted."""
        return self.scheme == "mqtts"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What `fleet.yaml` says.

    Attributes:
        broker: URL of the broker that this workstation uses.
        operator: User name at the broker, and the beginning of the client ids.
        topic_root: What all topics begin with.
        device_brokers: URLs that devices get in their tokens where they reach the broker by other names; empty: the
            same as ``broker``.
        passphrase_command: A program and its arguments that print the passphrase of locked keys: a keyring, a password
            manager. Empty: a person is asked.
    """

    broker: str = DEFAULT_BROKER
    operator: str = "operator"
    topic_root: str = DEFAULT_ROOT
    device_brokers: tuple[str, ...] = ()
    passphrase_command: tuple[str, ...] = ()

    @property
    def topics(self) -> Topics:
        """Return the builder of this fleet's topics."""
        return Topics(self.topic_root)

    def with_broker(self, url: str | None) -> "FleetSettings":
        """Return these settings with another broker, where ``url`` names one."""
        return replace(self, broker=str(parse_broker_url(url))) if url else self


def default_fleet_dir(environment: Mapping[str, str]) -> Path:
    """Return the fleet folder of the user: ``$XDG_DATA_HOME/edgeferry/fleet`` (XDG Base Directory Specification)."""
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "edgeferry" / "fleet"


def parse_broker_url(text: str) -> BrokerUrl:
    """Return the broker that ``text`` names; without a port, 1883, or 8883 for TLS.

    Raises:
        SettingsError: It is not ``mqtt://`` or ``mqtts://`` with a host, or it has a user, password or path.
    """
    wanted = "wanted mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as err:
        raise SettingsError(f"broker {_without_password(text)!r}: {err}; {wanted}") from err
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            f"broker {_without_password(text)!r} has a user or password in it, where others can read it; leave them "
            "out: the user is `operator` in fleet.yaml, its password stands in secrets/passwords.json"
        )
    rest = parts.path.strip("/") + parts.query + parts.fragment
    if parts.scheme not in _PORTS or not parts.hostname or rest:
        raise SettingsError(f"broker {text!r} is not a URL of a broker; {wanted}")
    return BrokerUrl(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def _without_password(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def load_settings(fleet_dir: Path) -> FleetSettings:
    """Return the settings of the fleet in ``fleet_dir``.

    Raises:
        SettingsError: There is no fleet, or `fleet.yaml` has an unknown key or an impossible value.
    """
    path = fleet_dir / _FILE
    try:
        text = path.read_text()
    except FileNotFoundError as err:
        raise SettingsError(
            f"{fleet_dir}: no fleet here ({_FILE} is missing); make one with `edgeferry init`, or name another folder "
            "with --fleet DIR or EDGEFERRY_FLEET"
        ) from err
    except (OSError, UnicodeDecodeError) as err:
        raise SettingsError(f"{path}: cannot be read: {err}") from err
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise SettingsError(_not_yaml(path, text, err)) from err
    return _parse(data, path)


def _not_yaml(path: Path, text: str, err: yaml.YAMLError) -> str:
    """Return in one line what PyYAML says in several."""
    if isinstance(err, yaml.MarkedYAMLError) and err.problem_mark is not None:
        line, problem = err.problem_mark.line + 1, err.problem
    else:  # a character that YAML does not allow; only this error has a position and a reason
        line = text.count("\n", 0, getattr(err, "position", 0)) + 1
        problem = getattr(err, "reason", "")
    return f"{path}:{line}: is not YAML: {problem or 'cannot be parsed'}; correct the line, {_WANTED}"


def _parse(data: Any, path: Path) -> FleetSettings:
    if not isinstance(data, dict):
        found = "is empty" if data is None else f"holds {type(data).__name__}"
        raise SettingsError(f"{path}: {found}, wanted keys and values: {_WANTED}")
    known = [field.name for field in fields(FleetSettings)]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"wanted one of {', '.join(known)}"
            raise SettingsError(f"{path}: {key} is not a known key; {hint}")
    try:
        settings = msgspec.convert(data, FleetSettings)
        check_id(settings.operator, what="operator")
        check_root(settings.topic_root)
        for url in (settings.broker, *settings.device_brokers):
            parse_broker_url(url)
    except (msgspec.ValidationError, WireError, SettingsError) as err:
        raise SettingsError(f"{path}: {err}") from err
    return settings


def save_settings(fleet_dir: Path, settings: FleetSettings) -> None:
    """Write ``settings`` to `fleet.yaml`."""
    data = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    text = "# Settings of this fleet; see docs/operations.md.\n" + yaml.safe_dump(data, sort_keys=False)
    write_atomically(fleet_dir / _FILE, text.encode())


def parse_password(data: bytes) -> str:
    """Return the password in a file that holds nothing else: one line, with or without its end.

    Raises:
        SettingsError: There is none, there are several lines, or it is not text.
    """
    wanted = "wanted one line with the password"
    try:
        password = data.decode().rstrip("\r\n")
    except UnicodeDecodeError as err:
        raise SettingsError(f"the password file is not text; {wanted}") from err
    if not password.strip():
        raise SettingsError(f"the password file is empty; {wanted}")
    if len(data) > _MAX_PASSWORD_BYTES or not password.isprintable():
        raise SettingsError(f"the password file holds several lines, or what cannot be typed; {wanted}")
    return password


def check_ca(pem: str) -> None:
    """Do nothing when ``pem`` is a certificate.

    Raises:
        SettingsError: It is none.
    """
    try:
        ssl.create_default_context(cadata=pem or "empty")
    except (ssl.SSLError, TypeError, ValueError) as err:  # TypeError: other characters than ASCII's
        raise SettingsError(f"the certificate of the broker's authority cannot be used: {err}; wanted PEM") from err


class Passwords:
    """The passwords at the broker, by user name, in ``secrets/passwords.json``."""

    def __init__(self, fleet_dir: Path) -> None:
        self._path = fleet_dir / "secrets" / "passwords.json"

    @property
    def ca_file(self) -> Path:
        """Return where the certificate lies that signed the broker's; it need not exist."""
        return self._path.parent / "ca.pem"

    def ca_pem(self) -> str:
        """Return that certificate, or an empty text where there is none."""
        return self.ca_file.read_text() if self.ca_file.exists() else ""

    def put_ca(self, pem: str) -> None:
        """Set the certificate that signed the broker's.

        Raises:
            SettingsError: It is not a certificate.
        """
        check_ca(pem)
        make_folder(self._path.parent, mode=0o700)
        write_atomically(self.ca_file, pem.encode())

    def load(self) -> dict[str, str]:
        """Return every password by user name; empty when there is none yet.

        Raises:
            SettingsError: The file is there but is not a JSON object of texts.
        """
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as err:
            raise SettingsError(f"{self._path}: cannot be read: {err}") from err

    def of(self, user: str) -> str:
        """Return the password of ``user``.

        Raises:
            SettingsError: There is none.
        """
        password = self.load().get(user)
        if password is None:
            raise SettingsError(f"{self._path}: has no password for {user!r}; add it there, or run `edgeferry init`")
        return password

    def put(self, user: str, password: str) -> None:
        """Set the password of ``user``."""
        self._save({**self.load(), user: password})

    def make(self, user: str) -> str:
        """Make, set and return a new password for ``user``."""
        password = secrets.token_urlsafe(24)
        self.put(user, password)
        return password

    def _save(self, passwords: Mapping[str, str]) -> None:
        make_folder(self._path.parent, mode=0o700)
        body = msgspec.json.format(msgspec.json.encode(passwords, order="sorted"), indent=1)
        write_atomically(self._path, body + b"\n", mode=PRIVATE)
