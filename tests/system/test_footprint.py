"""What the agent costs a device: memory, processor time, and what it never imports."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.models import artifact_folder
from tests.system.harness import Agent, System, wait_until

pytestmark = pytest.mark.broker

MIB = 1 << 20
# As on a device: the package `cryptography` is not there. At the end it tells which modules were loaded.
AS_ON_A_DEVICE = """
import atexit, json, os, sys
sys.modules["cryptography"] = None
def tell():
    with open(os.environ["LOADED_MODULES"], "w") as file:
        json.dump(sorted(sys.modules), file)
atexit.register(tell)
from edgeferry.agent.cli import main
main()
"""


@pytest.fixture
def device(mosquitto_tls_fleet: System) -> Agent:
    """An agent without `cryptography`, over mqtts, with a model."""
    fleet = mosquitto_tls_fleet
    agent = fleet.add_agent("pi")
    agent.program = ("-c", AS_ON_A_DEVICE)
    agent.environment = {"LOADED_MODULES": str(agent.folder / "modules.json")}
    agent.config.write_text(agent.config.read_text() + "telemetry_interval_s: 1\n")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", str(artifact_folder(fleet.folder / "build", version=1).parent))
    return agent


def rss_bytes(agent: Agent) -> int:
    return int(psutil.Process(agent.pid).memory_info().rss)


def infer(fleet: System, samples: int) -> None:
    source = fleet.folder / "x.npy"
    np.save(source, np.random.default_rng(0).random((samples, 64), dtype=np.float32))
    fleet.must("infer", "pi", "digits", "--input", str(source), "--concurrency", "4", "--json", timeout_s=300)


def test_the_agent_stays_under_40_mib_over_mqtts(device: Agent, mosquitto_tls_fleet: System) -> None:
    infer(mosquitto_tls_fleet, 200)

    assert rss_bytes(device) < 40 * MIB


def test_the_agent_loads_neither_numpy_nor_a_runtime_nor_cryptography(device: Agent) -> None:
    assert device.stop() == 0

    loaded = set(json.loads((device.folder / "modules.json").read_text()))
    assert "paho.mqtt.client" in loaded
    assert not loaded & {"numpy", "ai_edge_litert", "tflite_runtime", "tensorflow", "keras", "rich"}


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_the_agent_grows_by_less_than_1_mib_in_an_hour_of_traffic(device: Agent, mosquitto_tls_fleet: System) -> None:
    """An hour's worth at the defaults: 360 telemetry messages, an inference every second, a doorbell every minute."""
    fleet = mosquitto_tls_fleet
    infer(fleet, 600)  # what is needed once, for caches and threads, is not growth
    for _ in range(3):
        fleet.must("push", str(fleet.folder / "build" / "digits" / "1"), "--retry")
    before = rss_bytes(device)

    for _ in range(6):
        infer(fleet, 600)
        for _ in range(10):
            fleet.must("push", str(fleet.folder / "build" / "digits" / "1"), "--retry")
    grown = rss_bytes(device) - before

    print(f"grown by {grown / MIB:.2f} MiB to {rss_bytes(device) / MIB:.1f} MiB", file=sys.stderr)
    assert grown < MIB


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_the_agent_uses_less_than_one_percent_of_a_core_when_idle(device: Agent) -> None:
    device.stop()
    device.config.write_text(device.config.read_text().replace("telemetry_interval_s: 1\n", ""))
    device.start()
    device.wait_for_line("digits 1 is stable", times=2)
    process = psutil.Process(device.pid)
    started = process.cpu_times()

    began = process.create_time()
    wait_until(lambda: time.time() - began > 65, "a minute to pass", patience_s=90)

    used = process.cpu_times()
    share = (used.user + used.system - started.user - started.system) / 60
    print(f"idle: {share:.2%} of a core", file=sys.stderr)
    assert share < 0.01


def test_the_state_directory_is_for_its_owner_alone(device: Agent) -> None:
    shared = [path for path in [device.state_dir, *device.state_dir.rglob("*")] if not path.is_symlink()]

    assert [path for path in shared if path.stat().st_mode & 0o077 and not path.is_socket()] == []
    assert Path(device.config).stat().st_mode & 0o077 == 0
