"""What `edgeferry broker setup` writes, held by a real mosquitto: who is let in, what each may say and read, limits."""

import getpass
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions
from tests.brokers import free_port
from tests.fleet.conftest import Run
from tests.system.harness import wait_until

from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.mosquitto.admission import wait_until_let_in
from edgeferry.fleet.mosquitto.configuration import MAX_PACKET_BYTES, MosquittoSettings
from edgeferry.fleet.mosquitto.folder import MosquittoFolder, Setup
from edgeferry.fleet.operator import Login
from edgeferry.fleet.settings import BrokerUrl, Passwords

ROOT = "edgeferry/v1"


@dataclass
class Client:
    """A client of the broker, and what it has heard."""

    mqtt: mqtt.Client
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    refusal: str = ""
    is_connected: bool = False

    def subscribe(self, *filters: str) -> None:
        granted: list[int] = []
        self.mqtt.on_subscribe = lambda _client, _data, _mid, codes, _properties: granted.append(len(codes))
        self.mqtt.subscribe([(name, SubscribeOptions(qos=1)) for name in filters])
        wait_until(lambda: granted, f"a subscription to {filters}")

    def say(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> None:
        info = self.mqtt.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(10)

    def topics(self) -> set[str]:
        return {topic for topic, _ in self.heard}


@dataclass
class Broker:
    """A running mosquitto of a fleet."""

    settings: MosquittoSettings
    folder: MosquittoFolder
    passwords: Passwords
    process: subprocess.Popen[bytes]
    stack: ExitStack

    def client(self, user: str, *, client_id: str = "", password: str = "", port: int = 0, tls: bool = True) -> Client:
        """Connect and return when the broker has answered."""
        made = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or user,
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        client = Client(made)
        made.username_pw_set(user, password or self.passwords.of(user))
        if tls:
            made.tls_set_context(ssl.create_default_context(cadata=self.passwords.ca_pem()))
        made.on_message = lambda _client, _data, message: client.heard.append((message.topic, message.payload))

        def answered(_client: object, _data: object, _flags: object, reason: object, _properties: object) -> None:
            client.is_connected, client.refusal = str(reason) == "Success", str(reason)

        def ended(_client: object, _data: object, _flags: object, reason: object, _properties: object) -> None:
            client.is_connected, client.refusal = False, client.refusal or str(reason)

        made.on_connect, made.on_disconnect = answered, ended
        is_person = user in self.settings.people
        made.connect("127.0.0.1", port or (self.settings.people_port if is_person else self.settings.device_port))
        made.loop_start()
        self.stack.callback(made.loop_stop)
        self.stack.callback(made.disconnect)
        wait_until(lambda: client.refusal, f"an answer to {user}")
        return client

    def wait_until_let_in(self, user: str, *, patience_s: float = 10.0) -> None:
        port = self.settings.people_port if user in self.settings.people else self.settings.device_port
        login = Login(user, self.passwords.of(user), self.passwords.ca_pem())
        wait_until_let_in(BrokerUrl("mqtts", "127.0.0.1", port), login, patience_s=patience_s)

    def reload(self) -> None:
        self.process.send_signal(1)  # SIGHUP, as the unit's reload does


@pytest.fixture
def broker(run_edgeferry: Run, fleet_dir: Path, tmp_path: Path) -> Iterator[Broker]:
    """Yield the mosquitto of a fleet with two devices, a monitor and an application."""
    assert run_edgeferry("init").exit_code == 0
    for device in ("pi-1", "pi-2", "pi-3", "pi-4"):
        Inventory.load(fleet_dir).add(device, "generic-x86-64")
        Passwords(fleet_dir).make(device)
    done = run_edgeferry("broker", "setup", "--host", "127.0.0.1", "--monitor", "grafana", "--application", "camera")
    assert done.exit_code == 0, done.stderr
    folder = MosquittoFolder(fleet_dir)
    made = folder.setup()
    assert made is not None
    (tmp_path / "kept").mkdir()
    settings = MosquittoSettings(
        hosts=made.settings.hosts,
        monitors=made.settings.monitors,
        applications=made.settings.applications,
        place=str(folder.path),
        bind="127.0.0.1",
        device_port=free_port(),
        people_port=free_port(),
        max_devices=3,
        state_dir=str(tmp_path / "kept"),
        account=getpass.getuser(),
    )
    folder.make(Setup(settings), Inventory.load(fleet_dir).devices)
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with (tmp_path / "log").open("wb") as log, ExitStack() as stack:
        process = subprocess.Popen([program, "-c", str(folder.path / "mosquitto.conf")], stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        made_broker = Broker(settings, folder, Passwords(fleet_dir), process, stack)
        made_broker.wait_until_let_in("operator")
        yield made_broker


def test_a_device_says_what_is_its_own_and_the_operator_hears_it(broker: Broker) -> None:
    operator, device = broker.client("operator"), broker.client("pi-1")
    operator.subscribe(f"{ROOT}/#")

    device.say(f"{ROOT}/d/pi-1/state")
    device.say(f"{ROOT}/blob/req/pi-1")

    wait_until(lambda: {f"{ROOT}/d/pi-1/state", f"{ROOT}/blob/req/pi-1"} <= operator.topics(), "both")


def test_a_device_cannot_say_what_is_another_ones_or_the_operators(broker: Broker) -> None:
    operator, device = broker.client("operator"), broker.client("pi-1")
    operator.subscribe(f"{ROOT}/#")
    forbidden = [
        "d/pi-2/state",
        "d/pi-2/req/get",
        "blob/req/pi-2",
        "tuf/timestamp",
        "all/req/get",
        "origin/x/availability",
    ]

    for topic in forbidden:
        device.say(f"{ROOT}/{topic}")
    device.say(f"{ROOT}/d/pi-1/last")  # the broker keeps the order of one client

    wait_until(lambda: f"{ROOT}/d/pi-1/last" in operator.topics(), "the last")
    assert operator.topics() == {f"{ROOT}/d/pi-1/last"}


def test_a_device_hears_its_own_and_what_is_said_to_all_and_nothing_else(broker: Broker) -> None:
    operator, device = broker.client("operator"), broker.client("pi-1")
    device.subscribe("#", f"{ROOT}/d/+/#", "$SYS/#")
    allowed = ["d/pi-1/blk", "all/req/get", "tuf/timestamp", "g/kitchens/infer/digits", "origin/o/availability"]

    for topic in ["d/pi-2/blk", "d/pi-2/req/get", "blob/req/pi-2", "anything", *allowed]:
        operator.say(f"{ROOT}/{topic}")
    operator.say(f"{ROOT}/d/pi-1/last")

    wait_until(lambda: f"{ROOT}/d/pi-1/last" in device.topics(), "the last")
    assert device.topics() == {f"{ROOT}/{topic}" for topic in [*allowed, "d/pi-1/last"]}


def test_a_device_cannot_throw_out_another_one_by_its_client_id(broker: Broker) -> None:
    first = broker.client("pi-1")

    thief = broker.client("pi-2", client_id="pi-1")

    thief.say(f"{ROOT}/d/pi-2/state")
    first.say(f"{ROOT}/d/pi-1/state")
    assert first.is_connected


def test_devices_and_people_are_let_in_at_their_own_listener_alone(broker: Broker) -> None:
    device = broker.client("pi-1", port=broker.settings.people_port)
    operator = broker.client("operator", port=broker.settings.device_port)

    assert (device.refusal, operator.refusal) == ("Not authorized", "Not authorized")


@pytest.mark.parametrize(("user", "password"), [("pi-1", "wrong"), ("stranger", "x"), ("operator", "wrong")])
def test_a_wrong_password_or_user_is_refused(broker: Broker, user: str, password: str) -> None:
    assert broker.client(user, password=password).refusal == "Not authorized"


def test_nobody_is_heard_without_encryption(broker: Broker) -> None:
    assert not broker.client("pi-1", tls=False).is_connected


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")  # that it is old is the point
def test_tls_below_1_2_is_refused_and_a_stranger_to_the_authority_notices(broker: Broker) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", broker.settings.device_port), 5) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    old = ssl.create_default_context(cadata=broker.passwords.ca_pem())
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", broker.settings.device_port), 5) as plain,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_monitor_reads_everything_and_changes_nothing(broker: Broker) -> None:
    operator, monitor = broker.client("operator"), broker.client("grafana")
    operator.subscribe(f"{ROOT}/#")
    monitor.subscribe(f"{ROOT}/#")

    for topic in ("tuf/timestamp", "d/pi-1/req/bench", "d/pi-1/infer/digits", "d/pi-1/req/ping"):
        monitor.say(f"{ROOT}/{topic}")

    wait_until(operator.topics, "the ping")
    assert operator.topics() == {f"{ROOT}/d/pi-1/req/ping"}
    wait_until(lambda: monitor.topics() == operator.topics(), "the monitor to hear it too")


def test_an_application_asks_models_and_reads_its_own_answers(broker: Broker) -> None:
    device, application = broker.client("pi-1"), broker.client("camera")
    device.subscribe(f"{ROOT}/d/pi-1/infer/#")
    application.subscribe(f"{ROOT}/#")

    application.say(f"{ROOT}/d/pi-1/infer/digits")
    application.say(f"{ROOT}/d/pi-1/req/get")
    device.say(f"{ROOT}/d/pi-1/res/operator")
    device.say(f"{ROOT}/d/pi-1/res/camera")

    wait_until(application.topics, "the answer")
    wait_until(device.topics, "the question")
    assert (device.topics(), application.topics()) == ({f"{ROOT}/d/pi-1/infer/digits"}, {f"{ROOT}/d/pi-1/res/camera"})


def test_a_message_over_the_limit_ends_the_connection_and_one_below_passes(broker: Broker) -> None:
    operator, device = broker.client("operator"), broker.client("pi-1")
    operator.subscribe(f"{ROOT}/d/pi-1/state")

    device.say(f"{ROOT}/d/pi-1/state", bytes(MAX_PACKET_BYTES - 1024))
    wait_until(lambda: operator.heard, "the large message")
    # past paho's own check, which knows the limit from the broker
    device.mqtt._mqttv5_first_connect = False
    device.mqtt.publish(f"{ROOT}/d/pi-1/state", bytes(MAX_PACKET_BYTES + 1))

    wait_until(lambda: not device.is_connected, "the end of the connection")
    assert len(operator.heard) == 1


def test_more_devices_than_allowed_are_not_let_in(broker: Broker) -> None:
    for device in ("pi-1", "pi-2", "pi-3"):
        assert broker.client(device).is_connected

    with pytest.raises(FleetError):
        broker.wait_until_let_in("pi-4", patience_s=0)


def test_a_renewed_password_is_let_in_after_a_reload_and_the_old_one_no_more(broker: Broker) -> None:
    old = broker.passwords.of("pi-1")
    broker.passwords.make("pi-1")

    broker.folder.let_in(["pi-1"])
    broker.reload()

    broker.wait_until_let_in("pi-1")
    assert broker.client("pi-1", password=old).refusal == "Not authorized"


def test_what_was_retained_is_there_after_a_restart(broker: Broker, tmp_path: Path) -> None:
    broker.client("operator").say(f"{ROOT}/tuf/timestamp", b"bell", retain=True)
    broker.process.terminate()
    broker.process.wait(10)

    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with (tmp_path / "log").open("ab") as log:
        broker.process = subprocess.Popen([program, "-c", str(broker.folder.path / "mosquitto.conf")], stderr=log)
    broker.stack.callback(broker.process.wait, 10)
    broker.stack.callback(broker.process.terminate)
    broker.wait_until_let_in("pi-1")

    device = broker.client("pi-1")
    device.subscribe(f"{ROOT}/tuf/#")
    wait_until(lambda: device.heard == [(f"{ROOT}/tuf/timestamp", b"bell")], "the bell")
