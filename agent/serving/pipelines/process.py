"""The process of all pipelines: builds them from the agent's configuration, and says every few seconds how they do.

What it says stands on its standard output, a line of JSON each: by pipeline, a `PipelineTelemetry`.
"""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeferry.agent.clock import now_ms
from edgeferry.agent.config import AgentConfig, load_config
from edgeferry.agent.connection import Connection, ConnectionSettings
from edgeferry.agent.errors import EXIT_CONFIG, ConfigError
from edgeferry.agent.inbox import Received
from edgeferry.agent.pipeline_config import PipelineConfig, SinkConfig
from edgeferry.agent.serving.lifeline import die_with_parent
from edgeferry.agent.serving.pipelines.inputs import Preparer
from edgeferry.agent.serving.pipelines.intake import Intake
from edgeferry.agent.serving.pipelines.pipeline import Pipeline
from edgeferry.agent.serving.pipelines.sinks import CommandSink, FileSink, Sink, TopicSink
from edgeferry.agent.serving.pipelines.sources import CommandSource, FolderSource, Source, TopicSource
from edgeferry.agent.serving.pipelines.windows import Windows
from edgeferry.agent.serving_client import ServingClient
from edgeferry.wire.codec import canonical

__all__ = ["Post", "build", "run"]

logger = logging.getLogger(__name__)

REPORT_S = 2.0
STOP_TIMEOUT_S = 3.0
CLIENT_TIMEOUT_S = 10.0


class Post:
    """MQTT for all pipelines: hands messages to the sources of their topics. Without topics there is no connection."""

    def __init__(self, config: AgentConfig) -> None:
        self._sources: list[TopicSource] = []
        topics = sorted({each.source.topic for each in config.pipelines if each.source.topic})
        settings = ConnectionSettings(
            client_id=f"{config.id}-pipelines",
            user=config.id,
            brokers=config.brokers,
            password=config.password,
            ca_file=config.ca_file,
            will_topic="",
            subscriptions=tuple((topic, 0) for topic in topics),
        )
        self._connection = Connection(settings, self._handed, lambda _: None)
        self._is_wanted = any(each.source.topic or each.sink.topic for each in config.pipelines)

    def start(self) -> None:
        """Connect, if any pipeline has a topic."""
        if self._is_wanted:
            self._connection.start()

    def stop(self) -> None:
        """Disconnect."""
        if self._is_wanted:
            self._connection.stop()

    def publish(self, topic: str, payload: bytes) -> int | None:
        """Return None when the message was not taken."""
        return self._connection.publish(topic, payload)

    def listen(self, source: TopicSource) -> None:
        """Hand messages to ``source`` from now on, in the place of an earlier one on its topic."""
        self._sources = [known for known in self._sources if known.name != source.name] + [source]

    def _handed(self, event: object) -> None:
        if isinstance(event, Received):
            for source in self._sources:
                source.received(event.topic, event.payload)


def build(config: AgentConfig, socket: Path, post: Post) -> list[Pipeline]:
    """Return every pipeline of ``config``, not started yet."""
    return [
        Pipeline(
            each,
            ServingClient(socket, CLIENT_TIMEOUT_S),
            _source_maker(each, post),
            _sink(each.sink, post),
            now_ms=now_ms,
        )
        for each in config.pipelines
    ]


def _source_maker(pipeline: PipelineConfig, post: Post) -> Callable[[Preparer, Intake, Callable[[str], None]], Source]:
    source = pipeline.source

    def make(preparer: Preparer, intake: Intake, complain: Callable[[str], None]) -> Source:
        offer = Windows(preparer.rows, preparer.hop, intake.offer).offer if preparer.rows > 1 else intake.offer
        if source.command:
            return CommandSource(source.command, preparer.framer, offer, complain)
        if source.folder:
            return FolderSource(Path(source.folder), offer, complain)
        listener = TopicSource(pipeline.name, source.topic, offer)
        post.listen(listener)
        return listener

    return make


def _sink(sink: SinkConfig, post: Post) -> Sink:
    if sink.topic:
        return TopicSink(sink.topic, post.publish)
    if sink.file:
        return FileSink(Path(sink.file), max_bytes=sink.max_bytes, keep=sink.keep)
    return CommandSink(sink.command)


def run(arguments: Sequence[str]) -> int:
    """Run every pipeline until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser("edgeferry.agent.serving.pipelines", description="Run the pipelines of an agent.")
    parser.add_argument("--config", type=Path, required=True, help="the agent.yaml")
    parser.add_argument("--socket", type=Path, required=True, help="where the serving process answers")
    parser.add_argument("--parent-pid", type=int, default=0, help="end when this process ends")
    options = parser.parse_args(arguments)
    die_with_parent(options.parent_pid)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        config = load_config(options.config)
    except ConfigError as err:
        logger.error("%s", err)  # noqa: TRY400 - a sentence for a person
        return EXIT_CONFIG
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    post = Post(config)
    pipelines = build(config, options.socket, post)
    post.start()
    for pipeline in pipelines:
        pipeline.start()
    _report_until(stopping, pipelines)
    for pipeline in pipelines:
        pipeline.stop(STOP_TIMEOUT_S)
    post.stop()
    return 0


def _report_until(stopping: threading.Event, pipelines: Sequence[Pipeline]) -> None:
    """Say how the pipelines do until the end; a pipeline whose thread has died ends the process, and the agent sees."""
    while not stopping.wait(REPORT_S):
        figures = {pipeline.name: pipeline.figures() for pipeline in pipelines}
        sys.stdout.buffer.write(canonical(figures) + b"\n")
        sys.stdout.buffer.flush()
        dead = [pipeline.name for pipeline in pipelines if not pipeline.is_alive]
        if dead:
            raise SystemExit(f"the thread of pipeline {dead[0]} has ended; all begin anew")
