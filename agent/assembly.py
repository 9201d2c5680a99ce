"""The composition root of the agent: builds the real parts from a configuration and runs the loop."""

import logging
import secrets
import signal
import time
from collections import deque
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from edgeferry.agent import telemetry
from edgeferry.agent.answering import Answerer, Subjects
from edgeferry.agent.bench import Bench
from edgeferry.agent.bridge import Bridge
from edgeferry.agent.clock import now_ms
from edgeferry.agent.config import AgentConfig
from edgeferry.agent.connection import Connection, ConnectionSettings
from edgeferry.agent.control_groups import ControlGroups, limits_of
from edgeferry.agent.events import Happened
from edgeferry.agent.fetching import Fetcher
from edgeferry.agent.following import Follower
from edgeferry.agent.fsops import Disk
from edgeferry.agent.gathering import Gatherer
from edgeferry.agent.hands import ModelHands
from edgeferry.agent.host import check_free, check_grpc, memory_folder, versions
from edgeferry.agent.inbox import Inbox, Stop
from edgeferry.agent.lanes import Lane
from edgeferry.agent.logs import keep_log_lines
from edgeferry.agent.performer import Lanes, Performer
from edgeferry.agent.pipelines import PipelineKeeper
from edgeferry.agent.runner import Parts, Runner, Sampled, Settings
from edgeferry.agent.sampling import Sampler
from edgeferry.agent.serving.command import ServingOptions
from edgeferry.agent.serving_client import ServingClient
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState
from edgeferry.agent.store import Store
from edgeferry.agent.stored_trust import StoredTrust
from edgeferry.agent.supervisor import Supervisor
from edgeferry.agent.systemd import Notifier
from edgeferry.agent.trust import Resolved
from edgeferry.agent.voice import Voice
from edgeferry.wire.blocks import BlockRequest
from edgeferry.wire.codec import WireError, encode
from edgeferry.wire.messages import EventKind, Info, State
from edgeferry.wire.topics import TopicKind, Topics

__all__ = ["run_agent"]

logger = logging.getLogger(__name__)

SERVING_TIMEOUT_S = 60.0  # to load a model
STATS_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 5.0
CAPABILITIES = ("blocks/1", "infer/oip-v2", "get/events_after", "logs.tail", "bench", "labels", "infer/groups")


def run_agent(config: AgentConfig) -> None:
    """Run the agent until SIGTERM or SIGINT.

    Raises:
        AgentError: It cannot go on; what was saved is what a new start goes on from.
    """
    store = Store(config.state_dir, Disk())
    store.open()
    with memory_folder(config.state_dir) as work_dir:
        _Agent(config, store, work_dir).run()


class _Agent:
    """The parts of one agent and their life."""

    def __init__(self, config: AgentConfig, store: Store, work_dir: Path) -> None:
        self._config = config
        self._boot = secrets.token_hex(4)
        self._inbox = Inbox()
        self._local: deque[object] = deque()
        self._log_lines = keep_log_lines()
        self._groups = ControlGroups.delegated()
        self._topics = Topics(config.topic_root)
        self._store = store
        self._spool = Spool(config.state_dir / "spool", Disk())
        self._lanes = {name: Lane(name, self._inbox) for name in ("trust", "deploy", "telemetry")}
        self._lanes["serving"] = Lane("serving", self._inbox, capacity=0)  # a start loads every model at once
        self._work_dir = work_dir
        self._socket = work_dir / "serving.sock"  # below the state directory its path could be too long
        self._stats = ServingClient(self._socket, STATS_TIMEOUT_S)
        self._connection = Connection(self._connection_settings(), self._inbox.put, self._offer)
        self._bridge = Bridge(
            ServingClient(self._socket, SERVING_TIMEOUT_S),
            self._connection,
            self._topics,
            config.id,
            now_ms=now_ms,
            max_packet_bytes=config.max_packet_bytes,
        )
        self._supervisor = Supervisor(
            socket_path=self._socket,
            http=config.http or None,
            runtime_dir=work_dir,
            threads=config.profile.serving.threads,
            memory_limit_bytes=config.profile.serving.memory_limit_bytes,
            emit=self._inbox.put,
            options=ServingOptions(
                grpc=config.grpc or None,
                tls_certificate=config.tls_certificate,
                tls_key=config.tls_key,
                token_file=config.serving_token_file,
            ),
            on_process=partial(self._groups.confine, "serving"),
        )
        self._pipelines = PipelineKeeper(config.file, self._socket) if config.pipelines else None

    def run(self) -> None:
        """Start everything, loop, and end everything."""
        if self._config.grpc:
            check_grpc()
        for address in filter(None, (self._config.http, self._config.grpc)):
            check_free(address)
        self._spool.open()
        self._groups.prepare(limits_of(self._config.profile))
        state = self._load_state()
        self._sampler = self._make_sampler()
        self._follower, resolved = self._make_follower()
        runner = self._make_runner(state)
        self._runner = runner
        self._follower.begin(resolved)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._inbox.put(Stop()))
        for lane in self._lanes.values():
            lane.start()
        self._bridge.start()
        self._supervisor.start()
        if self._pipelines:
            self._pipelines.start()
        self._connection.start()
        try:
            runner.run()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._parts.notifier.stopping()
        self._connection.stop(self._parts.voice.offline_words)
        self._bridge.stop(STOP_TIMEOUT_S)
        self._bench.cancel()
        self._hands.cancel_trial()
        if self._pipelines:
            self._pipelines.stop(STOP_TIMEOUT_S)
        self._supervisor.stop(STOP_TIMEOUT_S)
        for lane in self._lanes.values():
            lane.stop(STOP_TIMEOUT_S)

    # Making

    def _make_follower(self) -> tuple[Follower, Resolved | None]:
        trusters: list[StoredTrust] = []
        self._fetcher = Fetcher(self._store, self._send_request, self._local.append)

        def make(root: bytes) -> "StoredTrust":
            trust = StoredTrust(self._config, self._store, root, self._work_dir / "tuf")
            trusters.append(trust)
            return trust

        follower = Follower(
            make,
            root=self._config.root,
            root_sha256=self._config.root_sha256,
            lane=self._lanes["trust"],
            fetcher=self._fetcher,
            emit=self._local.append,
        )
        if not trusters:
            return follower, None
        self._local.extend(Happened(EventKind.METADATA_REFUSED, problem) for problem in trusters[0].damage)
        return follower, trusters[0].remembered()

    def _make_runner(self, state: AgentState) -> Runner:
        on_trial = partial(self._groups.confine, "trial")
        self._hands = ModelHands(ServingClient(self._socket, SERVING_TIMEOUT_S), self._config.profile, on_trial)
        gatherer = Gatherer(
            self._store,
            self._fetcher,
            self._lanes["deploy"],
            offered=lambda: self._follower.differences,
            emit=self._local.append,
            now_s=time.monotonic,
        )
        performer = Performer(
            self._store,
            gatherer,
            self._hands,
            Lanes(self._lanes["deploy"], self._lanes["serving"]),
            emit=self._local.append,
            collect=lambda: self._runner.request_collection(),  # noqa: PLW0108 - the runner is made after this
        )
        deploy = self._lanes["deploy"].submit
        self._bench = Bench(self._store.blob_path, self._config.profile, deploy, lambda: self._runner.state, on_trial)
        subjects = Subjects(self._info, self._report, self._spool, self._log_lines, self._bench)
        self._parts = Parts(
            inbox=self._inbox,
            local=self._local,
            store=self._store,
            spool=self._spool,
            topics=self._topics,
            fetcher=self._fetcher,
            follower=self._follower,
            gatherer=gatherer,
            performer=performer,
            voice=Voice(self._connection, self._topics, self._config.id, self._spool),
            answerer=Answerer(self._connection, self._topics, self._config.id, subjects, self._config.max_packet_bytes),
            notifier=Notifier.from_environment(),
            info=self._info,
            join=self._join,
            sample=self._sample,
            is_healthy=self._is_healthy,
        )
        settings = Settings(
            device=self._config.id,
            boot=self._boot,
            watch_s=self._config.profile.watch_s,
            telemetry_interval_s=self._config.telemetry_interval_s,
        )
        return Runner(settings, self._parts, state)

    def _make_sampler(self) -> Sampler:
        pipelines = self._pipelines
        return Sampler(
            telemetry.MachineSensors(self._config.state_dir),
            self._stats,
            pipelines.figures if pipelines else dict,
            self._config.profile.thermal,
            boot=self._boot,
            interval_s=float(self._config.telemetry_interval_s),
        )

    def _connection_settings(self) -> ConnectionSettings:
        config, topics = self._config, self._topics
        quality = {topics.device(config.id, TopicKind.BLOCK): 0, f"{topics.root}/d/{config.id}/infer/#": 0}
        return ConnectionSettings(
            client_id=config.id,
            brokers=config.brokers,
            password=config.password,
            ca_file=config.ca_file,
            will_topic=topics.device(config.id, TopicKind.AVAILABILITY),
            subscriptions=tuple((topic, quality.get(topic, 1)) for topic in topics.device_subscriptions(config.id)),
            inference_prefixes=(topics.infer(config.id, ""), f"{topics.root}/g/"),
        )

    # What the parts ask of each other

    def _join(self, groups: tuple[str, ...]) -> None:
        self._connection.share(tuple(self._topics.group_subscription(group) for group in groups))

    def _report(self) -> State:
        return self._runner.report()

    def _load_state(self) -> AgentState:
        state = self._load_or_begin()
        # A number that the spool has is never used again, whatever has become of the state.
        return replace(state, next_seq=max(state.next_seq, self._spool.last_seq + 1))

    def _load_or_begin(self) -> AgentState:
        try:
            return self._store.load_state()
        except WireError as err:
            aside = self._store.set_state_aside()
            logger.error("%s; it was moved to %s, and everything begins anew", err, aside)  # noqa: TRY400 - foreseen
            return AgentState()

    def _offer(self, message: object) -> None:
        self._bridge.offer(message)  # type: ignore[arg-type]  # the connection passes what it has received

    def _send_request(self, request: BlockRequest) -> None:
        self._connection.publish(self._topics.blob_request(self._config.id), encode(request))

    def _sample(self) -> None:
        if not self._lanes["telemetry"].is_busy():
            self._lanes["telemetry"].submit(partial(self._read_telemetry, self._runner.state.served()))

    def _read_telemetry(self, served: dict[str, dict[str, int]]) -> Sampled:
        return Sampled(self._sampler.read(served))

    def _is_healthy(self) -> bool:
        lanes_live = all(lane.is_alive for lane in self._lanes.values())
        pipelines_live = self._pipelines is None or self._pipelines.is_alive
        serving_lives = self._bridge.is_alive and self._supervisor.is_alive and pipelines_live
        return lanes_live and self._connection.is_alive and serving_lives

    def _info(self) -> Info:
        config = self._config
        return Info(
            v=1,
            id=config.id,
            profile=config.profile.name,
            boot=self._boot,
            groups=self._follower.groups if self._follower.standing.generation else config.groups,
            hardware=telemetry.hardware(),
            versions=versions(str(config.profile.runtime.package)),
            endpoints=config.endpoints,
            capabilities=CAPABILITIES,
            root_version=self._follower.standing.root_version,
            max_packet_bytes=config.max_packet_bytes,
        )
