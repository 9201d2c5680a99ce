"""Whether a broker lets this device in: name, port, TLS, password, access rules, one after the other.

The visit uses a client id of its own, so that a broker does not throw the running agent out.
"""

import queue
import secrets
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edgeferry.agent.config import BrokerUrl
from edgeferry.agent.doctor.finding import Finding, fine, problem

__all__ = ["Credentials", "examine_broker"]

PATIENCE_S = 10.0

_JOIN_AGAIN = "join again: on the workstation `edgeferry token ID --renew`, and here `edgeferry-agent init --force`"
_LET_IN = "see whether it knows this device and its password: look at its log, and at `edgeferry token` for a new one"


class Credentials:
    """Who this device is at the broker; the password is in no text of it."""

    def __init__(self, user: str, password: str, ca_file: Path | None) -> None:
        self.user = user
        self.password = password
        self.ca_file = ca_file


def examine_broker(
    url: BrokerUrl, credentials: Credentials, subscriptions: Sequence[str], *, patience_s: float = PATIENCE_S
) -> Finding:
    """Return how far this device gets with one broker.

    Args:
        url: The broker.
        credentials: Of this device.
        subscriptions: Filters that an agent needs.
        patience_s: For each step.
    """
    try:
        with socket.create_connection((url.host, url.port), timeout=patience_s) as plain:
            if url.tls:
                with _context(credentials).wrap_socket(plain, server_hostname=url.host):
                    pass
    except (OSError, ssl.SSLError) as err:
        return _unreachable(url, err)
    return _visited(url, credentials, subscriptions, patience_s)


def _context(credentials: Credentials) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=credentials.ca_file)


def _unreachable(url: BrokerUrl, err: OSError) -> Finding:
    match err:
        case socket.gaierror():
            advice = f"see whether DNS knows the name (`getent hosts {url.host}`), or use an address in broker.urls"
        case ssl.SSLCertVerificationError():
            advice = (
                "see whether the clock is right, whether ca_file is the certificate that signed the broker's, and"
                f" whether that names {url.host}"
            )
            return problem("broker", f"{url}: its certificate is not believed: {err.verify_message}", advice)
        case ssl.SSLError():
            advice = "it does not speak TLS on this port, or refuses ours: mqtts:// is usually port 8883, mqtt:// 1883"
        case ConnectionRefusedError():
            advice = f"nobody listens on port {url.port} there: start the broker, or correct broker.urls"
        case TimeoutError():
            advice = "no answer: see whether the network is up (`ping`), and whether a firewall is in between"
        case _:
            advice = "see whether the network is up, and whether broker.urls is right"
    return problem("broker", f"{url}: {err.strerror or err}", advice)


def _visited(url: BrokerUrl, credentials: Credentials, subscriptions: Sequence[str], patience_s: float) -> Finding:
    """Return what comes of a visit in MQTT 5, or in 3.1.1 where that is not understood, as the agent does it."""
    visit = _Visit(url, credentials, mqtt.MQTTv5, patience_s)
    try:
        word = visit.knock()
        if isinstance(word, str) or word.getName() == "Unsupported protocol version":
            visit.leave()
            visit = _Visit(url, credentials, mqtt.MQTTv311, patience_s)
            word = visit.knock()
        return _judged(url, credentials.user, word, visit, subscriptions)
    except OSError as err:
        return _unreachable(url, err)
    finally:
        visit.leave()


def _judged(
    url: BrokerUrl,
    user: str,
    word: ReasonCode | str,
    visit: "_Visit",
    subscriptions: Sequence[str],
) -> Finding:
    """Return what the broker's word on our coming in means, and its words on what we want to hear."""
    if isinstance(word, str):
        return problem("broker", f"{url}: {word}", _LET_IN)
    if word.is_failure:
        return problem("credentials", f"{url} does not let {user!r} in: {word}", _JOIN_AGAIN)
    codes = visit.ask_to_hear(subscriptions)
    if len(codes) != len(subscriptions):
        return problem("broker", f"{url}: lets us in, and does not answer a subscription", _LET_IN)
    refused = [pattern for pattern, code in zip(subscriptions, codes, strict=True) if code.is_failure]
    if refused:
        advice = "give the broker the access rules of docs/protocol.md"
        return problem("credentials", f"{url}: {user!r} may not hear {', '.join(refused)}", advice)
    return fine("broker", f"{url} lets {user!r} in and hear all it needs")


class _Visit:
    """One connection, for as long as the questions take."""

    def __init__(
        self, url: BrokerUrl, credentials: Credentials, protocol: MQTTProtocolVersion, patience_s: float
    ) -> None:
        self._url = url
        self._patience_s = patience_s
        self._answers: queue.SimpleQueue[ReasonCode | list[ReasonCode] | str] = queue.SimpleQueue()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{credentials.user}-doctor-{secrets.token_hex(4)}",
            protocol=protocol,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(credentials.user, credentials.password)
        self._client.connect_timeout = patience_s
        if url.tls:
            self._client.tls_set_context(_context(credentials))
        self._client.on_connect = lambda _client, _userdata, _flags, code, _properties: self._answers.put(code)
        self._client.on_subscribe = lambda _client, _userdata, _mid, codes, _properties: self._answers.put(codes)
        self._client.on_disconnect = lambda *_: self._answers.put("it closed the connection without a word")

    def knock(self) -> ReasonCode | str:
        """Return the broker's word on our coming in, or what happened instead."""
        self._client.connect(self._url.host, self._url.port)
        self._client.loop_start()
        answer = self._next()
        return "it takes the connection and does not answer" if isinstance(answer, list) else answer

    def ask_to_hear(self, subscriptions: Sequence[str]) -> list[ReasonCode]:
        """Return a word on each subscription; none when there is no answer."""
        self._client.subscribe([(pattern, 0) for pattern in subscriptions])
        answer = self._next()
        return answer if isinstance(answer, list) else []

    def leave(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _next(self) -> ReasonCode | list[ReasonCode] | str:
        try:
            return self._answers.get(timeout=self._patience_s)
        except queue.Empty:
            return "it takes the connection and does not answer"
