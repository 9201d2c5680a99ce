"""A device for tests: a real MQTT client with the real messages that believes the fleet folder instead of TUF.

It fetches the model's blob block by block from whichever origin answers, checks its hash, and then does what its test
told it to: run it, refuse it, or say nothing more. It answers inference with what it was sent.
"""

import hashlib
import os
import queue
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.brokers import TestBroker

from edgeferry.fleet.planning import targets_of
from edgeferry.fleet.push import Target
from edgeferry.fleet.repository import Repository
from edgeferry.wire.bench import BenchParameters, BenchReport
from edgeferry.wire.blocks import BLOCK_BYTES, MAX_WINDOW, Block, BlockRequest, block_count
from edgeferry.wire.codec import decode, encode
from edgeferry.wire.desired import (
    ROLE_MODEL,
    ROLE_SELFTEST,
    STABLE,
    ArtifactManifest,
    ManifestBlob,
    SelfTestSpec,
    TensorSpec,
    block_sha256s,
)
from edgeferry.wire.messages import (
    Code,
    Info,
    LabelState,
    ModelState,
    Outcome,
    Problem,
    Reason,
    Request,
    Response,
    Result,
    State,
    Telemetry,
)
from edgeferry.wire.tensors import (
    BINARY_SIZE,
    InferResponse,
    OutputTensor,
    join_body,
    pack_mqtt,
    split_body,
    unpack_mqtt,
)
from edgeferry.wire.topics import TopicKind, Topics

PROFILE = "generic-x86-64"
RESEND_S = 0.5
INPUT = TensorSpec(name="x", datatype="INT8", shape=(1, 4), scale=0.5, zero_point=-1)
OUTPUT = TensorSpec(name="y", datatype="INT8", shape=(1, 4), scale=0.5, zero_point=-1)


def write_artifact(
    build: Path,
    name: str,
    version: int,
    *,
    profiles: tuple[str, ...] = (PROFILE,),
    size_bytes: int = 200_000,
    model: bytes = b"",
) -> Path:
    """Write ``build/name/version`` with an artifact for each profile and return that folder.

    Its bytes are random, but for ``model`` where it is given.
    """
    folder = build / name / str(version)
    for profile in profiles:
        (folder / profile).mkdir(parents=True)
        blobs = (
            _blob(folder / profile / "model.tflite", ROLE_MODEL, model or os.urandom(size_bytes)),
            _blob(folder / profile / "selftest.npz", ROLE_SELFTEST, os.urandom(1000)),
        )
        manifest = ArtifactManifest(
            format=1,
            name=name,
            version=version,
            profile=profile,
            scheme="int8",
            blobs=blobs,
            inputs=(INPUT,),
            outputs=(OUTPUT,),
            selftest=SelfTestSpec(samples=1),
        )
        (folder / profile / "artifact.json").write_bytes(encode(manifest))
    return folder


def _blob(path: Path, role: str, data: bytes) -> ManifestBlob:
    path.write_bytes(data)
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    return ManifestBlob(
        role, path.name, hashlib.sha256(data).hexdigest(), len(data), BLOCK_BYTES, block_sha256s(blocks)
    )


class FakeDevice:
    """One device.

    Args:
        broker: Where it connects.
        fleet_dir: Where it reads what a real one takes from signed metadata.
        id: Its name, known to the broker.
        outcomes: What comes of a version, by its number; those that are not named become active, None hangs.
    """

    def __init__(
        self,
        broker: TestBroker,
        fleet_dir: Path,
        id: str,  # noqa: A002 - "id" is the word everywhere
        *,
        outcomes: Mapping[int, Outcome | None] | None = None,
        mqtt5: bool = True,
    ) -> None:
        self.id = id
        self.outcomes = dict(outcomes or {})
        self.state = State(v=1, ts=1, boot="b00t", generation=0, root_version=1)
        self.fetched: dict[str, bytes] = {}
        self.models: dict[int, ArtifactManifest] = {}
        self.infer_requests = 0
        self.drops_inference = False
        self.refuses_inference = False
        self.refusals_left = 0
        self._broker = broker
        self._fleet_dir = fleet_dir
        self._topics = Topics()
        self._inbox: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._connected = Event()
        self._stop = Event()
        self._thread = Thread(target=self._run, name=f"fake {id}")
        self._client = self._new_client(MQTTProtocolVersion.MQTTv5 if mqtt5 else MQTTProtocolVersion.MQTTv311)

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port, keepalive=10)
        self._client.loop_start()
        assert self._connected.wait(10), f"{self.id} was not let in"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Go away as a device that is switched off in good order."""
        self._stop.set()
        self._thread.join(10)
        self._say(TopicKind.AVAILABILITY, b"offline").wait_for_publish(5)
        self._client.disconnect()
        self._client.loop_stop()

    def say_telemetry(self, **figures: Any) -> None:
        """Say how the machine is."""
        telemetry = Telemetry(v=1, ts=1, boot="b00t", seq=1, interval_s=10.0, **figures)
        self._client.publish(self._topics.device(self.id, TopicKind.TELEMETRY), encode(telemetry), retain=True)

    def say_state(self, state: State) -> None:
        """Say, and remember, ``state``."""
        self.state = state
        self._say(TopicKind.STATE, encode(state))

    def _new_client(self, protocol: MQTTProtocolVersion) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=self.id, protocol=protocol)
        client.username_pw_set(self.id, self._broker.passwords[self.id])
        client.will_set(self._topics.device(self.id, TopicKind.AVAILABILITY), b"offline", qos=1, retain=True)
        client.reconnect_delay_set(1, 1)
        client.on_socket_open = lambda _client, _data, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.on_connect = self._on_connect
        client.on_message = lambda _client, _data, message: self._inbox.put(message)
        return client

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        for topic_filter in self._topics.device_subscriptions(self.id):
            client.subscribe(topic_filter, 1)
        for group in Repository.open(self._fleet_dir).inventory.device(self.id).groups:
            client.subscribe(self._topics.group_subscription(group), 1)
        self._say(
            TopicKind.INFO,
            encode(
                Info(v=1, id=self.id, profile=PROFILE, boot="b00t", capabilities=("labels",), max_packet_bytes=131072)
            ),
        )
        self._say(TopicKind.STATE, encode(self.state))
        self._say(TopicKind.AVAILABILITY, b"online")
        self._connected.set()

    def _say(self, kind: TopicKind, payload: bytes) -> mqtt.MQTTMessageInfo:
        return self._client.publish(self._topics.device(self.id, kind), payload, qos=1, retain=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._next(0.1)
            if message is not None:
                self._handle(message)

    def _next(self, timeout_s: float) -> mqtt.MQTTMessage | None:
        try:
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _handle(self, message: mqtt.MQTTMessage) -> None:
        topic = self._topics.parse(message.topic)
        if topic.kind is TopicKind.TUF_TIMESTAMP:
            self._follow(msgspec.json.decode(message.payload)["signed"]["version"])
        elif topic.kind is TopicKind.REQUEST and topic.name == "bench":
            self._bench(message)
        elif topic.kind in (TopicKind.INFER, TopicKind.INFER_GROUP):
            self._infer(topic.name, message)

    def _follow(self, generation: int) -> None:
        """Do what the fleet folder wishes, as an agent does what signed metadata wishes."""
        repository = Repository.open(self._fleet_dir)
        if repository.generation != generation or self.id not in repository.inventory.devices:
            return
        device = repository.inventory.device(self.id)
        self.say_state(replace_state(self.state, generation=generation))
        for model, wish in repository.wishes_of(self.id).items():
            for label in wish.labels:
                (target,) = targets_of(repository, [device], model, label)
                known = self.state.models.get(model)
                state = known.of(label) if known else None
                if state is None or state.deployment != target.deployment:
                    self._deploy(target, repository.manifests(model, target.version)[device.profile])
            self._withdraw(model, set(wish.labels))

    def _withdraw(self, model: str, labels: set[str]) -> None:
        known = self.state.models[model]
        others = {label: state for label, state in known.others.items() if label in labels}
        served = {label: version for label, version in known.labels.items() if label in labels}
        if others != known.others:
            self._say_model(model, msgspec.structs.replace(known, others=others, labels=served))

    def _deploy(self, target: Target, manifest: ArtifactManifest) -> None:
        before = self.state.models.get(target.model) or ModelState(wanted=0, phase="idle")
        working = LabelState(wanted=target.version, phase="fetching", deployment=target.deployment)
        self._say_model(target.model, _with_label(before, target.label, working))
        self.models[target.version] = manifest
        for blob in manifest.blobs:
            if blob.sha256 not in self.fetched:
                self.fetched[blob.sha256] = self._fetch(blob)
        outcome = self.outcomes.get(target.version, Outcome.ACTIVE)
        if outcome is not None:
            self._say_model(target.model, _ended(before, working, target, outcome))

    def _say_model(self, model: str, state: ModelState) -> None:
        self.say_state(replace_state(self.state, models={**self.state.models, model: state}))

    def _fetch(self, blob: ManifestBlob) -> bytes:
        blocks: dict[int, bytes] = {}
        total = block_count(blob.size_bytes, blob.block_bytes)
        asked_at = 0.0
        later: list[mqtt.MQTTMessage] = []
        while len(blocks) < total and not self._stop.is_set():
            if time.monotonic() - asked_at > RESEND_S:
                asked_at = time.monotonic()
                self._ask(blob, first=next(index for index in range(total) if index not in blocks), total=total)
            message = self._next(0.05)
            if message is not None and message.topic.endswith("/blk"):
                block = Block.from_bytes(message.payload)
                if block.sha256_prefix.hex() == blob.sha256[:16]:
                    blocks[block.index] = bytes(block.data)
                    asked_at = asked_at if len(blocks) % MAX_WINDOW else 0.0
            elif message is not None:
                later.append(message)
        for message in later:
            self._inbox.put(message)
        data = b"".join(blocks[index] for index in range(len(blocks)))
        assert self._stop.is_set() or hashlib.sha256(data).hexdigest() == blob.sha256
        return data

    def _ask(self, blob: ManifestBlob, *, first: int, total: int) -> None:
        request = BlockRequest(
            v=1,
            transfer=1,
            sha256=blob.sha256,
            block_bytes=blob.block_bytes,
            first=first,
            count=min(MAX_WINDOW, total - first),
        )
        self._client.publish(self._topics.blob_request(self.id), encode(request))

    def _bench(self, message: mqtt.MQTTMessage) -> None:
        request = decode(Request, message.payload)
        asked = msgspec.convert(request.parameters, BenchParameters)
        manifest = self.models.get(asked.version or self.state.models[asked.model].labels["stable"])
        if manifest is None:
            problem = Problem(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, "on this device are others")
            answer = Response(id=request.id, error=problem)
        else:
            report = BenchReport(
                model=asked.model,
                version=manifest.version,
                profile=PROFILE,
                scheme=manifest.scheme,
                sha256=manifest.blob(ROLE_MODEL).sha256,
                threads=4,
                runs=int(asked.seconds * 100),
                load_ms=7.0,
                p50_ms=9.5,
                p95_ms=10.25,
                peak_rss_bytes=50_000_000,
            )
            answer = Response(id=request.id, ok=msgspec.Raw(encode(report)))
        self._answer(message, request.reply_to, encode(answer))

    def _answer(self, message: mqtt.MQTTMessage, reply_to: str, payload: bytes) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"") if message.properties else b""
        properties = None
        if correlation:
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation
        asked = self._topics.parse(getattr(message.properties, "ResponseTopic", "") or reply_to)
        self._client.publish(self._topics.response(self.id, asked.name), payload, properties=properties)

    def _infer(self, model: str, message: mqtt.MQTTMessage) -> None:
        self.infer_requests += 1
        if self.drops_inference:
            return
        unpacked = unpack_mqtt(message.payload)
        assert unpacked is not None
        request, parts = split_body(*unpacked, max_header_bytes=1 << 16)
        if self.refuses_inference or self.refusals_left > 0:
            self.refusals_left -= 1
            problem = Problem(code=Code.RESOURCE_EXHAUSTED, reason=Reason.BUSY, detail="queue is full")
            payload = encode(Response(id=request.id, error=problem))
        else:
            tensor, data = request.inputs[0], bytes(parts[0] or b"")
            output = OutputTensor("y", tensor.shape, tensor.datatype, {BINARY_SIZE: len(data)})
            version = str(self.state.models[model].labels["stable"])
            payload = pack_mqtt(*join_body(InferResponse(model, version, (output,), request.id), [data]))
        self._answer(message, str(request.parameters.get("reply_to", "")), payload)


def replace_state(state: State, **changes: Any) -> State:
    """Return ``state`` with ``changes``."""
    return msgspec.structs.replace(state, **changes)


def _with_label(model: ModelState, label: str, state: LabelState) -> ModelState:
    if label != STABLE:
        return msgspec.structs.replace(model, others={**model.others, label: state})
    own = {name: getattr(model, name) for name in ("labels", "previous", "others")}
    return ModelState(**msgspec.structs.asdict(state), **own)


def _ended(before: ModelState, working: LabelState, target: Target, outcome: Outcome) -> ModelState:
    problem = Problem(code=Code.FAILED_PRECONDITION, reason=Reason.SELFTEST_MISMATCH, detail="4 of 8 differ")
    result = Result(
        deployment=target.deployment,
        version=target.version,
        outcome=outcome,
        ended_ms=1,
        problem=None if outcome is Outcome.ACTIVE else problem,
    )
    ended = msgspec.structs.replace(working, phase="idle", last=result)
    if outcome is not Outcome.ACTIVE:
        return _with_label(before, target.label, ended)
    ended = msgspec.structs.replace(ended, scheme="int8", percent=target.percent)
    labels = {**before.labels, target.label: target.version}
    previous = before.labels.get(STABLE, 0) if target.label == STABLE else before.previous
    return msgspec.structs.replace(_with_label(before, target.label, ended), labels=labels, previous=previous)


__all__ = ["INPUT", "OUTPUT", "PROFILE", "FakeDevice", "replace_state", "write_artifact"]
