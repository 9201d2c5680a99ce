"""Fixtures of the tests that run everything for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import MosquittoBroker, TestBroker, broker, mosquitto, tls_broker
from tests.system.harness import System, system

__all__ = ["broker", "fleet", "mosquitto", "mosquitto_fleet", "mosquitto_tls_fleet", "tls_broker"]


@pytest.fixture
def fleet(tmp_path: Path, broker: TestBroker) -> Iterator[System]:
    with system(tmp_path / "system", broker) as made:
        yield made


@pytest.fixture
def mosquitto_fleet(tmp_path: Path, mosquitto: MosquittoBroker) -> Iterator[System]:
    with system(tmp_path / "system", mosquitto) as made:
        yield made


@pytest.fixture
def mosquitto_tls_fleet(tmp_path: Path, tls_broker: TestBroker) -> Iterator[System]:
    with system(tmp_path / "system", tls_broker) as made:
        yield made
