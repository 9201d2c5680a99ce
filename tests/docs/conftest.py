"""Fixtures of the tests of the examples."""

from tests.system.conftest import broker, fleet

__all__ = ["broker", "fleet"]
