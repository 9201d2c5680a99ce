"""Inference on a device's own input: a real agent, real programs and topics, on both brokers."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

from edgeferry.fleet.operator import Login, Operator
from edgeferry.fleet.settings import parse_broker_url
from edgeferry.inference.model import Model
from edgeferry.inference.preprocessing import ImagePreprocessing, Resize, as_data
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import decode_manifest
from tests.models import artifact_folder, convolutional_model
from tests.system.harness import Agent, System, wait_until
from tests.system.test_whole_way import on_host

pytestmark = pytest.mark.broker

SAMPLES = np.random.default_rng(3).random((8, 64), dtype=np.float32)
IN, OUT = "edgeferry/v1/d/pi/in/numbers", "edgeferry/v1/d/pi/out/answers"


def with_pipelines(agent: Agent, *pipelines: dict[str, Any]) -> None:
    agent.config.write_text(agent.config.read_text() + yaml.safe_dump({"pipelines": list(pipelines)}))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def scores(answer: dict[str, Any]) -> np.ndarray:
    of_class = {int(told["label"].removeprefix("class-")): told["score"] for told in answer["classes"]}
    return np.array([[of_class[index] for index in sorted(of_class)]], np.float32)


def pipelines_pid(agent: Agent) -> int:
    (child,) = [
        each for each in psutil.Process(agent.pid).children() if "edgeferry.agent.serving.pipelines" in each.cmdline()
    ]
    return child.pid


def test_what_a_program_writes_is_answered_into_a_file_as_the_model_answers_on_the_host(
    fleet: System, tmp_path: Path
) -> None:
    agent = fleet.add_agent("pi")
    answers, rows = tmp_path / "answers.jsonl", tmp_path / "rows.csv"
    np.savetxt(rows, SAMPLES, delimiter=",", fmt="%.9g")
    program = ["sh", "-c", f"cat {rows}; exec sleep 600"]
    source = {"command": program, "format": "lines"}
    with_pipelines(
        agent,
        {
            "name": "rows",
            "model": "digits",
            "source": source,
            "sink": {"file": str(answers)},
            "buffer": len(SAMPLES),
            "top": 10,
        },
    )
    agent.start()
    fleet.wait_online("pi")
    artifact = artifact_folder(fleet.folder / "build", version=1)

    fleet.must("push", str(artifact.parent))

    wait_until(lambda: len(lines_of(answers)) == len(SAMPLES), "an answer to each row", tell=fleet.logs)
    found = lines_of(answers)
    assert {(answer["pipeline"], answer["model"], answer["version"]) for answer in found} == {("rows", "digits", "1")}
    expected = on_host(artifact / "model.tflite", SAMPLES)
    np.testing.assert_allclose(np.concatenate([scores(answer) for answer in found]), expected, atol=1e-6)

    os.kill(pipelines_pid(agent), signal.SIGKILL)
    wait_until(lambda: len(lines_of(answers)) == 2 * len(SAMPLES), "the same again after a kill", tell=fleet.logs)
    assert agent.stop() == 0


def test_pictures_in_a_folder_are_prepared_as_the_artifact_says(fleet: System, tmp_path: Path) -> None:
    declared = ImagePreprocessing(resize=Resize(height=8, width=8), scale=1 / 255)
    artifact = artifact_folder(fleet.folder / "build", name="pictures", classes=6, model=convolutional_model)
    manifest = decode_manifest((artifact / "artifact.json").read_bytes())
    says = msgspec.structs.replace(manifest, preprocessing=as_data(declared), labels=())
    (artifact / "artifact.json").write_bytes(encode(says))
    pixels = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    folder, answers = tmp_path / "pictures", tmp_path / "answers.jsonl"
    folder.mkdir()
    agent = fleet.add_agent("pi")
    source = {"folder": str(folder), "format": "image"}
    with_pipelines(agent, {"name": "door", "model": "pictures", "source": source, "sink": {"file": str(answers)}})
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(artifact.parent))
    agent.wait_for_line("pipeline door runs pictures")
    wait_until(lambda: pipelines_pid(agent), "the pipelines")

    written_s: list[float] = []

    def answered() -> list[dict[str, Any]]:
        if not written_s or time.monotonic() - written_s[-1] > 0.5:  # what is there at the first look is left alone
            written_s.append(time.monotonic())
            Image.fromarray(pixels).save(folder / f".{len(written_s)}", "PNG")
            (folder / f".{len(written_s)}").replace(folder / f"{len(written_s)}.png")
        return lines_of(answers)

    wait_until(answered, "an answer", tell=fleet.logs)
    (output,) = lines_of(answers)[0]["outputs"].values()
    inputs = declared.finished(declared.fitted(pixels)[np.newaxis])
    expected = Model.load(artifact / "model.tflite").run({"x": inputs})["scores"]
    np.testing.assert_allclose(np.reshape(output["values"], output["shape"]), expected, atol=1e-5)


def test_messages_on_a_topic_are_answered_on_another_by_whatever_version_runs(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    source = {"topic": IN, "format": "json"}
    with_pipelines(agent, {"name": "mqtt", "model": "digits", "source": source, "sink": {"topic": OUT}, "top": 10})
    agent.start()
    fleet.wait_online("pi")
    login = Login("operator", fleet.broker.passwords["operator"], None)
    with Operator(parse_broker_url(fleet.broker.url), login, client_id="test") as operator:
        operator.subscribe(OUT)

        for version in (1, 2):
            artifact = artifact_folder(fleet.folder / "build", version=version)
            fleet.must("push", str(artifact.parent))
            answer = ask_until_answered(operator, SAMPLES[0], version)

            expected = on_host(artifact / "model.tflite", SAMPLES[:1])
            np.testing.assert_allclose(scores(answer), expected, atol=1e-6)
            assert answer["origin"] == IN

        def figures() -> dict[str, Any]:
            (device,) = fleet.must("devices", "--json").json
            telemetry = device["telemetry"] or {}
            return telemetry.get("pipelines", {}).get("mqtt", {})  # type: ignore[no-any-return]

        wait_until(lambda: figures().get("answered_total", 0) >= 2, "telemetry of the pipeline", tell=fleet.logs)
        assert figures()["model"] == "digits"


def ask_until_answered(operator: Operator, row: np.ndarray, version: int) -> dict[str, Any]:
    """Return the first answer of ``version``; what comes before its model is loaded is not kept for it."""
    ends_s = time.monotonic() + 40
    while time.monotonic() < ends_s:
        operator.publish(IN, json.dumps(row.tolist()).encode())
        for message in operator.received_within(0.5):
            answer = json.loads(getattr(message, "payload", b"{}"))
            if answer.get("version") == str(version):
                return answer  # type: ignore[no-any-return]
    raise AssertionError(f"no answer of version {version} within 40 s")
