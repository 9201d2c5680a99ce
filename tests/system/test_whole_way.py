"""The whole way with real parts: push, prove, serve, infer, refuse, go back, on both brokers."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.models import artifact_folder
from tests.system.harness import System, on_host, wait_until

pytestmark = pytest.mark.broker

SAMPLES = np.random.default_rng(7).random((40, 64), dtype=np.float32)


def infer(fleet: System, device: str) -> tuple[np.ndarray, list[str]]:
    source, target = fleet.folder / "x.npy", fleet.folder / "y.npy"
    np.save(source, SAMPLES)
    done = fleet.must("infer", device, "digits", "--input", str(source), "--output", str(target), "--json")
    return np.load(target), done.json["versions"]


def push(fleet: System, version: int, *, passing: bool = True) -> Path:
    folder = artifact_folder(fleet.folder / "build", version=version, passing=passing)
    return folder.parent


def test_a_model_goes_the_whole_way_and_back(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")

    first = push(fleet, 1)
    fleet.must("push", str(first))
    answers, versions = infer(fleet, "pi")
    assert versions == ["1"]
    np.testing.assert_array_equal(answers, on_host(first / "generic-x86-64" / "model.tflite", SAMPLES))

    second = push(fleet, 2)
    fleet.must("push", str(second), "--to", "pi")
    answers, versions = infer(fleet, "pi")
    assert versions == ["2"]
    np.testing.assert_array_equal(answers, on_host(second / "generic-x86-64" / "model.tflite", SAMPLES))

    measured = fleet.must("bench", "pi", str(second), "--seconds", "0.2", "--json").json
    assert (measured["version"], measured["runs"] > 20) == (2, True)

    refused = fleet.run("push", str(push(fleet, 3, passing=False)))
    assert refused.exit_code == 1
    assert "SELFTEST_MISMATCH" in refused.stderr
    assert infer(fleet, "pi")[1] == ["2"]

    fleet.must("rollback", "digits", "--to", "pi")
    assert infer(fleet, "pi")[1] == ["1"]
    status = fleet.must("status", "digits", "--json").json
    assert json.dumps(status).count('"pi"') == 1


def test_an_offline_device_is_pending_and_converges_when_it_comes(fleet: System) -> None:
    agent = fleet.add_agent("pi")

    done = fleet.run("push", str(push(fleet, 1)), "--timeout", "5")

    assert done.exit_code == 3, done.stderr
    agent.start()
    fleet.start("origin")
    fleet.wait_for_version("pi", 1)


def test_a_restarted_device_serves_what_it_served_without_a_broker(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(push(fleet, 1)))
    assert agent.stop() == 0
    fleet.broker.stop()

    agent.start()

    rest = f"http://127.0.0.1:{agent.http_port}"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{rest}/v2/models/digits/ready", timeout=2) as ready:
                return bool(ready.status == 200)
        except OSError:
            return False

    wait_until(answers, "the model to be served without a broker")


def test_sigterm_says_offline_and_leaves_no_process(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    wait_until(agent.serving_pid, "the serving process")
    serving = agent.serving_pid()

    assert agent.stop() == 0

    entry = next(entry for entry in fleet.must("devices", "--json").json if entry["id"] == "pi")
    assert entry["liveness"] == "offline"
    assert not Path(f"/proc/{serving}").exists()


def test_events_of_an_offline_time_arrive_in_order_afterwards(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(push(fleet, 1)))
    fleet.broker.stop()
    serving = agent.serving_pid()
    assert serving is not None
    os.kill(serving, signal.SIGKILL)
    agent.wait_for_line("serving process answers", times=2)

    fleet.broker.start()

    wait_until((agent.state_dir / "spool" / "acknowledged").exists, "an acknowledgement")
    lines = [
        json.loads(line)
        for segment in sorted((agent.state_dir / "spool").glob("*.jsonl"))
        for line in segment.read_text().splitlines()
    ]
    newest = lines[-1]["seq"]
    wait_until(
        lambda: int((agent.state_dir / "spool" / "acknowledged").read_text()) == newest, "every event to be taken"
    )
    assert [line["seq"] for line in lines] == list(range(1, newest + 1))
    assert "serving_crashed" in {line["kind"] for line in lines}
