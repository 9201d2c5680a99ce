"""The folder ``mosquitto`` of a fleet: all that a mosquitto needs, made from the fleet's settings and passwords.

mosquitto.conf, devices.acl, people.acl      what it is told
server.pem, server.key                       its certificate, signed by secrets/ca.pem
users/devices, users/people                  who is let in
edgeferry-mosquitto.path and .service        have it read its users again; mosquitto.service.conf: a drop-in
install.sh                                   puts all of it onto a Debian host
setup.json                                   what was asked for, so that the next time it need not be said again
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import msgspec

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import PRIVATE, explained, make_folder, replacing, sync_folder, write_atomically
from edgeferry.fleet.mosquitto import configuration
from edgeferry.fleet.mosquitto.certificates import Authority, KeyPair, names_of
from edgeferry.fleet.mosquitto.configuration import MosquittoSettings
from edgeferry.fleet.mosquitto.users import DEVICE_ROUNDS, PEOPLE_ROUNDS, password_file
from edgeferry.fleet.settings import Passwords

__all__ = ["MosquittoFolder", "Setup"]

_READABLE_BY_GROUP = 0o640  # the installed users folder gives its group, mosquitto, to what is made in it


@dataclass(frozen=True, slots=True)
class Setup:
    """What was asked for, and whether it was installed on this host.

    Attributes:
        is_installed: True once ``install.sh`` has run here; new devices are let in from here then.
    """

    settings: MosquittoSettings
    is_installed: bool = False


class MosquittoFolder:
    """The mosquitto of the fleet in ``fleet_dir``; there is none before `make`."""

    def __init__(self, fleet_dir: Path) -> None:
        self.path = fleet_dir / "mosquitto"
        self._fleet_dir = fleet_dir
        self._setup_file = self.path / "setup.json"

    @property
    def installer(self) -> Path:
        """Return the script that puts everything onto a Debian host."""
        return self.path / "install.sh"

    def setup(self) -> Setup | None:
        """Return what was asked for; None when there is no such broker.

        Raises:
            ConfigurationError: The file is damaged.
        """
        try:
            with explained(self._setup_file):
                data = self._setup_file.read_bytes() if self._setup_file.exists() else b""
            return msgspec.json.decode(data, type=Setup) if data else None
        except msgspec.DecodeError as err:
            raise ConfigurationError(f"{self._setup_file}: {err}; remove it and run `edgeferry broker setup`") from err

    def make(self, setup: Setup, devices: Iterable[str]) -> None:
        """Write everything, and keep what is right already: keys, certificates, lines of users.

        Raises:
            FleetError: The disk refused, or the fleet trusts an authority whose key is not here.
        """
        settings = setup.settings
        make_folder(self.path / "users", mode=0o700)
        self._certify(settings.hosts)
        self._write_users(self.path / "users", settings, devices, mode=PRIVATE)
        for name, text in _texts(settings).items():
            write_atomically(self.path / name, text.encode())
        write_atomically(self._setup_file, msgspec.json.format(msgspec.json.encode(setup), indent=1) + b"\n")

    def let_in(self, devices: Iterable[str]) -> bool:
        """Write who is let in, here and where mosquitto reads it; tell whether it does on this host.

        Raises:
            FleetError: The disk refused.
        """
        setup = self.setup()
        if setup is None:
            return False
        self._write_users(self.path / "users", setup.settings, devices, mode=PRIVATE)
        installed = Path(setup.settings.place) / "users"
        if setup.is_installed:
            self._write_users(installed, setup.settings, devices, mode=_READABLE_BY_GROUP)
        return setup.is_installed

    def _certify(self, hosts: tuple[str, ...]) -> None:
        """Have a certificate for ``hosts``, of the fleet's own authority."""
        authority = self._authority()
        certificate, key = self.path / "server.pem", self.path / "server.key"
        if certificate.exists() and key.exists():
            pem = certificate.read_bytes()
            if names_of(pem) == hosts and authority.has_signed(pem):
                return
        pair = authority.server(hosts)
        write_atomically(key, pair.key_pem, mode=PRIVATE)
        write_atomically(certificate, pair.certificate_pem)

    def _authority(self) -> Authority:
        passwords = Passwords(self._fleet_dir)
        key_file = self._fleet_dir / "secrets" / "authority.key"
        pem = passwords.ca_pem()
        if key_file.exists() and pem:
            return Authority(KeyPair(pem.encode(), key_file.read_bytes()))
        if pem:
            raise ConfigurationError(
                f"{passwords.ca_file}: this fleet trusts an authority whose key is not here; move that file away to "
                "let the fleet have one of its own (devices then need `edgeferry token --renew`)"
            )
        authority = Authority.create("edgeferry broker authority")
        make_folder(key_file.parent, mode=0o700)
        write_atomically(key_file, authority.pair.key_pem, mode=PRIVATE)
        passwords.put_ca(authority.pair.certificate_pem.decode())
        return authority

    def _write_users(self, folder: Path, settings: MosquittoSettings, devices: Iterable[str], *, mode: int) -> None:
        passwords = Passwords(self._fleet_dir).load()
        known_devices = {user: passwords[user] for user in devices if user in passwords}
        people = {user: passwords[user] for user in settings.people if user in passwords}
        _replace_users(folder / "people", people, PEOPLE_ROUNDS, mode)
        _replace_users(folder / "devices", known_devices, DEVICE_ROUNDS, mode)


def _replace_users(path: Path, passwords: Mapping[str, str], rounds: int, mode: int) -> None:
    with explained(path):
        before = path.read_text() if path.exists() else ""
    text = password_file(passwords, before, rounds=rounds)
    if text == before and path.exists():
        return
    with replacing(path, mode=mode) as file:
        os.fchmod(file.fileno(), mode)  # a umask of 077 would lock mosquitto, and with it everybody, out
        file.write(text.encode())
    sync_folder(path.parent)


def _texts(settings: MosquittoSettings) -> dict[str, str]:
    root = settings.topic_root
    people = (settings.operator, settings.monitors, settings.applications)
    return {
        "mosquitto.conf": configuration.configuration(settings),
        "devices.acl": configuration.access_rules_of_devices(root),
        "people.acl": configuration.access_rules_of_people(root, *people),
        "mosquitto.service.conf": configuration.drop_in(settings),
        "edgeferry-mosquitto.path": configuration.reload_path(settings),
        "edgeferry-mosquitto.service": configuration.reload_service(),
        "install.sh": files("edgeferry.fleet.mosquitto").joinpath("install.sh").read_text(),
    }
