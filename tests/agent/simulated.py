"""A whole agent in one thread: the real loop, store, spool, fetcher, follower, performer and voice in a directory,
with a simulated fleet behind the seams: broker, origin, trust, trial and serving process.

`Fleet` publishes and answers block requests. `SimulatedAgent` is one life of an agent: it is built from what is on
the disk, runs until nothing is left to do, and may be struck by a `FaultyDisk`. What it leaves behind is the directory
alone; the next life is another `SimulatedAgent`.
"""

import hashlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgeferry.agent.answering import Answerer, Subjects
from edgeferry.agent.bench import Bench
from edgeferry.agent.errors import AgentError
from edgeferry.agent.fetching import Fetcher
from edgeferry.agent.following import Follower
from edgeferry.agent.gathering import Gatherer
from edgeferry.agent.inbox import Acknowledged, Connected, Done, Inbox, Received, Stop
from edgeferry.agent.lanes import Lane
from edgeferry.agent.performer import Lanes, LoadRefusedError, Performer, ServingLostError
from edgeferry.agent.runner import Parts, Runner, Settings
from edgeferry.agent.serving_client import Serve, Takeover
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState, slot_of
from edgeferry.agent.store import Store
from edgeferry.agent.supervisor import ServingUp
from edgeferry.agent.systemd import Notifier
from edgeferry.agent.trust import Missing, Resolved
from edgeferry.agent.voice import Voice
from edgeferry.device_profiles import load_profile
from edgeferry.wire.blocks import Block, parse_block_request
from edgeferry.wire.codec import decode, encode
from edgeferry.wire.desired import (
    STABLE,
    ArtifactManifest,
    BlobRef,
    DifferenceRef,
    ManifestBlob,
    ModelWish,
    SelfTestSpec,
    TensorSpec,
    block_sha256s,
    decode_manifest,
)
from edgeferry.wire.difference import Operation, Piece, difference_of
from edgeferry.wire.messages import Code, Event, Info, ModelState, Problem, Reason, State, Swap
from edgeferry.wire.topics import TopicKind, Topics

from .disk_faults import FaultyDisk

DEVICE = "kitchen"
MODEL = "cats"
ORIGIN = "workshop"
BLOCK_BYTES = 1024
TOPICS = Topics()
PROFILE = load_profile("generic-x86-64")
INFO = Info(v=1, id=DEVICE, profile=PROFILE.name, boot="cafe")


def ref_of(data: bytes) -> BlobRef:
    return BlobRef(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def manifest_blob(role: str, data: bytes, block_bytes: int = BLOCK_BYTES) -> ManifestBlob:
    blocks = [data[at : at + block_bytes] for at in range(0, len(data), block_bytes)]
    ref = ref_of(data)
    return ManifestBlob(role, role, ref.sha256, ref.size_bytes, block_bytes, block_sha256s(blocks))


def problem(reason: Reason = Reason.SELFTEST_MISMATCH) -> Problem:
    return Problem(code=Code.FAILED_PRECONDITION, reason=reason, detail=f"simulated {reason}")


class _Timestamp(msgspec.Struct, frozen=True):
    generation: int
    documents: BlobRef


class _Documents(msgspec.Struct, frozen=True):
    wishes: dict[str, ModelWish]
    differences: tuple[DifferenceRef, ...] = ()


@dataclass
class Fleet:
    """What is published: blobs by their hash, and a timestamp that names the newest document.

    Attributes:
        lies: Blobs of which other bytes are served, by hash.
        differences: What is offered.
        is_served: Whether there is an origin.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    lies: dict[str, bytes] = field(default_factory=dict)
    timestamp: bytes = b""
    generation: int = 0
    blocks_sent: int = 0
    is_served: bool = True
    differences: list[DifferenceRef] = field(default_factory=list)

    def add(self, data: bytes) -> BlobRef:
        ref = ref_of(data)
        self.blobs[ref.sha256] = data
        return ref

    def artifact(
        self, version: int, model: str = MODEL, *, blocks: int = 5, like: int = 0, block_bytes: int = BLOCK_BYTES
    ) -> ModelWish:
        """Add an artifact and return the wish for it; ``like`` is the version from which it hardly differs."""
        data = random.Random(f"{model} {like or version}").randbytes(blocks * block_bytes - 100)
        if like:
            data = bytes((byte + (at % 100 == 0)) % 256 for at, byte in enumerate(data))
        selftest = f"golden {model} {version}".encode()
        self.add(data)
        self.add(selftest)
        tensor = TensorSpec("x", "FP32", (1, 4))
        manifest = ArtifactManifest(
            format=1,
            name=model,
            version=version,
            profile="generic-x86-64",
            scheme="int8",
            blobs=(manifest_blob("model", data, block_bytes), manifest_blob("selftest", selftest)),
            inputs=(tensor,),
            outputs=(tensor,),
            selftest=SelfTestSpec(samples=1),
        )
        return ModelWish(model=model, version=version, manifest=self.add(encode(manifest)))

    def model_of(self, wish: ModelWish) -> bytes:
        """Return the bytes of the model that ``wish`` names."""
        return self.blobs[decode_manifest(self.blobs[wish.manifest.sha256]).blob("model").sha256]

    def offer(self, base: ModelWish, wish: ModelWish, difference: bytes | None = None) -> DifferenceRef:
        """Offer to make the model of ``wish`` from that of ``base``, by the true difference unless one is given."""
        old, new = self.model_of(base), self.model_of(wish)
        if difference is None:
            difference = difference_of(old, new, [Piece(Operation.ADD, len(new))])
        ref = self.add(difference)
        offer = DifferenceRef(ref_of(old).sha256, ref_of(new).sha256, ref.sha256, ref.size_bytes)
        self.differences.append(offer)
        return offer

    def publish(self, *wishes: ModelWish) -> None:
        self.generation += 1
        slots = {slot_of(wish.model, wish.label or STABLE): wish for wish in wishes}
        documents = self.add(msgspec.json.encode(_Documents(slots, tuple(self.differences))))
        self.timestamp = msgspec.json.encode(_Timestamp(self.generation, documents))

    def frames(self, payload: bytes) -> list[bytes]:
        """Return the blocks that ``payload``, a block request, asks for."""
        request = parse_block_request(payload)
        data = self.lies.get(request.sha256, self.blobs.get(request.sha256, b""))
        prefix = bytes.fromhex(request.sha256)[:8]
        size = request.block_bytes
        frames = []
        for index in request.indices():
            block = data[index * size : (index + 1) * size]
            frames.append(Block(request.transfer, prefix, index, block).to_bytes())
        self.blocks_sent += len(frames)
        return frames


class SimulatedTruster:
    """Believes every timestamp; resolves it from the store's blobs as the real trust client does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def look(self, roots: dict[int, bytes], timestamp: bytes, *, final: bool) -> Resolved | Missing:
        result = self.resolve(timestamp)
        if isinstance(result, Resolved):
            self._store.save_metadata({"timestamp.json": timestamp})
        return result

    def remembered(self) -> Resolved | None:
        timestamp = self._store.load_metadata().get("timestamp.json")
        result = self.resolve(timestamp) if timestamp else None
        return result if isinstance(result, Resolved) else None

    def resolve(self, timestamp: bytes) -> Resolved | Missing:
        said = msgspec.json.decode(timestamp, type=_Timestamp)
        documents = self._store.read_blob(said.documents)
        if documents is None:
            return Missing((said.documents,), ())
        documents_said = msgspec.json.decode(documents, type=_Documents)
        wishes = documents_said.wishes
        manifests = {model: self._store.read_blob(wish.manifest) for model, wish in wishes.items()}
        missing = tuple(wishes[model].manifest for model, data in manifests.items() if data is None)
        if missing:
            return Missing(missing, ())
        return Resolved(
            wishes=wishes,
            manifests={model: decode_manifest(data) for model, data in manifests.items() if data is not None},
            refusals={},
            groups=("pets",),
            generation=said.generation,
            root_version=1,
            expires_ms=1 << 42,
            issued_ms=said.generation,
            documents=frozenset({said.documents.sha256, *(wish.manifest.sha256 for wish in wishes.values())}),
            differences=documents_said.differences,
        )


@dataclass
class SimulatedHands:
    """Trial and serving process: every candidate passes and loads unless a failure stands here.

    Attributes:
        serving: What answers, by slot.
        trial: What the trial says.
        on_try: What happens during the trial.
        refusal: Why the version of this number is not loaded.
        is_lost: Whether the serving process is gone.
    """

    serving: dict[str, int] = field(default_factory=dict)
    trial: Problem | None = None
    on_try: Callable[[], None] = lambda: None
    refusal: dict[int, Problem] = field(default_factory=dict)
    is_lost: bool = False
    calls: list[str] = field(default_factory=list)

    def try_model(self, model: Path, manifest: Path, selftest: Path) -> Problem | None:
        self.calls.append("try")
        self.on_try()
        for path in (model, manifest, selftest):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, f"{path} is tried and has other bytes"
        return self.trial

    def cancel_trial(self) -> None:
        self.calls.append("cancel")

    def load(self, wanted: Serve) -> Takeover:
        self.calls.append(f"load {wanted.model} {wanted.version} {wanted.label}")
        if self.is_lost:
            raise ServingLostError("simulated loss")
        if wanted.version in self.refusal:
            raise LoadRefusedError(self.refusal[wanted.version])
        for path in (wanted.path, wanted.manifest):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, f"{path} is loaded and has other bytes"
        slot = slot_of(wanted.model, wanted.label)
        takeover = Takeover(Swap.BOTH) if slot in self.serving else Takeover()
        self.serving[slot] = wanted.version
        return takeover

    def unload(self, model: str, label: str) -> None:
        self.calls.append(f"unload {model} {label}")
        if self.is_lost:
            raise ServingLostError("simulated loss")
        self.serving.pop(slot_of(model, label), None)


@dataclass(frozen=True)
class Said:
    """A message that was published."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    correlation: bytes
    expiry_s: int


class Post:
    """Where messages go.

    Attributes:
        said: What was published, in order.
        is_open: Whether messages are taken.
        on_said: Is told of each.
    """

    def __init__(self, on_said: Callable[[int, Said], None] = lambda _number, _said: None) -> None:
        self.said: list[Said] = []
        self.is_open = True
        self.on_said = on_said

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        correlation: bytes = b"",
        expiry_s: int = 0,
    ) -> int | None:
        if not self.is_open:
            return None
        said = Said(topic, payload, qos, retain, correlation, expiry_s)
        self.said.append(said)
        self.on_said(len(self.said), said)
        return len(self.said)

    def on(self, kind: TopicKind) -> list[bytes]:
        """Return the payloads on one of the device's own topics."""
        topic = TOPICS.device(DEVICE, kind)
        return [said.payload for said in self.said if said.topic == topic]


class InlineLane(Lane):
    """A lane without a thread: a job is done at once, its result goes to the inbox."""

    def __init__(self, name: str, inbox: Inbox) -> None:
        super().__init__(name, inbox)
        self._results = inbox

    def submit(self, job: Callable[[], object]) -> None:
        value: object
        try:
            value = job()
        except AgentError as err:
            value = err
        if value is not None:
            self._results.put(Done("inline", value))


class HeldLane(Lane):
    """A lane without a thread: jobs wait until the test lets them be done.

    Attributes:
        jobs: What waits.
    """

    def __init__(self) -> None:
        super().__init__("held", Inbox())
        self.jobs: list[Callable[[], object]] = []

    def submit(self, job: Callable[[], object]) -> None:
        self.jobs.append(job)

    def work(self) -> object:
        """Do the first job and return what came of it."""
        return self.jobs.pop(0)()


class DrainedInbox(Inbox):
    """An inbox that never waits: when it is empty, the next thing happens, and after the last the loop stops.

    Attributes:
        happenings: What happens one after the other, each when there is nothing else left to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.happenings: deque[Callable[[], object]] = deque()

    def take(self, timeout_s: float) -> object | None:
        item = super().take(0.0)
        if item is not None:
            return item
        if not self.happenings:
            return Stop()
        self.happenings.popleft()()
        return None


class SimulatedAgent:
    """One life of an agent.

    Args:
        directory: What is left of the lives before.
        fleet: What the broker and the origin have for it.
        hands: Trial and serving process.
        disk: The disk; a faulty one may strike already here.
        notifier: The way to the service manager.
        hear: Is told of every message that it says.
        watch_s: How long a version is watched.
    """

    def __init__(
        self,
        directory: Path,
        fleet: Fleet,
        *,
        hands: SimulatedHands | None = None,
        disk: FaultyDisk,
        notifier: Notifier | None = None,
        hear: Callable[[Said], None] = lambda _said: None,
        watch_s: int = 30,
    ) -> None:
        self._hear = hear
        self.notifier = notifier or Notifier("", 0.0)
        self.is_healthy = True
        self.fleet = fleet
        self.disk = disk
        self.hands = hands or SimulatedHands()
        self.inbox = DrainedInbox()
        self.local: deque[object] = deque()
        self.post = Post(self._route)
        self.store = Store(directory, disk)
        self.spool = Spool(directory / "spool", disk)
        self.store.open()
        self.spool.open()
        self.truster = SimulatedTruster(self.store)
        self.fetcher = Fetcher(self.store, self._ask, self.local.append)
        self.follower = Follower(
            lambda _root: self.truster,
            root=b"root",
            root_sha256="",
            lane=InlineLane("trust", self.inbox),
            fetcher=self.fetcher,
            emit=self.local.append,
        )
        self.samples = 0
        self.joined: list[tuple[str, ...]] = []
        self.runner = Runner(Settings(DEVICE, "cafe", watch_s, 10), self._parts(), self.store.load_state())

    def run(self, *happenings: Callable[[], object]) -> None:
        """Boot, hear what the broker has retained, and live until nothing is left to do.

        Args:
            happenings: What happens then, one after the other, each when nothing is left to do.
        """
        self.inbox.happenings.extend(happenings)
        self.follower.begin(self.truster.remembered())
        self.inbox.put(ServingUp(1))
        self.connect()
        try:
            self.runner.run()
        finally:
            self.disk.end_of_life()

    def connect(self, protocol: int = 5) -> None:
        self.inbox.put(Connected("mqtt://simulated", protocol, 0))
        self.hear(TOPICS.origin(ORIGIN), b"online" if self.fleet.is_served else b"offline")
        if self.fleet.timestamp:
            self.ring()

    def hear(self, topic: str, payload: bytes, reply_to: str = "") -> None:
        self.inbox.put(Received(topic, payload, reply_to))

    def ring(self) -> None:
        """Hear the newest timestamp."""
        self.hear(TOPICS.tuf_timestamp(), self.fleet.timestamp)

    @property
    def state(self) -> AgentState:
        return self.runner.state

    def model(self, name: str = MODEL) -> ModelState:
        """Return the reported state of a model, as it was published last."""
        return decode(State, self.post.on(TopicKind.STATE)[-1]).models[name]

    def events(self) -> list[Event]:
        return [decode(Event, payload) for payload in self.post.on(TopicKind.EVENT)]

    def _parts(self) -> Parts:
        lanes = Lanes(InlineLane("deploy", self.inbox), InlineLane("serving", self.inbox))
        gatherer = Gatherer(
            self.store,
            self.fetcher,
            lanes.deploy,
            offered=lambda: self.follower.differences,
            emit=self.local.append,
            now_s=time.monotonic,
        )
        performer = Performer(self.store, gatherer, self.hands, lanes, emit=self.local.append, collect=self._collect)
        bench = Bench(self.store.blob_path, PROFILE, lanes.deploy.submit, lambda: self.runner.state)
        subjects = Subjects(lambda: INFO, self._report, self.spool, deque(["a line"]), bench)
        return Parts(
            inbox=self.inbox,
            local=self.local,
            store=self.store,
            spool=self.spool,
            topics=TOPICS,
            fetcher=self.fetcher,
            follower=self.follower,
            gatherer=gatherer,
            performer=performer,
            voice=Voice(self.post, TOPICS, DEVICE, self.spool),
            answerer=Answerer(self.post, TOPICS, DEVICE, subjects, 128 * 1024),
            notifier=self.notifier,
            info=lambda: INFO,
            join=self.joined.append,
            sample=self._sample,
            is_healthy=lambda: self.is_healthy,
        )

    def _collect(self) -> None:
        self.runner.request_collection()

    def _report(self) -> State:
        return self.runner.report()

    def _sample(self) -> None:
        self.samples += 1

    def _ask(self, request: object) -> None:
        assert isinstance(request, msgspec.Struct)
        self.post.publish(TOPICS.blob_request(DEVICE), encode(request))

    def _route(self, number: int, said: Said) -> None:
        self._hear(said)
        if said.topic == TOPICS.blob_request(DEVICE):
            for frame in self.fleet.frames(said.payload) if self.fleet.is_served else []:
                self.hear(TOPICS.device(DEVICE, TopicKind.BLOCK), frame)
        if said.qos:
            self.inbox.put(Acknowledged(number))
