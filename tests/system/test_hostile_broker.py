"""Each attack of TUF's and Uptane's lists by its name, by a broker that reads, drops, delays, replays, alters, invents.

One device goes through all of them. It runs what it ran, says why it does not take what it is offered, and takes the
next true version as soon as the broker is honest again.
"""

import hashlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Any

import psutil
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Timestamp

from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.operator import Login, Operator
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.settings import parse_broker_url
from edgeferry.wire.blocks import Block, BlockRequest, parse_block_request
from edgeferry.wire.desired import BlobRef, device_document_path, manifest_path
from tests.brokers import MosquittoBroker, free_port
from tests.models import artifact_folder
from tests.system.harness import Agent, System, system, wait_until
from tests.system.hostile import HostileBroker, Rule, Said, let_pass

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("hostile-broker")]

DOORBELL = "edgeferry/v1/tuf/timestamp"
REQUESTS = "edgeferry/v1/blob/req/pi"
BLOCKS = "edgeferry/v1/d/pi/blk"
# A test machine's clock may not be synchronised, and then a device does not believe it.
_WITH_A_SYNCHRONISED_CLOCK = """
from edgeferry.agent import clock
clock.is_synchronised = lambda: True
from edgeferry.agent.cli import main
main()
"""
EVIL = b"\x1c\0\0\0TFL3" + b"evil" * 100_000


@dataclass
class Victim:
    """A fleet, a device whose only way to it is a hostile broker, and what the device runs."""

    fleet: System
    agent: Agent
    hostile: HostileBroker
    version: int = 0
    newest: int = 0

    def build(self) -> Path:
        """Return the artifacts of a new version; their model has several blocks."""
        self.newest += 1
        return artifact_folder(self.fleet.folder / "build", version=self.newest, features=20_000).parent

    def push(self, *, timeout_s: int = 60) -> int:
        """Push the next version; return the exit code."""
        return self.fleet.run("push", str(self.build()), "--to", "pi", "--timeout", str(timeout_s)).exit_code

    def start_push(self) -> None:
        """Push the next version, and serve it for as long as the test takes."""
        self.fleet.start("push", str(self.build()), "--to", "pi", "--timeout", "600")

    def ends_attack(self) -> None:
        """The broker is honest again, and what was pushed meanwhile arrives."""
        self.hostile.rule = let_pass
        self.arrives()
        self.runs_what_it_ran()

    def arrives(self) -> None:
        """What was pushed arrives, whatever the broker does."""
        wait_until(
            lambda: self.agent.saved_version("digits") == self.newest,
            f"version {self.newest}",
            tell=lambda: self.agent.log[-3000:],
        )
        self.version = self.newest

    def reported(self) -> dict[str, Any]:
        """Return what the device says of itself, as it reaches the broker."""
        said = self.hostile.heard("d/pi/state", to_device=False)
        return json.loads(said[-1].payload) if said else {}

    def generation(self) -> int:
        """Return the generation that the device has seen."""
        return int(self.reported().get("generation", 0))

    def reports(self, reason: str) -> None:
        """Return as soon as the device gives ``reason`` for not doing as it was told."""

        def gives_it() -> bool:
            state = self.reported()
            return reason in {(state.get(field) or {}).get("reason") for field in ("metadata", "waiting")}

        wait_until(gives_it, f"{reason} to be reported", tell=lambda: f"{self.reported()}\n{self.agent.log[-3000:]}")

    def runs_what_it_ran(self) -> None:
        """The model that was active is active, and answers."""
        assert self.agent.saved_version("digits") == self.version
        url = f"http://127.0.0.1:{self.agent.http_port}/v2/models/digits/versions/{self.version}/ready"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200

    def recovers(self) -> None:
        """The broker is honest again, and the device takes the next true version."""
        self.hostile.rule = let_pass
        assert self.push() == 0, self.agent.log[-3000:]
        self.version = self.newest
        self.runs_what_it_ran()

    def says(self, topic: str, data: bytes) -> None:
        """Say something on the real broker, as the operator."""
        broker = self.fleet.broker
        login = Login("operator", broker.passwords["operator"])
        with Operator(parse_broker_url(broker.url), login, client_id="test") as operator:
            operator.publish_acknowledged(topic, data, retain=True)

    def publication(self) -> Publication:
        return Publication.load(self.fleet.fleet_dir)

    def manifest_sha256(self, path: str) -> str:
        return self.publication().files[path].sha256

    def blob(self, ref: BlobRef) -> bytes:
        return (self.fleet.fleet_dir / "blobs" / ref.sha256).read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "broker").mkdir()
    broker = MosquittoBroker(folder / "broker", passwords={"operator": "x"})
    broker.start()
    with ExitStack() as stack:
        stack.callback(broker.stop)
        fleet = stack.enter_context(system(folder / "system", broker))
        hostile = stack.enter_context(HostileBroker(free_port(), broker.port))
        agent = fleet.add_agent("pi")
        agent.config.write_text(agent.config.read_text().replace(f":{broker.port}", f":{hostile.port}"))
        agent.program = ("-c", _WITH_A_SYNCHRONISED_CLOCK)
        agent.start()
        fleet.wait_online("pi")
        victim = Victim(fleet, agent, hostile)
        victim.recovers()
        yield victim


@pytest.fixture
def victim(made: Victim) -> Iterator[Victim]:
    """The device, on an honest broker until the test says otherwise, and again afterwards."""
    made.hostile.rule = let_pass
    made.version = made.agent.saved_version("digits")
    with ExitStack() as stack:
        made.fleet.stack = stack
        yield made
        made.hostile.rule = let_pass


def frames_of(request: BlockRequest, data: bytes) -> Iterator[bytes]:
    """Yield what is asked for as blocks with right headers and check sums, and with the content of ``data``."""
    size, prefix = request.block_bytes, bytes.fromhex(request.sha256)[:8]
    for index in request.indices():
        yield Block(request.transfer, prefix, index, data[index * size : (index + 1) * size]).to_bytes()


def instead(bytes_for: Callable[[BlockRequest], bytes | None], asked: list[str] | None = None) -> Rule:
    """Return the rule of a broker that answers some block requests itself; what it has nothing for, it passes on."""

    def rule(said: Said) -> Iterable[Said]:
        if said.topic != REQUESTS or said.to_device:
            return [said]
        request = parse_block_request(said.payload)
        if asked is not None:
            asked.append(request.sha256)
        data = bytes_for(request)
        return [said] if data is None else [Said(BLOCKS, frame) for frame in frames_of(request, data)]

    return rule


def test_arbitrary_software_is_never_installed(victim: Victim) -> None:
    def replace_models(said: Said) -> Iterable[Said]:
        if said.topic != BLOCKS:
            return [said]
        block = Block.from_bytes(said.payload)
        return [said.altered(replace(block, data=EVIL[: len(block.data)]).to_bytes())]

    victim.hostile.rule = replace_models
    victim.start_push()

    victim.reports("BLOB_MISMATCH")
    victim.runs_what_it_ran()
    victim.ends_attack()


def test_rollback_to_what_was_true_once_is_refused(victim: Victim) -> None:
    older = victim.hostile.heard(DOORBELL, to_device=True)[-1]
    victim.recovers()

    victim.hostile.invent(older.topic, older.payload, retain=True)

    victim.reports("METADATA_ROLLBACK")
    victim.runs_what_it_ran()
    victim.recovers()


def test_freeze_is_noticed_when_the_metadata_expires(victim: Victim) -> None:
    repository = Repository.open(victim.fleet.fleet_dir)
    assert repository.renew(datetime.now(UTC), lifetime=timedelta(seconds=8))
    frozen = repository.timestamp()
    expires = repository.expiries()[KeyRole.TIMESTAMP]
    snapshot = victim.blob(victim.publication().snapshot.ref())
    victim.hostile.rule = instead(lambda _: snapshot)  # an origin would renew what lives for so short a time
    victim.hostile.invent("edgeferry/v1/origin/x/availability", b"online", retain=True)
    victim.says(DOORBELL, frozen)
    wait_until(lambda: victim.generation() == repository.generation, "the device to believe it")
    victim.hostile.invent("edgeferry/v1/origin/x/availability", b"", retain=True)

    victim.hostile.rule = lambda said: [said.altered(frozen)] if said.topic == DOORBELL and said.to_device else [said]
    assert victim.push(timeout_s=1) != 0
    wait_until(lambda: datetime.now(UTC) > expires, "the metadata to expire")
    victim.agent.kill()
    victim.agent.start()

    victim.reports("METADATA_EXPIRED")
    victim.agent.wait_for_line("the serving process answers", times=2)
    victim.agent.wait_for_line(f"digits {victim.version} is stable", times=2)
    victim.runs_what_it_ran()
    victim.start_push()
    victim.ends_attack()


def test_fast_forward_without_a_key_is_refused(victim: Victim) -> None:
    timestamp = Metadata[Timestamp].from_bytes(Repository.open(victim.fleet.fleet_dir).timestamp())
    timestamp.signed.version = 10**9

    victim.hostile.invent(DOORBELL, timestamp.to_bytes(), retain=True)

    victim.reports("METADATA_UNSIGNED")
    victim.runs_what_it_ran()
    victim.recovers()


def test_fast_forward_by_a_thief_of_the_timestamp_key_ends_with_that_key(victim: Victim) -> None:
    victim.recovers()
    repository = Repository.open(victim.fleet.fleet_dir)
    timestamp = Metadata[Timestamp].from_bytes(repository.timestamp())
    timestamp.signed.version = 10**9
    (thief,) = repository.keys.signers(KeyRole.TIMESTAMP, Rekeying(repository).keyids()[KeyRole.TIMESTAMP])
    timestamp.sign(thief)
    victim.hostile.invent(DOORBELL, timestamp.to_bytes(), retain=True)
    wait_until(lambda: victim.generation() == 10**9, "the device to believe it")
    assert victim.push(timeout_s=2) != 0
    victim.reports("METADATA_ROLLBACK")
    victim.runs_what_it_ran()

    for role in ("snapshot", "timestamp"):
        victim.fleet.must("keys", "rotate", role)

    victim.start_push()
    victim.ends_attack()


def test_mix_and_match_of_an_older_snapshot_with_a_newer_timestamp_is_refused(victim: Victim) -> None:
    older = victim.blob(victim.publication().snapshot.ref())

    def snapshot_of_before(request: BlockRequest) -> bytes | None:
        return older if request.sha256 == victim.publication().snapshot.sha256 else None

    victim.hostile.rule = instead(snapshot_of_before)
    victim.start_push()

    victim.reports("BLOB_MISMATCH")
    victim.runs_what_it_ran()
    victim.ends_attack()


def test_endless_data_fills_neither_memory_nor_disk(victim: Victim) -> None:
    process = psutil.Process(victim.agent.pid)
    before = process.memory_info().rss
    sent = 0

    def flood(request: BlockRequest) -> bytes | None:
        nonlocal sent
        prefix = bytes.fromhex(request.sha256)[:8]
        for index in range(1000):  # 64 MB for each request, blocks of any number and length among them
            data = EVIL[: 64 * 1024 + index % 3 - 1]
            victim.hostile.invent(BLOCKS, Block(request.transfer, prefix, index * index, data).to_bytes())
            sent += len(data)
        return EVIL

    victim.hostile.rule = instead(flood)
    victim.start_push()
    victim.reports("BLOB_MISMATCH")
    victim.hostile.invent(DOORBELL, b"[" * 900_000)
    wait_until(lambda: sent > 300_000_000, "300 MB to be sent")

    victim.runs_what_it_ran()
    assert process.memory_info().rss - before < 64 << 20
    assert sum(path.stat().st_size for path in victim.agent.state_dir.rglob("*") if path.is_file()) < 64 << 20
    victim.ends_attack()


def test_slow_retrieval_is_told_by_the_push_and_ends_nothing(victim: Victim) -> None:
    def trickle(said: Said) -> Iterable[Said]:
        if said.topic != BLOCKS:
            return [said]
        Timer(1.5, victim.hostile.invent, (said.topic, said.payload)).start()
        return []

    victim.hostile.rule = trickle
    done = victim.fleet.run("push", str(victim.build()), "--to", "pi", "--timeout", "2")

    assert done.exit_code == 1
    assert "after 2 s" in done.stderr
    victim.runs_what_it_ran()
    victim.start_push()
    victim.ends_attack()


def test_an_extraneous_dependency_is_not_even_asked_for(victim: Victim) -> None:
    extra = hashlib.sha256(EVIL).hexdigest()
    asked: list[str] = []

    def with_extra_blob(request: BlockRequest) -> bytes | None:
        path = manifest_path("digits", victim.newest, "generic-x86-64")
        ref = victim.publication().files.get(path)
        if ref is None or request.sha256 != victim.manifest_sha256(path):
            return None
        true = json.loads(victim.blob(BlobRef(sha256=request.sha256, size_bytes=0)))
        true["blobs"].append({**true["blobs"][0], "role": "extra", "path": "extra", "sha256": extra})
        return json.dumps(true).encode()

    victim.hostile.rule = instead(with_extra_blob, asked)
    victim.start_push()

    victim.reports("BLOB_MISMATCH")
    victim.runs_what_it_ran()
    assert extra not in asked
    victim.ends_attack()


def test_wrong_software_of_another_device_is_refused(victim: Victim) -> None:
    victim.fleet.must("token", "other", "-p", "raspberry-pi-4", "--group", "elsewhere")

    def document_of_the_other(request: BlockRequest) -> bytes | None:
        own, other = (victim.publication().files[device_document_path(name)] for name in ("pi", "other"))
        return victim.blob(other) if request.sha256 == own.sha256 else None

    victim.hostile.rule = instead(document_of_the_other)
    victim.start_push()

    victim.reports("BLOB_MISMATCH")
    victim.runs_what_it_ran()
    victim.ends_attack()


def test_a_malicious_mirror_is_dropped_for_an_honest_one(victim: Victim) -> None:
    victim.hostile.rule = instead(lambda request: EVIL if request.origin == "evil" else None)
    victim.hostile.invent("edgeferry/v1/origin/evil/availability", b"online", retain=True)
    victim.start_push()

    victim.arrives()
    victim.runs_what_it_ran()
    victim.hostile.invent("edgeferry/v1/origin/evil/availability", b"", retain=True)


def test_a_partial_bundle_is_not_activated(victim: Victim) -> None:
    def without_the_last_block(said: Said) -> Iterable[Said]:
        return [] if said.topic == BLOCKS and Block.from_bytes(said.payload).index == 3 else [said]

    victim.hostile.rule = without_the_last_block
    victim.start_push()

    victim.reports("WAITING_FOR_ORIGIN")
    victim.runs_what_it_ran()
    victim.ends_attack()


def test_drop_request_is_reported_and_nothing_is_lost(victim: Victim) -> None:
    victim.hostile.rule = lambda said: [] if said.topic == REQUESTS else [said]
    victim.start_push()

    victim.reports("WAITING_FOR_ORIGIN")
    victim.runs_what_it_ran()
    victim.ends_attack()


def test_replayed_and_forged_requests_change_nothing(victim: Victim) -> None:
    wishes = [said for said in victim.hostile.seen if said.to_device]
    for said in [*wishes, *reversed(wishes)]:
        victim.hostile.invent(said.topic, said.payload, retain=said.retain)
    for method in ("ping", "get", "logs.tail", "bench", "install", "rollback", "..", "set"):
        for body in (b"", b"{}", b"\xff", b'{"id":"1","reply_to":"edgeferry/v1/d/other/res/x","deadline_ms":1}', EVIL):
            victim.hostile.invent(f"edgeferry/v1/d/pi/req/{method}", body)
            victim.hostile.invent(f"edgeferry/v1/all/req/{method}", body)

    last = {"id": "last", "reply_to": "edgeferry/v1/d/pi/res/test", "deadline_ms": int(time.time() * 1000) + 60_000}
    victim.hostile.invent("edgeferry/v1/d/pi/req/ping", json.dumps(last).encode())
    wait_until(lambda: victim.hostile.heard("d/pi/res/test", to_device=False), "the device to get so far")
    victim.runs_what_it_ran()
    assert not [said for said in victim.hostile.seen if not said.to_device and "/d/other/" in said.topic]
    victim.recovers()


def test_one_stolen_root_key_of_two_that_have_to_sign_changes_nothing(victim: Victim, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.touch(mode=0o600)
    secret.write_text("five words are good enough")
    with_secret = ("--passphrase-file", str(secret))
    victim.fleet.must("keys", "new", str(tmp_path / "bob"), *with_secret)
    assert victim.fleet.run("keys", "add", "root", str(tmp_path / "bob.public.json"), "--threshold", "2").exit_code == 3
    victim.fleet.must("keys", "export", str(tmp_path / "root.json"))
    victim.fleet.must(
        "keys", "sign", str(tmp_path / "root.json"), "--key", str(tmp_path / "bob.locked"), "--yes", *with_secret
    )
    victim.fleet.must("keys", "import", str(tmp_path / "root.json"))
    victim.recovers()

    repository = Repository.open(victim.fleet.fleet_dir)
    stolen = repository.keys.signers(KeyRole.ROOT, Rekeying(repository).keyids()[KeyRole.ROOT])
    thief = CryptoSigner.generate_ed25519()
    root = Metadata[Root].from_bytes(max(repository.roots().items())[1])
    root.signatures.clear()
    root.signed.version += 1
    root.signed.roles[Root.type].threshold = 1
    root.signed.revoke_key(root.signed.roles[Timestamp.type].keyids[0], Timestamp.type)
    root.signed.add_key(thief.public_key, Timestamp.type)
    for signer in stolen:
        root.sign(signer, append=True)
    timestamp = Metadata[Timestamp].from_bytes(repository.timestamp())
    timestamp.signed.version += 1
    timestamp.signed.unrecognized_fields["root_version"] = root.signed.version
    timestamp.sign(thief)
    victim.hostile.invent(f"edgeferry/v1/tuf/root.{root.signed.version}", root.to_bytes(), retain=True)
    victim.hostile.invent(DOORBELL, timestamp.to_bytes(), retain=True)

    assert len(stolen) == 1
    victim.reports("METADATA_UNSIGNED")
    victim.runs_what_it_ran()
    victim.recovers()
