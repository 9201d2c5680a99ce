"""The trust client with the store behind it, following a real fleet without a network."""

from pathlib import Path

import pytest

from edgeferry.agent.config import AgentConfig, BrokerUrl
from edgeferry.agent.store import Store
from edgeferry.agent.stored_trust import StoredTrust
from edgeferry.agent.trust import Missing, Resolved, TrustError
from edgeferry.device_profiles import load_profile
from edgeferry.wire.messages import Reason
from tests.trust.simulator import PROFILE, Broker, Fleet

from .disk_faults import FaultyDisk


class Device:
    """A device of the fleet: its store and what it believes."""

    def __init__(self, folder: Path, root: bytes) -> None:
        self.folder = folder
        self.config = AgentConfig(
            id="cam-1",
            profile=load_profile(PROFILE),
            groups=(),
            state_dir=folder / "state",
            brokers=(BrokerUrl("b", 1883, tls=False),),
            password="x",
            ca_file=None,
            topic_root="edgeferry/v1",
            max_packet_bytes=1 << 17,
            root=root,
            root_sha256="",
            http="",
            telemetry_interval_s=10,
        )
        self.disk = FaultyDisk()
        self.store = Store(self.config.state_dir, self.disk)
        self.store.open()
        self.boot()

    def boot(self) -> None:
        self.trust = StoredTrust(self.config, self.store, self.config.root, self.folder / "work")

    def follow(self, broker: Broker) -> Resolved:
        for _ in range(20):
            seen = self.trust.look(broker.roots, broker.timestamp, final=True)
            if isinstance(seen, Resolved):
                return seen
            self.fetch(seen, broker)
        raise AssertionError("still missing something after 20 looks")

    def fetch(self, missing: Missing, broker: Broker) -> None:
        for ref in missing.blobs:
            data = broker.give(ref)
            assert data is not None
            self.store.blob_path(ref.sha256).write_bytes(data)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.enroll("cam-1", "porch")
    fleet.push(1)
    return fleet


@pytest.fixture
def device(fleet: Fleet, tmp_path: Path) -> Device:
    return Device(tmp_path / "device", fleet.repository.roots()[1])


def test_what_is_believed_is_wished(device: Device, fleet: Fleet) -> None:
    resolved = device.follow(fleet.broker())

    assert resolved.wishes["digits"].version == 1
    assert resolved.groups == ("porch",)


def test_nothing_was_believed_before_the_first_look(device: Device) -> None:
    assert device.trust.remembered() is None


def test_what_was_believed_is_remembered_after_a_restart_without_a_network(device: Device, fleet: Fleet) -> None:
    resolved = device.follow(fleet.broker())

    device.boot()

    remembered = device.trust.remembered()
    assert remembered is not None
    assert remembered.wishes == resolved.wishes
    assert device.trust.damage == []


def test_what_is_older_than_what_was_believed_is_refused_after_a_restart(device: Device, fleet: Fleet) -> None:
    old = fleet.broker()
    fleet.push(2)
    device.follow(fleet.broker())
    device.boot()

    with pytest.raises(TrustError) as caught:
        device.follow(old)

    assert caught.value.problem.reason is Reason.METADATA_ROLLBACK


def test_a_damaged_blob_of_metadata_is_fetched_again(device: Device, fleet: Fleet) -> None:
    resolved = device.follow(fleet.broker())
    for sha256 in resolved.documents:
        path = device.store.blob_path(sha256)
        path.write_bytes(path.read_bytes()[::-1])
    device.boot()

    assert device.trust.remembered() is None
    assert device.follow(fleet.broker()).wishes == resolved.wishes


def test_a_damaged_file_is_told(device: Device, fleet: Fleet) -> None:
    device.follow(fleet.broker())
    path = device.config.state_dir / "tuf" / "timestamp.json"
    path.write_bytes(path.read_bytes()[:-20])

    device.boot()

    assert any("timestamp.json" in problem.detail for problem in device.trust.damage)


def test_what_was_verified_is_kept_even_when_something_behind_it_is_refused(device: Device, fleet: Fleet) -> None:
    device.follow(fleet.broker())
    fleet.push(2)
    broker = fleet.broker()
    missing = device.trust.look(broker.roots, broker.timestamp, final=True)

    assert isinstance(missing, Missing)
    assert (device.config.state_dir / "tuf" / "timestamp.json").read_bytes() == broker.timestamp
