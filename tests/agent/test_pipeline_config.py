"""`pipelines:` in agent.yaml."""

import copy
from pathlib import Path

import pytest
import yaml

from edgeferry.agent.config import load_config
from edgeferry.agent.errors import ConfigError
from edgeferry.agent.pipeline_config import PipelineConfig, SampleFormat, SinkConfig, SourceConfig

from .test_cli import init

PORCH = {
    "name": "porch",
    "model": "dogs@canary",
    "source": {"command": ["rpicam-vid", "-o", "-"], "format": "jpeg"},
    "sink": {"file": "/var/lib/edgeferry/porch.jsonl", "max_bytes": "1 MiB"},
    "max_rate_hz": 0.5,
}


def loaded(folder: Path, *pipelines: dict[str, object]) -> tuple[PipelineConfig, ...]:
    init(folder)
    path = folder / "agent.yaml"
    path.write_text(path.read_text() + yaml.safe_dump({"pipelines": list(pipelines)}))
    return load_config(path).pipelines


def test_a_pipeline_has_a_source_a_model_and_a_sink(tmp_path: Path) -> None:
    (porch,) = loaded(tmp_path, PORCH)

    assert porch == PipelineConfig(
        name="porch",
        model="dogs@canary",
        source=SourceConfig(SampleFormat.JPEG, command=("rpicam-vid", "-o", "-")),
        sink=SinkConfig(file="/var/lib/edgeferry/porch.jsonl", max_bytes=1 << 20),
        max_rate_hz=0.5,
    )
    assert (porch.model_name, porch.model_version) == ("dogs", "canary")


def test_without_a_version_the_stable_one_is_meant(tmp_path: Path) -> None:
    (porch,) = loaded(tmp_path, PORCH | {"model": "dogs"})

    assert (porch.model_name, porch.model_version) == ("dogs", "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sink": {}}, "sink: found none, wanted one of topic, file, command"),
        ({"source": {"topic": "a", "folder": "b", "format": "raw"}}, "source: found folder and topic, wanted one of"),
        ({"source": {"command": ["cam"], "format": "image"}}, "has no end in a stream"),
        ({"source": {"topic": "a", "format": "rgb", "width": 640}}, "rgb wants width and height"),
        ({"source": {"topic": "a", "format": "raw", "width": 6, "height": 4}}, "and no other format does"),
        ({"source": {"topic": "a", "format": "lines", "fields": ["x"]}}, "names parts of JSON objects"),
        ({"source": {"topic": "a", "format": "jpg"}}, 'did you mean "jpeg"'),
        ({"max_rate_hz": 0}, "no sample would ever pass"),
        ({"name": "Front Porch"}, "wanted a name of small letters"),
        ({"modle": "dogs"}, 'did you mean "model"'),
    ],
)
def test_what_cannot_work_is_told_when_it_is_read(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loaded(tmp_path, PORCH | change)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="porch stands twice"):
        loaded(tmp_path, PORCH, copy.deepcopy(PORCH))  # PyYAML writes the same value twice as an alias
