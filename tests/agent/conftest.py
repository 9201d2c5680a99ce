"""Fixtures of the agent's tests."""

from tests.brokers import broker, tls_broker

__all__ = ["broker", "tls_broker"]
