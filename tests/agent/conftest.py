"""Fixtures of the agent's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import broker, tls_broker

__all__ = ["broker", "memory_path", "tls_broker"]


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """Yield a folder in memory, where there is one: hundreds of lives that sync every write take minutes on a disk."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="edgeferry-test-", dir=shared if shared.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
