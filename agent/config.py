"""``agent.yaml`` and what it becomes: `AgentConfig`, frozen and validated; and the making of one from a token.

id: kitchen                      # also the MQTT user name and client id
profile: raspberry-pi-4
state_dir: /var/lib/edgeferry    # may be relative to the directory that the agent is started in
broker:
  urls: [mqtts://broker.local:8883]   # tried in turn
  password_file: /var/lib/edgeferry/identity/password
  ca_file: /var/lib/edgeferry/identity/ca.pem   # leave out for the system's own certificates
trust:
  root_file: /var/lib/edgeferry/identity/root.json   # or root_sha256: the fingerprint of the first root
pipelines: []                      # inference on the device's own input; see pipeline_config
listen:
  http: 127.0.0.1:8501              # leave out to listen on the Unix socket alone
  grpc: 127.0.0.1:8500              # needs edgeferry[grpc]
  tls_certificate_file: /etc/edgeferry/serving.pem   # with its key and a token, other machines may connect
  tls_key_file: /etc/edgeferry/serving-key.pem
  token_file: /etc/edgeferry/serving-token
"""

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml

from edgeferry.agent.errors import ConfigError
from edgeferry.agent.fsops import Disk
from edgeferry.agent.pipeline_config import PipelineConfig, check_pipelines
from edgeferry.device_profiles import DeviceProfile, ProfileError, load_profile
from edgeferry.device_profiles.profile import Range
from edgeferry.device_profiles.reader import read
from edgeferry.device_profiles.yaml_tree import Node, parse_tree
from edgeferry.wire.codec import WireError
from edgeferry.wire.joining import JoinToken, parse_token
from edgeferry.wire.topics import DEFAULT_ROOT, check_id, check_root

__all__ = [
    "AgentConfig",
    "BrokerUrl",
    "load_config",
    "rendered_config",
    "usable_token",
    "write_config",
    "write_identity",
]

_MAX_CONFIG_BYTES = 64 * 1024
_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_ROOT_SHA256 = re.compile(r"[0-9a-f]{64}")
_HTTP = re.compile(r"\S+:([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        """Return it as a URL."""
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Broker:
    urls: tuple[str, ...]
    password_file: str
    ca_file: str = ""
    topic_root: str = DEFAULT_ROOT
    max_packet_bytes: Annotated[int, Range(16 * 1024, 256 << 20)] = 128 * 1024


@dataclass(frozen=True, slots=True)
class _Trust:
    root_file: str = ""
    root_sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Listen:
    http: str = ""
    grpc: str = ""
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    id: str
    profile: str
    state_dir: str
    broker: _Broker
    trust: _Trust
    groups: tuple[str, ...] = ()
    listen: _Listen = field(default_factory=_Listen)
    telemetry_interval_s: Annotated[int, Range(1, 3600)] = 10
    pipelines: tuple[PipelineConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent is told about itself.

    Attributes:
        groups: As the token said; the signed documents decide, these are shown until they have arrived.
        password: Of the device at the broker; never logged.
        password_file: Where it stands.
        root: The TUF root that trust begins with; empty when ``root_sha256`` names the one to take from the broker.
        http: ``host:port`` of the REST server, or empty.
        grpc: ``host:port`` of the gRPC server, or empty.
        tls_certificate: Of both; None where only this machine may connect.
        tls_key: Its private key.
        serving_token_file: What clients of both have to show.
        max_packet_bytes: The largest MQTT message that the broker passes on.
        pipelines: Inference on the device's own input.
        file: Where all of this stands.
    """

    id: str
    profile: DeviceProfile
    groups: tuple[str, ...]
    state_dir: Path
    brokers: tuple[BrokerUrl, ...]
    password: str = field(repr=False)
    ca_file: Path | None
    topic_root: str
    max_packet_bytes: int
    root: bytes = field(repr=False)
    root_sha256: str
    http: str
    telemetry_interval_s: int
    password_file: Path | None = None
    grpc: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    serving_token_file: Path | None = None
    pipelines: tuple[PipelineConfig, ...] = ()
    file: Path = Path("agent.yaml")

    @property
    def endpoints(self) -> dict[str, str]:
        """Return where applications ask the models, by protocol."""
        scheme = "https" if self.tls_certificate else "http"
        places = {"rest": f"{scheme}://{self.http}" if self.http else "", "grpc": self.grpc}
        return {protocol: place for protocol, place in places.items() if place}


def load_config(path: Path) -> AgentConfig:
    """Return the configuration in ``path`` with everything that it refers to.

    Raises:
        ConfigError: It cannot be read, has an unknown key, or a value that cannot be used.
    """
    try:
        file = read(_File, Node(parse_tree(_read(path, "the configuration"), str(path)), str(path), 1))
        profile = load_profile(file.profile)
        check_id(file.id, what=f"{path}: id")
        check_root(file.broker.topic_root)
        _check_listen(file.listen, path)
        check_pipelines(file.pipelines, str(path))
    except (ProfileError, WireError) as err:
        raise ConfigError(str(err)) from err
    return AgentConfig(
        id=file.id,
        profile=profile,
        groups=file.groups,
        state_dir=Path(file.state_dir).absolute(),
        brokers=_broker_urls(file.broker.urls, path),
        password=_password(Path(file.broker.password_file)),
        ca_file=_ca_file(file.broker.ca_file),
        topic_root=file.broker.topic_root,
        max_packet_bytes=file.broker.max_packet_bytes,
        root=_root(file.trust, path),
        root_sha256=file.trust.root_sha256,
        http=file.listen.http,
        telemetry_interval_s=file.telemetry_interval_s,
        password_file=Path(file.broker.password_file),
        grpc=file.listen.grpc,
        tls_certificate=_optional_path(file.listen.tls_certificate_file),
        tls_key=_optional_path(file.listen.tls_key_file),
        serving_token_file=_optional_path(file.listen.token_file),
        pipelines=file.pipelines,
        file=path.absolute(),
    )


def write_config(token_text: str, state_dir: Path, output: Path, *, http: str, disk: Disk) -> JoinToken:
    """Write ``output`` and the credentials below ``state_dir/identity`` from a joining token; return the token.

    Raises:
        ConfigError: The token is cut or names a profile that is not known.
        StoreError: The disk refused.
    """
    token = usable_token(token_text)
    write_identity(token, state_dir.absolute(), disk)
    disk.write(output.absolute(), rendered_config(token, state_dir.absolute(), http))
    return token


def usable_token(text: str) -> JoinToken:
    """Return the token that ``text`` spells.

    Raises:
        ConfigError: It is cut or names a profile that is not known.
    """
    try:
        token = parse_token(text)
        load_profile(token.profile)
        base64.b64decode(token.root, validate=True)
    except (WireError, ProfileError, binascii.Error) as err:
        raise ConfigError(str(err)) from err
    return token


def write_identity(token: JoinToken, state_dir: Path, disk: Disk) -> None:
    """Write the credentials of a usable token below ``state_dir/identity``.

    Raises:
        StoreError: The disk refused.
    """
    identity = state_dir / "identity"
    disk.make_directory(identity)
    disk.write(identity / "password", token.password.encode() + b"\n")
    disk.write(identity / "root.json", base64.b64decode(token.root))
    if token.ca_pem:
        disk.write(identity / "ca.pem", token.ca_pem.encode())


def rendered_config(token: JoinToken, state_dir: Path, http: str) -> bytes:
    """Return the agent.yaml of a device that joins with ``token``."""
    identity = state_dir / "identity"
    broker = {"urls": list(token.brokers), "password_file": str(identity / "password")}
    if token.ca_pem:
        broker["ca_file"] = str(identity / "ca.pem")
    if token.topic_root != DEFAULT_ROOT:
        broker["topic_root"] = token.topic_root
    content = {
        "id": token.id,
        "profile": token.profile,
        **({"groups": list(token.groups)} if token.groups else {}),
        "state_dir": str(state_dir),
        "broker": broker,
        "trust": {"root_file": str(identity / "root.json")},
        **({"listen": {"http": http}} if http else {}),
    }
    return yaml.safe_dump(content, sort_keys=False).encode()


def _read(path: Path, what: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise ConfigError(f"cannot read {what} from {path}: {err.strerror}") from err
    if len(data) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: {len(data)} bytes, wanted at most {_MAX_CONFIG_BYTES}")
    return data


def _password(path: Path) -> str:
    try:
        password = _read(path, "the password").decode().strip()
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: is not text, wanted the password in UTF-8") from err
    if not password:
        raise ConfigError(f"{path}: is empty, wanted the password of this device at the broker")
    return password


def _ca_file(name: str) -> Path | None:
    if not name:
        return None
    _read(Path(name), "the broker's certificate authority")
    return Path(name)


def _broker_urls(urls: tuple[str, ...], path: Path) -> tuple[BrokerUrl, ...]:
    if not urls:
        raise ConfigError(f"{path}: broker.urls is empty; wanted one such as mqtts://broker.local:8883")
    return tuple(_broker_url(url, path) for url in urls)


def _broker_url(url: str, path: Path) -> BrokerUrl:
    wanted = "wanted mqtt://host:port or mqtts://host:port, without a password"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise ConfigError(f"{path}: broker.urls: {url!r} is not a URL; {wanted}") from err
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        raise ConfigError(f"{path}: broker.urls: cannot use {parts.scheme}://{parts.hostname or ''}; {wanted}")
    return BrokerUrl(parts.hostname, port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "mqtts")


def _check_listen(listen: _Listen, path: Path) -> None:
    protection = (listen.tls_certificate_file, listen.tls_key_file, listen.token_file)
    for key, address in (("http", listen.http), ("grpc", listen.grpc)):
        if _address(address, key, path) and not _is_loopback(address) and not all(protection):
            raise ConfigError(
                f"{path}: listen.{key}: {address[:60]} is open to other machines; that takes tls_certificate_file, "
                "tls_key_file and token_file beside it, or listen on 127.0.0.1"
            )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _optional_path(name: str) -> Path | None:
    return Path(name).absolute() if name else None


def _address(address: str, key: str, path: Path) -> str:
    found = _HTTP.fullmatch(address)
    if address and not (found and 1 <= int(found[1]) <= 65535):
        wanted = "wanted HOST:PORT such as 127.0.0.1:8501, with a port of 1 to 65535"
        raise ConfigError(f"{path}: listen.{key}: found {address[:60]!r}, {wanted}")
    return address


def _root(trust: _Trust, path: Path) -> bytes:
    if bool(trust.root_file) == bool(trust.root_sha256):
        raise ConfigError(f"{path}: trust wants either root_file or root_sha256")
    if trust.root_sha256:
        if not _ROOT_SHA256.fullmatch(trust.root_sha256):
            raise ConfigError(f"{path}: trust.root_sha256 wants 64 hexadecimal digits")
        return b""
    return _read(Path(trust.root_file), "the first trusted root")
