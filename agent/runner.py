"""The one loop that owns the agent's state: inbox -> step -> save -> perform.

Everything that happens comes through the inbox, or from a timer, or from a part that works in this thread and puts
it into ``local``. Nothing here waits for anything but the inbox.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeferry.agent import lifecycle
from edgeferry.agent.answering import Answerer
from edgeferry.agent.clock import now_ms
from edgeferry.agent.effects import Activate, Load, Restore
from edgeferry.agent.errors import AgentError, DiskFullError
from edgeferry.agent.events import Booted, Faulted, Happened, LifecycleEvent, Noted, ServingStarted, Tick
from edgeferry.agent.fetching import BatchDone, BatchFailed, Fetcher
from edgeferry.agent.following import BATCH_OWNER, Follower, Looked
from edgeferry.agent.gathering import Gatherer, Rebuilt
from edgeferry.agent.hardware_watch import HardwareWatch
from edgeferry.agent.inbox import Acknowledged, Connected, Disconnected, Done, Inbox, Received, Stop
from edgeferry.agent.performer import Again, Performer
from edgeferry.agent.reporting import Standing, state_message
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState, Phase, label_of, slot_of
from edgeferry.agent.store import Store
from edgeferry.agent.supervisor import ServingDown, ServingUp
from edgeferry.agent.systemd import Notifier
from edgeferry.agent.voice import Voice
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import (
    Availability,
    Code,
    EventKind,
    Info,
    LabelTelemetry,
    ModelTelemetry,
    Problem,
    Reason,
    State,
    Telemetry,
)
from edgeferry.wire.topics import Topic, TopicKind, Topics

__all__ = ["Parts", "Runner", "Sampled", "Settings"]

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 3600.0  # to notice that metadata has expired
MAX_WAIT_S = 5.0
HEALTH_S = 5.0  # the watchdog of the unit waits far longer
AGAIN_S = 2.0
METADATA_AGAIN_S = 60.0  # after its blobs could not be stored, or came with wrong bytes
MODEL_ERRORS_MIN = 5  # fewer say nothing about a model
MAX_EVENTS_A_STEP = 1000  # of ``local``; more would be a loop of ours


@dataclass(frozen=True, slots=True)
class Settings:
    """What the loop is told.

    Attributes:
        boot: Random id of this start of the agent.
        watch_s: How long a version is watched after it became active.
    """

    device: str
    boot: str
    watch_s: int
    telemetry_interval_s: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """Telemetry was read in a worker."""

    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with.

    Attributes:
        local: What parts that work in this thread have to tell; handled before the inbox.
        info: Makes what the device says of itself.
        join: Takes the groups whose requests this device shares.
        sample: Has telemetry read in a worker, unless that is still at it.
        is_healthy: Tells whether every thread lives; only then is the watchdog fed.
    """

    inbox: Inbox
    local: deque[object]
    store: Store
    spool: Spool
    topics: Topics
    fetcher: Fetcher
    follower: Follower
    gatherer: Gatherer
    performer: Performer
    voice: Voice
    answerer: Answerer
    notifier: Notifier
    info: Callable[[], Info]
    join: Callable[[tuple[str, ...]], None]
    sample: Callable[[], None]
    is_healthy: Callable[[], bool]


class Runner:
    """Owns the agent's state; every method is called from the thread that calls `run`."""

    def __init__(self, settings: Settings, parts: Parts, state: AgentState) -> None:
        self.state = state
        self._settings = settings
        self._parts = parts
        self._serving = "starting"
        self._figures: dict[str, ModelTelemetry] = {}
        self._collect_due = False
        self._running = True
        self._sample_s = 0.0
        self._look_again_s = time.monotonic() + LOOK_AGAIN_S
        self._healthy_s = 0.0
        self._hardware = HardwareWatch()
        self._again: list[tuple[float, Activate | Restore | Load]] = []

    def run(self) -> None:
        """Work until a `Stop` comes.

        Raises:
            AgentError: The disk or a worker failed; a new start goes on from what was saved.
        """
        self._tell(Happened(EventKind.STARTED))
        self.step(Booted())
        self._handle_local()
        self._parts.notifier.ready(f"device {self._settings.device}")
        while self._running:
            item = self._parts.inbox.take(self._wait_s())
            if item is not None:
                self.handle(item)
            self._handle_local()
            self._tick()
        self._parts.fetcher.close()

    def report(self) -> State:
        """Return the reported state of this moment."""
        return state_message(
            self.state,
            self.standing(),
            boot=self._settings.boot,
            now_ms=now_ms(),
            transfer_of=self._parts.fetcher.progress_of,
            figures=self._figures,
        )

    def standing(self) -> Standing:
        """Return what is known beside the models."""
        return replace(self._parts.follower.standing, serving=self._serving, waiting=self._parts.fetcher.obstacle)

    def request_collection(self) -> None:
        """Have unneeded blobs removed as soon as no metadata is on its way."""
        self._collect_due = True

    def _tell(self, event: Happened) -> None:
        """Note what changes no model; a full disk must keep nobody from serving."""
        before = self.state
        try:
            self.step(event, waits=False)
        except DiskFullError as err:
            logger.error("%s was not noted: %s", event.kind, err)  # noqa: TRY400 - foreseen
            self.state = before

    # One thing at a time

    def step(self, event: LifecycleEvent, *, waits: bool = True) -> None:
        """Let the lifecycle decide on ``event``, save, tell, and have the effects done.

        Args:
            event: What happened.
            waits: Whether a full disk is waited out; without, it is raised.
        """
        before = self.state
        self.state, effects = lifecycle.step(before, event, now_ms(), watch_s=self._settings.watch_s)
        if self.state != before:
            self._save(waits=waits)
            self._spool_events()
            self._log_changes(before)
        for effect in effects:
            self._parts.performer.perform(effect)

    def handle(self, item: object) -> None:  # noqa: C901 - the table of what comes
        """Handle one item of the inbox or of ``local``."""
        now_s = time.monotonic()
        match item:
            case Received():
                self._received(item, now_s)
            case Done(value=value):
                self._done(value, now_s)
            case BatchDone(owner=owner):
                self._batch_done(owner)
            case BatchFailed(owner=owner, problem=problem):
                self._batch_failed(owner, problem)
            case Rebuilt():
                self._parts.gatherer.rebuilt(item)
            case Acknowledged(message_id=message_id):
                self._parts.voice.acknowledged(message_id)
            case Connected():
                self._on_connected(item, now_s)
            case Disconnected(reason=reason):
                self._on_disconnected(reason, now_s)
            case ServingUp():
                self._serving = "running"
                self._parts.performer.is_serving = True
                self.step(ServingStarted())
            case ServingDown():
                self._serving_down(item)
            case Stop():
                self._tell(Happened(EventKind.STOPPED))
                self._running = False
            case _:
                self.step(item)  # type: ignore[arg-type]  # the lifecycle refuses what it does not know

    def _received(self, message: Received, now_s: float) -> None:
        try:
            topic = self._parts.topics.parse(message.topic)
        except WireError as err:
            logger.warning("dropped a message: %s", err)
            return
        self._dispatch(topic, message, now_s)

    def _dispatch(self, topic: Topic, message: Received, now_s: float) -> None:
        parts = self._parts
        match topic.kind:
            case TopicKind.BLOCK:
                parts.fetcher.receive(message.payload, now_s)
            case TopicKind.TUF_TIMESTAMP:
                parts.follower.take_timestamp(message.payload, now_s)
            case TopicKind.TUF_ROOT:
                parts.follower.take_root(int(topic.name), message.payload)
            case TopicKind.ORIGIN:
                is_online = message.payload == Availability.ONLINE.encode()
                parts.fetcher.note_origin(topic.owner, is_online=is_online, now_s=now_s)
            case TopicKind.REQUEST | TopicKind.REQUEST_ALL:
                parts.answerer.answer(topic.name, message, now_ms())
            case TopicKind.AVAILABILITY if message.payload == Availability.OFFLINE.encode():
                parts.voice.say_online()  # the last will of our former connection
            case _:
                pass

    def _done(self, value: object, now_s: float) -> None:
        match value:
            case Looked():
                self._looked(value, now_s)
            case Sampled(telemetry=telemetry):
                self._figures = telemetry.models
                self._parts.voice.say_telemetry(telemetry)
                self._judge_watched(telemetry)
                for happened in self._hardware.look(telemetry, now_s):
                    self.step(happened)
            case Again(effect=effect):
                self._again.append((now_s + AGAIN_S, effect))
            case AgentError():
                raise value
            case _:
                self.handle(value)

    def _looked(self, looked: Looked, now_s: float) -> None:
        follower = self._parts.follower
        before = follower.groups, follower.standing.root_version
        follower.looked(looked, now_ms(), now_s)
        if (follower.groups, follower.standing.root_version) != before:
            info = self._parts.info()
            self._parts.voice.say_info(info)
            self._parts.join(info.groups)

    def _batch_done(self, owner: str) -> None:
        if owner == BATCH_OWNER:
            self._parts.follower.fetched()
        else:
            self._parts.gatherer.fetched(owner)

    def _batch_failed(self, owner: str, problem: Problem) -> None:
        if owner == BATCH_OWNER:
            self._parts.follower.failed(problem)
            self._look_again_s = min(self._look_again_s, time.monotonic() + METADATA_AGAIN_S)
        else:
            self._parts.gatherer.not_fetched(owner, problem)

    def _on_connected(self, event: Connected, now_s: float) -> None:
        logger.info("connected to %s with MQTT %s", event.url, "5" if event.protocol == 5 else "3.1.1")
        info = self._parts.info()
        self._parts.join(info.groups)
        self._parts.voice.connected(info, self.report(), supports_expiry=event.protocol == 5)
        self._parts.fetcher.set_connected(connected=True, now_s=now_s)
        self._sample_s = now_s

    def _on_disconnected(self, reason: str, now_s: float) -> None:
        logger.warning("not connected: %s", reason)
        self._parts.voice.disconnected()
        self._parts.fetcher.set_connected(connected=False, now_s=now_s)

    def _serving_down(self, event: ServingDown) -> None:
        self._serving = "starting"
        self._parts.performer.is_serving = False
        problem = Problem(code=Code.INTERNAL, reason=event.reason, detail=event.detail)
        self.step(Happened(EventKind.SERVING_CRASHED, problem))
        if event.suspect:
            self.step(Faulted(event.suspect, problem, event.is_proven, event.suspect_version))

    def _judge_watched(self, telemetry: Telemetry) -> None:
        """Roll a watched version back when most of what it was asked has failed."""
        for name, figures in telemetry.models.items():
            for label, one in {STABLE: figures, **figures.labels}.items():
                slot = slot_of(name, label)
                if self._is_watched(slot, one.version) and _is_failing(one):
                    detail = f"{one.errors_total} of {one.total} requests failed in the model itself"
                    problem = Problem(code=Code.INTERNAL, reason=Reason.MODEL_ERRORS, detail=detail)
                    self.step(Faulted(name, problem, proven=True, version=one.version, slot=slot))

    def _is_watched(self, slot: str, version: int) -> bool:
        record = self.state.models.get(slot)
        if not (record and record.active and record.deployment):
            return False
        # Of another version the figures were read before the activation.
        return record.active.version == version and record.deployment.phase is Phase.WATCHING

    # Around it

    def _handle_local(self) -> None:
        for _ in range(MAX_EVENTS_A_STEP):
            if not self._parts.local:
                break
            self.handle(self._parts.local.popleft())
        if self._collect_due and self._parts.follower.is_idle:
            self._collect()
        self._parts.voice.say_state(self.report())
        self._parts.voice.say_events()  # those that the connection did not take at first

    def _tick(self) -> None:
        now_s, parts = time.monotonic(), self._parts
        deadline_s = parts.fetcher.next_deadline_s()
        if deadline_s is not None and now_s >= deadline_s:
            parts.fetcher.tick(now_s)
        parts.follower.tick(now_ms())
        watch_ms = lifecycle.next_deadline_ms(self.state)
        if watch_ms is not None and now_ms() >= watch_ms:
            self.step(Tick())
        if now_s >= self._look_again_s:
            self._look_again_s = now_s + LOOK_AGAIN_S
            parts.follower.look_again()
        if now_s >= self._sample_s:
            # Spread by a tenth, so that a fleet that was switched on together does not speak together.
            spread = random.uniform(0.9, 1.1)  # noqa: S311 - guards nothing
            self._sample_s = now_s + self._settings.telemetry_interval_s * spread
            parts.sample()
        self._do_again(now_s)
        self._look_after_threads(now_s)

    def _do_again(self, now_s: float) -> None:
        """Do what found no serving process before, unless another start of it or another wish has made it needless."""
        due = [effect for due_s, effect in self._again if due_s <= now_s]
        self._again = [(due_s, effect) for due_s, effect in self._again if due_s > now_s]
        for effect in due:
            if self._parts.performer.is_serving and lifecycle.is_wanted(self.state, effect):
                self._parts.performer.perform(effect)

    def _look_after_threads(self, now_s: float) -> None:
        """Feed the watchdog while every thread lives.

        Raises:
            AgentError: One has died; a new start brings it back.
        """
        if now_s < self._healthy_s:
            return
        self._healthy_s = now_s + HEALTH_S
        if not self._parts.is_healthy():
            raise AgentError("a thread of the agent has died; see the log above")
        self._parts.notifier.alive()

    def _wait_s(self) -> float:
        if self._parts.local:
            return 0.0
        now_s = time.monotonic()
        in_s = [MAX_WAIT_S, self._sample_s - now_s, self._look_again_s - now_s]
        deadline_s = self._parts.fetcher.next_deadline_s()
        if deadline_s is not None:
            in_s.append(deadline_s - now_s)
        deadlines_ms = (self._parts.follower.next_deadline_ms(), lifecycle.next_deadline_ms(self.state))
        in_s += [(deadline_ms - now_ms()) / 1000 for deadline_ms in deadlines_ms if deadline_ms is not None]
        return max(min(in_s), 0.0)

    def _spool_events(self) -> None:
        if not self.state.outbox:
            return
        spool = self._parts.spool
        dropped = spool.dropped
        try:
            spool.append(self.state.outbox)
        except DiskFullError as err:
            logger.error("events stay in the state: %s", err)  # noqa: TRY400 - foreseen
            return
        self.state, _ = lifecycle.step(self.state, Noted(spool.last_seq), now_ms())
        if spool.dropped > dropped:
            detail = f"{spool.dropped - dropped} events were removed before a broker had taken them: the spool is full"
            logger.warning("%s", detail)
            problem = Problem(code=Code.RESOURCE_EXHAUSTED, reason=Reason.DISK_FULL, detail=detail)
            self.step(Happened(EventKind.SPOOL_DROPPED, problem))
        self._parts.voice.say_events()

    def _save(self, *, waits: bool) -> None:
        """Save the state; while the disk is full, wait, and let what serves go on serving.

        Raises:
            DiskFullError: The agent was told to stop meanwhile, or shall not wait.
        """
        while True:
            try:
                self._parts.store.save_state(self.state)
            except DiskFullError as err:
                if not waits:
                    raise
                logger.error("nothing is deployed until there is room: %s", err)  # noqa: TRY400 - foreseen
                self._parts.notifier.alive()
                item = self._parts.inbox.take(MAX_WAIT_S)
                if isinstance(item, Stop):
                    raise
                if item is not None and not isinstance(item, Received):  # messages come again
                    self._parts.local.append(item)
            else:
                return

    def _collect(self) -> None:
        self._collect_due = False
        wanted = lifecycle.kept_blobs(self.state)
        kept = wanted | self._parts.follower.documents | self._parts.gatherer.unfinished(wanted)
        self._parts.store.collect(kept)
        stable = {slot: record for slot, record in self.state.models.items() if label_of(slot) == STABLE}
        active = {name: record.active.model.sha256 for name, record in stable.items() if record.active}
        try:
            self._parts.store.link_models(active)
        except DiskFullError as err:
            logger.warning("the links for people are not up to date: %s", err)

    def _log_changes(self, before: AgentState) -> None:
        for name, record in self.state.models.items():
            old = before.models.get(name)
            phase = record.deployment.phase if record.deployment else "idle"
            old_phase = old.deployment.phase if old and old.deployment else "idle"
            if phase != old_phase:
                identity = record.deployment.target.deployment[:12] if record.deployment else "-"
                logger.info("%s %s: %s -> %s", name, identity, old_phase, phase)


def _is_failing(figures: LabelTelemetry) -> bool:
    return figures.errors_total >= MODEL_ERRORS_MIN and figures.errors_total * 2 > figures.total
