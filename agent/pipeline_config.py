"""What ``pipelines:`` in ``agent.yaml`` says: where samples come from, which model sees them, where its answers go.

pipelines:
  - name: porch
    model: dogs                  # its stable version; dogs@canary or dogs@7 for another
    source:
      command: [rpicam-vid, --codec, mjpeg, --output, "-", --timeout, "0"]
      format: jpeg
    sink:
      file: /var/lib/edgeferry/answers/porch.jsonl
    max_rate_hz: 2
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from edgeferry.agent.errors import ConfigError
from edgeferry.device_profiles.profile import Form, Range, SizeRange

__all__ = ["PipelineConfig", "SampleFormat", "SinkConfig", "SourceConfig", "check_pipelines"]

_NAME = Form(r"[a-z0-9][a-z0-9_-]{0,63}", "a name of small letters, digits, - and _, such as porch")


class SampleFormat(StrEnum):
    """How a sample is spelled in what the source gives."""

    JPEG = "jpeg"  # whole JPEG images, one after the other
    IMAGE = "image"  # a file of any format that Pillow reads
    RGB = "rgb"  # frames of `width` x `height` pixels, three bytes each
    LINES = "lines"  # a line of numbers, with commas or spaces between them
    JSON = "json"  # a JSON array of numbers, or an object of which `fields` are taken; one a line
    PCM = "pcm"  # signed 16-bit little-endian samples of one channel
    RAW = "raw"  # the bytes of the model's input


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where samples come from: one of ``command``, ``folder`` and ``topic``.

    Attributes:
        command: Started, and started again when it ends; samples are cut from its standard output.
        folder: Watched; files that appear are samples, in the order of their names. They are left as they are.
        topic: An MQTT topic; each message is a sample.
        format: How a sample is spelled.
        width: Of an `rgb` frame, in pixels.
        height: Of an `rgb` frame, in pixels.
        fields: Of a JSON object, the numbers of a row in this order; empty where a row is an array.
    """

    format: SampleFormat
    command: tuple[str, ...] = ()
    folder: str = ""
    topic: str = ""
    width: Annotated[int, Range(0, 8192)] = 0
    height: Annotated[int, Range(0, 8192)] = 0
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """Where answers go: one of ``topic``, ``file`` and ``command``.

    Attributes:
        topic: An MQTT topic.
        file: JSON lines; when it is larger than ``max_bytes`` it is renamed, and ``keep`` older ones stay.
        command: Started, and started again when it ends; an answer is a line on its standard input.
    """

    topic: str = ""
    file: str = ""
    command: tuple[str, ...] = ()
    max_bytes: Annotated[int, SizeRange(1024, 1 << 40)] = 10 << 20
    keep: Annotated[int, Range(0, 100)] = 3


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """One pipeline.

    Attributes:
        model: A model's name, with ``@`` and a version or label where it is not the stable one.
        max_rate_hz: Samples that come sooner are left out; None for no limit.
        buffer: Samples that may wait for the model; the oldest makes room.
        top: Classes to tell, the best first, where the model has labels.
        timeout_s: For one answer.
    """

    name: Annotated[str, _NAME]
    model: str
    source: SourceConfig
    sink: SinkConfig
    max_rate_hz: Annotated[float, Range(0, 10_000)] | None = None
    buffer: Annotated[int, Range(1, 1024)] = 1
    top: Annotated[int, Range(1, 1000)] = 3
    timeout_s: Annotated[int, Range(1, 3600)] = 30

    @property
    def model_name(self) -> str:
        """Return the model's name alone."""
        return self.model.partition("@")[0]

    @property
    def model_version(self) -> str:
        """Return a version or label; empty for the stable one."""
        return self.model.partition("@")[2]


def check_pipelines(pipelines: Sequence[PipelineConfig], file: str) -> None:
    """Do nothing when each pipeline has one source and one sink, and no two have the same name.

    Raises:
        ConfigError: Otherwise.
    """
    names = [pipeline.name for pipeline in pipelines]
    for pipeline in pipelines:
        where = f"{file}: pipeline {pipeline.name}"
        source, sink = pipeline.source, pipeline.sink
        _check_one(f"{where}: source", command=source.command, folder=source.folder, topic=source.topic)
        _check_one(f"{where}: sink", topic=sink.topic, file=sink.file, command=sink.command)
        if names.count(pipeline.name) > 1:
            raise ConfigError(f"{where} stands twice; give each a name of its own")
        if source.format is SampleFormat.IMAGE and source.command:
            raise ConfigError(f"{where}: source.format image has no end in a stream; let the command give jpeg or raw")
        if (source.format is SampleFormat.RGB) != bool(source.width and source.height):
            raise ConfigError(f"{where}: source.format rgb wants width and height, and no other format does")
        if source.fields and source.format is not SampleFormat.JSON:
            raise ConfigError(f"{where}: source.fields names parts of JSON objects, and format is {source.format}")
        if pipeline.max_rate_hz == 0:
            raise ConfigError(f"{where}: max_rate_hz is 0, so no sample would ever pass; leave it out for no limit")


def _check_one(where: str, **choices: object) -> None:
    given = [name for name, value in choices.items() if value]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise ConfigError(f"{where}: found {found}, wanted one of {', '.join(choices)}")
