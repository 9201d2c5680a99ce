"""MQTT: a device, or any device of a group, behind a broker.

MQTT 5, or 3.1.1 where the broker refuses it. Answers come to one topic for each device, and are told apart by their
correlation. Source of the topics and bodies: docs/protocol.md.
"""

import math
import secrets
import ssl
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeferry.client.call import Answer, Call, arrays_of
from edgeferry.client.errors import InferenceError
from edgeferry.wire.codec import WireError, decode
from edgeferry.wire.messages import Code, Response
from edgeferry.wire.tensors import encode_request, pack_mqtt, unpack_mqtt
from edgeferry.wire.topics import Topics, check_id

__all__ = ["MqttTransport"]

_CONNECT_TIMEOUT_S = 10.0


class MqttTransport:
    """One connection to the broker; requests are told apart by their correlation."""

    def __init__(self, url: SplitResult, user: str, password: str, ca_file: Path | None, topic_root: str) -> None:
        self._url = url
        self._user = user
        self._password = password
        self._ca_file = ca_file
        self._topics = Topics(topic_root)
        addressee = url.path.strip("/")
        self._group = check_id(addressee.removeprefix("group:"), what="group") if addressee.startswith("group:") else ""
        self._device = "" if self._group else check_id(addressee, what="device")
        # Of a group any device may answer; in the request the device of the topic is but a place.
        self._reply_to = self._topics.response(self._device or self._group, user)
        self._answers = self._topics.response(self._device or "+", user)
        self._lock = threading.Lock()
        self._client: mqtt.Client | None = None
        self._waiting: dict[str, Future[bytes]] = {}
        self._subscribed = threading.Event()
        self._refusal = ""

    def infer(self, call: Call) -> Answer:
        """Return the answer."""
        deadline_s = time.monotonic() + call.timeout_s
        client = self._connected(min(call.timeout_s, _CONNECT_TIMEOUT_S))
        request_id = secrets.token_hex(8)
        future: Future[bytes] = Future()
        self._waiting[request_id] = future
        try:
            self._send(client, request_id, call, deadline_s - time.monotonic())
            return _answer_from(future.result(max(0.0, deadline_s - time.monotonic())))
        except FutureTimeoutError as err:
            asked = self._device or self._group
            detail = f"{asked} gave no answer within {call.timeout_s:g} s; is it online, and the user allowed?"
            raise InferenceError(Code.DEADLINE_EXCEEDED, detail) from err
        finally:
            self._waiting.pop(request_id, None)

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            client, self._client = self._client, None
        if client:
            client.disconnect()
            client.loop_stop()

    def _send(self, client: mqtt.Client, request_id: str, call: Call, left_s: float) -> None:
        speaks_5 = client.protocol == MQTTProtocolVersion.MQTTv5
        deadline_ms = int((time.time() + left_s) * 1000)
        address = {"reply_to": self._reply_to, "id": request_id, "deadline_ms": deadline_ms}
        key = {"routing_key": call.routing_key} if call.routing_key else {}
        parameters: dict[str, Any] = key if speaks_5 else {**address, **key}
        payload = pack_mqtt(*encode_request(call.tensors, request_id=request_id, parameters=parameters))
        properties = self._properties(request_id, left_s) if speaks_5 else None
        if self._group:
            info = client.publish(self._group_topic(call), payload, qos=1, properties=properties)
        else:
            topic = self._topics.infer(self._device, call.model, call.version)
            info = client.publish(topic, payload, qos=0, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise InferenceError(Code.UNAVAILABLE, f"the broker took no request: {mqtt.error_string(info.rc)}")

    def _group_topic(self, call: Call) -> str:
        if call.version:
            detail = f"version {call.version!r} cannot be asked of a group; ask one of its devices"
            raise InferenceError(Code.INVALID_ARGUMENT, detail)
        return self._topics.infer_group(self._group, call.model)

    def _properties(self, request_id: str, left_s: float) -> Properties:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.ResponseTopic = self._reply_to
        properties.CorrelationData = request_id.encode()
        properties.MessageExpiryInterval = max(1, math.ceil(left_s))
        return properties

    # Connecting

    def _connected(self, timeout_s: float) -> mqtt.Client:
        with self._lock:
            if self._client is None:
                self._client = self._connect(MQTTProtocolVersion.MQTTv5, timeout_s) or self._connect(
                    MQTTProtocolVersion.MQTTv311, timeout_s
                )
            if self._client is None:
                detail = f"broker {self._url.hostname} did not let {self._user!r} in: {self._refusal}"
                raise InferenceError(Code.UNAVAILABLE, detail)
            return self._client

    def _connect(self, protocol: MQTTProtocolVersion, timeout_s: float) -> mqtt.Client | None:
        self._subscribed.clear()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self._user, protocol=protocol)
        client.username_pw_set(self._user, self._password)
        if self._url.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context(cafile=self._ca_file))
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = lambda *_: self._subscribed.set()
        default_port = 8883 if self._url.scheme == "mqtts" else 1883
        try:
            client.connect(self._url.hostname or "", self._url.port or default_port)
        except OSError as err:
            detail = f"broker {self._url.hostname} cannot be reached: {err}"
            raise InferenceError(Code.UNAVAILABLE, detail) from err
        client.loop_start()
        if self._subscribed.wait(timeout_s) and not self._refusal:
            return client
        self._refusal = self._refusal or f"no answer within {timeout_s:g} s"
        client.disconnect()
        client.loop_stop()
        return None

    # In paho's thread

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._refusal = str(reason) if reason.is_failure else ""
        if reason.is_failure:
            self._subscribed.set()
        else:
            client.subscribe(self._answers, 1)

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"") if message.properties else b""
        payload = bytes(message.payload)
        future = self._waiting.pop(correlation.decode(errors="replace") or _id_of(payload), None)
        if future:
            future.set_result(payload)


def _id_of(payload: bytes) -> str:
    """Return the request that MQTT 3.1.1's answer is for; empty when it does not say."""
    try:
        binary = unpack_mqtt(payload)
        body = payload if binary is None else bytes(binary[0][: binary[1]])
        return decode(Response, body).id
    except WireError:
        return ""


def _answer_from(payload: bytes) -> Answer:
    try:
        binary = unpack_mqtt(payload)
        if binary is not None:
            return arrays_of(*binary)
        error = decode(Response, payload).error
    except WireError as err:
        raise InferenceError(Code.INTERNAL, f"the answer cannot be read: {err}") from err
    if error is None:
        raise InferenceError(Code.INTERNAL, "the answer has neither outputs nor an error")
    raise InferenceError(error.code, error.detail)
