"""A connection that follows the whole fleet: subscribes, collects what is retained, and keeps the view up to date."""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from edgeferry.fleet.conflicts import Said
from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.operator import BrokerError, Connected, Login, Operator, Received
from edgeferry.fleet.settings import BrokerUrl
from edgeferry.wire.topics import TopicKind, Topics

__all__ = ["FleetWatch", "say_metadata"]

_SETTLE_TIMEOUT_S = 10.0
_QUIET_S = 0.1  # the embedded broker may send the marker before the last retained messages
_DOORBELL_TIMEOUT_S = 10.0


class FleetWatch:
    """Follows every device of the fleet on one connection.

    Args:
        url: The broker.
        login: Who watches.
        topics: The fleet's topics.
    """

    def __init__(self, url: BrokerUrl, login: Login, topics: Topics) -> None:
        self.view = FleetView(topics)
        self.operator = Operator(url, login, client_id=f"{login.user}-watch-{secrets.token_hex(4)}"[-64:])
        self.said = Said()
        self._root_topics: dict[str, int] = {}
        self._topics = topics

    def __enter__(self) -> Self:
        self.operator.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.operator.close()

    def collect(self, device: str = "+") -> FleetView:
        """Subscribe to what devices say of themselves and return the view when all that is retained has come.

        ``device`` is one of them, or ``+`` for all.

        A message to ourselves, sent after the subscriptions, tells when: brokers keep the order of one client.

        Raises:
            BrokerError: The message did not come back.
        """
        self._collect(*(self._topics.device(device, kind) for kind in _KINDS))
        return self.view

    def hear(self, root_versions: Iterable[int]) -> Said:
        """Return what the broker says is published: the timestamp, and the roots of these versions.

        Raises:
            BrokerError: As `collect`.
        """
        self._root_topics = {self._topics.tuf_root(version): version for version in root_versions}
        self._collect(self._topics.tuf_timestamp(), *self._root_topics)
        return self.said

    def _collect(self, *topics: str) -> None:
        """Subscribe and return when all that is retained there has come."""
        marker = self._topics.response(self.operator.client_id, self.operator.client_id)
        self.operator.subscribe(marker)
        self.operator.subscribe(*topics)
        self.operator.publish(marker, b"")
        if not any(_is_on(message, marker) for message in self._taking_in(_SETTLE_TIMEOUT_S)):
            raise BrokerError(
                f"the broker did not send back a message to ourselves within {_SETTLE_TIMEOUT_S:.0f} s; may this user "
                f"read and write below {self._topics.root}/?"
            )
        while self.follow(_QUIET_S) is not None:
            pass

    def follow(self, timeout_s: float) -> Received | Connected | None:
        """Take in the next message and return it; None when none came in time."""
        message = self.operator.receive(timeout_s)
        if isinstance(message, Received):
            self.view.apply(message.topic, message.payload, message.received_at)
            self._note_said(message)
        return message

    def _note_said(self, message: Received) -> None:
        if message.topic == self._topics.tuf_timestamp():
            self.said.timestamp = message.payload
        elif message.topic in self._root_topics:
            self.said.roots[self._root_topics[message.topic]] = message.payload

    def ring(self, roots: Mapping[int, bytes], timestamp: bytes) -> None:
        """Say the signed metadata, the timestamp last, and return when the broker gives it back.

        Raises:
            BrokerError: The broker did not acknowledge, or did not keep what was said.
        """
        doorbell = self._topics.tuf_timestamp()
        self.say(roots, timestamp)
        self.operator.subscribe(doorbell)
        for message in self._taking_in(_DOORBELL_TIMEOUT_S):
            if isinstance(message, Received) and message.topic == doorbell and message.payload == timestamp:
                return
        raise BrokerError(
            f"the broker did not keep {doorbell}; may this user write there, and does it retain messages?"
        )

    def say(self, roots: Mapping[int, bytes], timestamp: bytes) -> None:
        """Say the signed metadata, the timestamp last, each acknowledged.

        Raises:
            BrokerError: The broker did not acknowledge in time.
        """
        say_metadata(self.operator, self._topics, roots, timestamp)

    def _taking_in(self, timeout_s: float) -> Iterator[Received | Connected]:
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            message = self.follow(left_s)
            if message is not None:
                yield message


def say_metadata(operator: Operator, topics: Topics, roots: Mapping[int, bytes], timestamp: bytes) -> None:
    """Say every root in order, then the timestamp: the doorbell rings when all else is there.

    Raises:
        BrokerError: The broker did not acknowledge in time.
    """
    for version in sorted(roots):
        operator.publish_acknowledged(topics.tuf_root(version), roots[version], retain=True)
    operator.publish_acknowledged(topics.tuf_timestamp(), timestamp, retain=True)


_KINDS = (TopicKind.AVAILABILITY, TopicKind.INFO, TopicKind.STATE, TopicKind.TELEMETRY)


def _is_on(message: Received | Connected, topic: str) -> bool:
    return isinstance(message, Received) and message.topic == topic
