"""The block server on real brokers: what it answers, what it says of itself, and how it survives."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.brokers import TestBroker

from edgeferry.fleet.blockserver import MAX_OPEN_BLOBS, BlobFiles, BlockServer, OriginSettings
from edgeferry.fleet.operator import Login, Operator, Received
from edgeferry.fleet.settings import parse_broker_url
from edgeferry.wire.blocks import Block, BlockRequest
from edgeferry.wire.codec import encode
from edgeferry.wire.topics import TopicKind, Topics

TOPICS = Topics()
SHA256 = "ab" * 32


def open_files(folder: Path) -> int:
    """Return how many files below ``folder`` this process has open; others may come and go meanwhile."""
    return sum(link.startswith(f"{folder}/") for link in map(_target, Path("/proc/self/fd").iterdir()))


def _target(descriptor: Path) -> str:
    with contextlib.suppress(OSError):  # the one that the listing itself had open
        return str(descriptor.readlink())
    return ""


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / SHA256
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def operator(broker: TestBroker) -> Iterator[Operator]:
    with Operator(parse_broker_url(broker.url), login(broker), client_id="operator-test") as connected:
        yield connected


def login(broker: TestBroker) -> Login:
    return Login("operator", broker.passwords["operator"])


def server(
    broker: TestBroker,
    blob: Path,
    *,
    rate_bytes_s: float = 0.0,
    is_lasting: bool = False,
    on_connected: Callable[[Operator], None] = lambda _: None,
) -> BlockServer:
    return BlockServer(
        parse_broker_url(broker.url),
        login(broker),
        TOPICS,
        OriginSettings("o1", rate_bytes_s, is_lasting),
        lambda sha256: blob if sha256 == SHA256 else None,
        on_connected=on_connected,
    )


def ask(operator: Operator, first: int, count: int, *, sha256: str = SHA256, origin: str = "") -> None:
    request = BlockRequest(v=1, transfer=3, sha256=sha256, block_bytes=65536, first=first, count=count, origin=origin)
    operator.publish(TOPICS.blob_request("pi-1"), encode(request))


def blocks(operator: Operator, wanted: int, timeout_s: float = 10.0) -> dict[int, bytes]:
    received: dict[int, bytes] = {}
    for message in operator.received_within(timeout_s):
        if isinstance(message, Received) and message.topic.endswith("/blk"):
            block = Block.from_bytes(message.payload)
            received[block.index] = bytes(block.data)
        if len(received) == wanted:
            break
    return received


def await_payload(operator: Operator, payload: bytes) -> Received:
    for message in operator.received_within(10.0):
        if isinstance(message, Received) and message.payload == payload:
            return message
    raise AssertionError(f"{payload!r} was not said")


@pytest.mark.broker
def test_the_blocks_that_were_asked_for_come(broker: TestBroker, operator: Operator, blob: Path) -> None:
    operator.subscribe(TOPICS.device("pi-1", TopicKind.BLOCK))
    with server(broker, blob):
        ask(operator, 0, 5)

        received = blocks(operator, 5)

    assert b"".join(received[index] for index in range(5)) == blob.read_bytes()


@pytest.mark.broker
def test_garbage_foreign_requests_and_unknown_blobs_are_passed_over(
    broker: TestBroker, operator: Operator, blob: Path
) -> None:
    operator.subscribe(TOPICS.device("pi-1", TopicKind.BLOCK))
    with server(broker, blob):
        operator.publish(TOPICS.blob_request("pi-1"), b"\xff garbage")
        ask(operator, 0, 1, origin="somebody-else")
        ask(operator, 0, 1, sha256="cd" * 32)
        ask(operator, 4, 1)

        received = blocks(operator, 1)

    assert set(received) == {4}


@pytest.mark.broker
def test_an_origin_of_a_push_says_online_and_is_forgotten_at_its_end(
    broker: TestBroker, operator: Operator, blob: Path
) -> None:
    operator.subscribe(TOPICS.origin("o1"))
    with server(broker, blob):
        await_payload(operator, b"online")

    await_payload(operator, b"")


@pytest.mark.broker
def test_a_lasting_origin_says_offline_at_its_end(broker: TestBroker, operator: Operator, blob: Path) -> None:
    operator.subscribe(TOPICS.origin("o1"))

    with server(broker, blob, is_lasting=True):
        await_payload(operator, b"online")

    await_payload(operator, b"offline")


@pytest.mark.broker
def test_after_a_broker_restart_it_says_everything_again_and_serves(broker: TestBroker, blob: Path) -> None:
    greeted: list[Operator] = []
    with server(broker, blob, on_connected=greeted.append):
        broker.stop()
        broker.start()
        with Operator(parse_broker_url(broker.url), login(broker), client_id="operator-late") as late:
            late.subscribe(TOPICS.origin("o1"), TOPICS.device("pi-1", TopicKind.BLOCK))
            await_payload(late, b"online")
            ask(late, 0, 1)

            assert set(blocks(late, 1)) == {0}

    assert len(greeted) == 1


@pytest.mark.broker
def test_the_rate_limit_holds(broker: TestBroker, operator: Operator, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(100 * 65536))
    operator.subscribe(TOPICS.device("pi-1", TopicKind.BLOCK))
    with server(broker, big, rate_bytes_s=8e6):
        began = time.monotonic()
        for first in range(0, 80, 16):
            ask(operator, first, 16)
            blocks(operator, 16)

        elapsed_s = time.monotonic() - began

    assert elapsed_s >= (80 * 65536 - (4 << 20)) / 8e6  # what is beyond the burst takes its time


def test_the_files_of_the_last_blobs_stay_open_and_no_more(tmp_path: Path) -> None:
    for number in range(MAX_OPEN_BLOBS + 5):
        (tmp_path / str(number)).write_bytes(str(number).encode())
    files = BlobFiles(lambda name: tmp_path / name)

    read = [files.read(str(number), 0, 10) for number in range(MAX_OPEN_BLOBS + 5)]

    assert read == [str(number).encode() for number in range(MAX_OPEN_BLOBS + 5)]
    assert open_files(tmp_path) == MAX_OPEN_BLOBS
    files.close()
    assert open_files(tmp_path) == 0
