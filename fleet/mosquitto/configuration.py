"""What a mosquitto of a fleet is told: listeners, access rules, limits; the units beside it.

Two listeners, because mosquitto's access rules know user names alone, and whoever connects with the client id of
somebody else throws him out. On the devices' listener the user name takes the place of the client id, so a device can
only ever throw out itself; the users of the people's listener are not known there, nor devices on the other.

Options: mosquitto.conf(5) of 2.0.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from edgeferry.wire.topics import DEFAULT_ROOT

__all__ = [
    "DEVICE_PORT",
    "INSTALLED_PLACE",
    "MAX_PACKET_BYTES",
    "PEOPLE_PORT",
    "MosquittoSettings",
    "access_rules_of_devices",
    "access_rules_of_people",
    "configuration",
    "drop_in",
    "reload_path",
    "reload_service",
]

DEVICE_PORT = 8883  # registered for MQTT over TLS (IANA, secure-mqtt)
PEOPLE_PORT = 8884
MAX_PACKET_BYTES = 1 << 20  # what an agent accepts at most
INSTALLED_PLACE = PurePosixPath("/etc/mosquitto/edgeferry")
_QUEUED_MESSAGES = 1000  # for each client, at QoS 1
_OPEN_FILES_BESIDE_CLIENTS = 1024


@dataclass(frozen=True, slots=True)
class MosquittoSettings:
    """What is asked of a fleet's mosquitto.

    Attributes:
        hosts: Names and addresses that it is reached by; its certificate names them.
        place: Folder on its host that the files lie in.
        operator: User who may say and read everything below ``topic_root``.
        monitors: Users who read everything, and ask devices how they are.
        applications: Users who ask models.
        device_port: Where devices connect.
        people_port: Where everybody else does.
        bind: Address that both listeners are bound to; empty for all.
        max_devices: Connections of devices at the same time.
        memory_mib: What messages and sessions may take before new ones are refused.
        state_dir: Where retained messages are kept over restarts.
        account: User whom mosquitto becomes after its start as root.
    """

    hosts: tuple[str, ...]
    place: str = str(INSTALLED_PLACE)
    operator: str = "operator"
    monitors: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    device_port: int = DEVICE_PORT
    people_port: int = PEOPLE_PORT
    bind: str = ""
    max_devices: int = 10_000
    memory_mib: int = 512
    topic_root: str = DEFAULT_ROOT
    state_dir: str = "/var/lib/mosquitto"
    account: str = "mosquitto"

    @property
    def people(self) -> tuple[str, ...]:
        """Return the users who are no devices."""
        return (self.operator, *self.monitors, *self.applications)


def configuration(settings: MosquittoSettings) -> str:
    """Return mosquitto.conf."""
    lines = [
        "# Written by `edgeferry broker setup`; run that again instead of editing this.",
        "per_listener_settings true",
        f"user {settings.account}",
        "log_dest stderr",
        "log_timestamp false",  # the journal has it
        "log_type error",
        "log_type warning",
        "log_type notice",
        "persistence true",
        f"persistence_location {settings.state_dir.rstrip('/')}/",
        "autosave_interval 300",
        "persistent_client_expiration 14d",
        f"memory_limit {settings.memory_mib << 20}",
        f"max_packet_size {MAX_PACKET_BYTES}",
        f"max_queued_messages {_QUEUED_MESSAGES}",
        "max_keepalive 600",
        "set_tcp_nodelay true",
        *_listener(settings, settings.device_port, "devices"),
        "use_username_as_clientid true",
        f"max_connections {settings.max_devices}",
        *_listener(settings, settings.people_port, "people"),
        "max_connections 1000",
    ]
    return "\n".join(lines) + "\n"


def _listener(settings: MosquittoSettings, port: int, who: str) -> list[str]:
    return [
        "",
        f"listener {port} {settings.bind}".rstrip(),
        f"certfile {settings.place}/server.pem",
        f"keyfile {settings.place}/server.key",
        "tls_version tlsv1.2",  # the oldest that is accepted
        "allow_anonymous false",
        f"password_file {settings.place}/users/{who}",
        f"acl_file {settings.place}/{who}.acl",
    ]


def access_rules_of_devices(root: str) -> str:
    """Return what a device may do: its own topics, and what is said to all. docs/protocol.md has the same table."""
    return f"""pattern readwrite {root}/d/%u/#
pattern write {root}/blob/req/%u
pattern write homeassistant/device/%u/config
pattern read {root}/g/#
pattern read {root}/all/#
pattern read {root}/tuf/#
pattern read {root}/origin/+/availability
pattern read homeassistant/status
"""


def access_rules_of_people(
    root: str, operator: str, monitors: tuple[str, ...] = (), applications: tuple[str, ...] = ()
) -> str:
    """Return what operator, monitors and applications may do."""
    rules = {operator: [f"readwrite {root}/#"]}
    for user in monitors:
        rules[user] = [f"write {root}/all/req/get", f"write {root}/d/+/req/ping", f"read {root}/#"]
    for user in applications:
        rules[user] = [f"write {root}/d/+/infer/#", f"write {root}/g/+/infer/#", f"read {root}/d/+/res/{user}"]
    return "\n".join("\n".join([f"user {user}", *(f"topic {rule}" for rule in rules[user]), ""]) for user in rules)


def drop_in(settings: MosquittoSettings) -> str:
    """Return what Debian's mosquitto.service lacks: descriptors for all clients, and a new start after a fault."""
    return f"""# Written by `edgeferry broker setup`.
[Unit]
StartLimitIntervalSec=0

[Service]
LimitNOFILE={settings.max_devices + _OPEN_FILES_BESIDE_CLIENTS}
Restart=on-failure
RestartSec=2
"""


def reload_path(settings: MosquittoSettings) -> str:
    """Return the unit that notices a new device, so that whoever adds one need not be root."""
    return f"""# Written by `edgeferry broker setup`.
[Unit]
Description=edgeferry: devices that were added to the broker

[Path]
PathChanged={settings.place}/users/devices

[Install]
WantedBy=multi-user.target
"""


def reload_service() -> str:
    """Return the unit that has mosquitto read its users again."""
    return """# Written by `edgeferry broker setup`.
[Unit]
Description=edgeferry: let the broker read its users again

[Service]
Type=oneshot
ExecStart=systemctl reload mosquitto.service
"""
