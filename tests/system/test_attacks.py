"""A hostile broker and a hostile origin: what they alter is refused with a code, and the old model serves on."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from edgeferry.fleet.operator import Login, Operator
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.settings import parse_broker_url
from edgeferry.wire.topics import Topics
from tests.brokers import TestBroker
from tests.models import artifact_folder
from tests.system.harness import Agent, System, wait_until

pytestmark = pytest.mark.broker

TOPICS = Topics()


@pytest.fixture
def victim(fleet: System) -> tuple[System, Agent]:
    """A device on which version 1 is active."""
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=1).parent))
    return fleet, agent


@pytest.fixture
def attacker(fleet: System) -> Iterator[Operator]:
    """Somebody who has taken over the broker and may say anything on it."""
    with ExitStack() as stack:
        yield stack.enter_context(connected(fleet.broker))


def connected(broker: TestBroker) -> Operator:
    login = Login("operator", broker.passwords["operator"], broker.ca_pem)
    return Operator(parse_broker_url(broker.url), login, client_id="attacker")


def publish_timestamp(attacker: Operator, data: bytes) -> None:
    attacker.publish_acknowledged(TOPICS.tuf_timestamp(), data, retain=True)


def refusal(fleet: System) -> str:
    return str((fleet.state_of("pi").get("metadata") or {}).get("reason", ""))


def timestamp(fleet: System) -> bytes:
    return Repository.open(fleet.fleet_dir).timestamp()


def publish_unsigned_wish(fleet: System, attacker: Operator) -> None:
    said = json.loads(timestamp(fleet))
    said["signed"]["version"] += 1
    said["signatures"][0]["sig"] = "00" * 64
    publish_timestamp(attacker, json.dumps(said).encode())


def publish_altered_wish(fleet: System, attacker: Operator) -> None:
    said = json.loads(timestamp(fleet))
    said["signed"]["version"] += 1
    publish_timestamp(attacker, json.dumps(said).encode())


def publish_garbage(_fleet: System, attacker: Operator) -> None:
    publish_timestamp(attacker, b"\x00garbage")


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (publish_unsigned_wish, "METADATA_UNSIGNED"),
        (publish_altered_wish, "METADATA_UNSIGNED"),
        (publish_garbage, "METADATA_MALFORMED"),
    ],
)
def test_a_forged_wish_is_refused_with_a_code(
    victim: tuple[System, Agent], attacker: Operator, attack: object, reason: str
) -> None:
    fleet, agent = victim

    attack(fleet, attacker)  # type: ignore[operator]

    wait_until(lambda: refusal(fleet) == reason, f"{reason} to be reported")
    assert fleet.stable_version("pi") == 1
    events = "".join(path.read_text() for path in (agent.state_dir / "spool").glob("*.jsonl"))
    assert '"metadata_refused"' in events


def test_older_metadata_is_refused_with_a_code(victim: tuple[System, Agent], attacker: Operator) -> None:
    fleet, _ = victim
    older = timestamp(fleet)
    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=2).parent))

    publish_timestamp(attacker, older)

    wait_until(lambda: refusal(fleet) == "METADATA_ROLLBACK", "METADATA_ROLLBACK to be reported")
    assert fleet.stable_version("pi") == 2


def test_a_model_changed_by_one_bit_never_becomes_active(victim: tuple[System, Agent], attacker: Operator) -> None:
    fleet, _ = victim
    repository = Repository.open(fleet.fleet_dir)
    (manifest,) = repository.add_artifacts(artifact_folder(fleet.folder / "build", version=2, features=20_000).parent)
    repository.wish("digits", 2, "all")
    repository.publish(datetime.now(UTC))
    stored = repository.blob_path(manifest.blob("model").sha256)
    assert stored is not None
    stored.chmod(0o600)
    altered = bytearray(stored.read_bytes())
    altered[100_000] ^= 1
    stored.write_bytes(altered)

    fleet.start("origin")
    publish_timestamp(attacker, repository.timestamp())

    def obstacle() -> object:
        return (fleet.state_of("pi").get("waiting") or {}).get("reason")

    wait_until(lambda: obstacle() == "BLOB_MISMATCH", "BLOB_MISMATCH to be reported")
    assert fleet.stable_version("pi") == 1


def test_after_an_attack_the_next_push_works(victim: tuple[System, Agent], attacker: Operator) -> None:
    fleet, _ = victim
    publish_unsigned_wish(fleet, attacker)
    wait_until(lambda: refusal(fleet) == "METADATA_UNSIGNED", "METADATA_UNSIGNED to be reported")

    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=2).parent))

    assert fleet.stable_version("pi") == 2
    assert refusal(fleet) == ""
