"""How fast a real agent pulls a model from a real origin over mosquitto, and what that adds to its memory.

    python bench/transfer.py line     [--size-mib 8] [--delay-ms 50] [--rate-mbit 20] [--runs 3]
    python bench/transfer.py loopback [--size-mib 256] [--runs 5]

``line`` puts the tests' faulty line between agent and broker; what counts is the share of its rate. ``loopback``
compares with a bare pair of paho clients, which move messages of a block's size over the same broker, in turns.
Everything lies in memory: not the disk is measured. The time is that of the agent's log, from `fetching` on.
"""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgeferry.wire.blocks import BLOCK_BYTES

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.brokers import USERS, MosquittoBroker
from tests.faulty_line import Line, Weather
from tests.fleet.fakes import write_artifact
from tests.system.harness import Agent, System, system

MIB = 1 << 20
TOPIC = "edgeferry/v1/bare"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("line", "loopback"))
    parser.add_argument("--size-mib", type=int)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--delay-ms", type=float, default=50.0, help="each way")
    parser.add_argument("--rate-mbit", type=float, default=20.0)
    options = parser.parse_args()
    size_bytes = (options.size_mib or (8 if options.what == "line" else 256)) * MIB
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        (folder / "broker").mkdir()
        passwords = {user: secrets.token_urlsafe(12) for user in USERS}
        broker = MosquittoBroker(folder / "broker", passwords=passwords)
        broker.start()
        stack.callback(broker.stop)
        fleet = stack.enter_context(system(folder / "system", broker))
        if options.what == "line":
            weather = Weather(options.delay_ms / 1000, options.rate_mbit * 1e6 / 8)
            measure_line(fleet, stack.enter_context(Line(broker.port, weather)), size_bytes, options.runs)
        else:
            measure_loopback(fleet, size_bytes, options.runs)


def measure_line(fleet: System, line: Line, size_bytes: int, runs: int) -> None:
    agent = started(fleet, line.port)
    pulls = [pull(fleet, agent, size_bytes, run) for run in range(1, runs + 1)]
    took_s = min(took_s for took_s, _ in pulls)
    share = size_bytes / took_s / line.weather.rate_bytes_s
    print(f"best of {runs}: {took_s:.2f} s, {share:.1%} of the line, {worst(pulls):.1f} MiB of memory at most")


def measure_loopback(fleet: System, size_bytes: int, runs: int) -> None:
    agent = started(fleet, fleet.broker.port)
    pulls, pairs = [], []
    for run in range(1, runs + 1):
        pulls.append(pull(fleet, agent, size_bytes, run))
        pairs.append(bare_pair(fleet, size_bytes // BLOCK_BYTES))
    pulled, paired = size_bytes / min(took_s for took_s, _ in pulls), max(pairs)
    share = f"{pulled / paired:.2f} of a bare pair's {paired / 1e6:.0f} MB/s"
    print(f"best of {runs}: {pulled / 1e6:.0f} MB/s, {share}, {worst(pulls):.1f} MiB of memory at most")


def worst(pulls: list[tuple[float, int]]) -> float:
    return max(added_bytes for _, added_bytes in pulls) / MIB


def started(fleet: System, port: int) -> Agent:
    """Start an agent that reaches its broker at ``port``."""
    agent = fleet.add_agent("pi")
    config = agent.config.read_text()
    agent.config.write_text(config.replace(f":{fleet.broker.port}", f":{port}") + "telemetry_interval_s: 3600\n")
    agent.start()
    fleet.wait_online("pi")
    return agent


def pull(fleet: System, agent: Agent, size_bytes: int, version: int) -> tuple[float, int]:
    """Push random bytes, which end as an invalid model, and return the seconds of the transfer and the memory added."""
    memory = AgentMemory(agent)
    folder = write_artifact(fleet.folder / "build", "bench", version, size_bytes=size_bytes)
    fleet.run("push", str(folder), "--timeout", "120", timeout_s=150)
    began, ended = (logged_at(agent, phase) for phase in ("idle -> fetching", "fetching -> verifying"))
    return ended - began, memory.added_bytes()


def logged_at(agent: Agent, what: str) -> float:
    """Return when the log last said this, in seconds."""
    line = agent.lines_of(re.escape(what))[-1]
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


class AgentMemory:
    """The most that an agent holds, beyond what it holds now (proc(5), VmHWM)."""

    def __init__(self, agent: Agent) -> None:
        self._place = Path(f"/proc/{agent.pid}")
        (self._place / "clear_refs").write_text("5")
        self._before = self._most_bytes()

    def added_bytes(self) -> int:
        """Return how much more than in the beginning it held at most."""
        return self._most_bytes() - self._before

    def _most_bytes(self) -> int:
        status = (self._place / "status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def bare_pair(fleet: System, count: int) -> float:
    """Return how many bytes each second arrive when one client sends as fast as it can and another one listens."""
    receiver = child("receive", fleet, count)
    assert receiver.stdout
    assert receiver.stdout.readline() == "listens\n"
    child("send", fleet, count).wait()
    figures = json.loads(receiver.stdout.readline())
    receiver.wait()
    return float(figures["bytes"] / figures["took_s"])


def child(what: str, fleet: System, count: int) -> subprocess.Popen[str]:
    password = fleet.broker.passwords["operator"]
    command = [sys.executable, __file__, what, str(fleet.broker.port), str(count)]
    environment = {**os.environ, "PASSWORD": password}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def client(name: str, port: int) -> mqtt.Client:
    made = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    made.username_pw_set("operator", os.environ["PASSWORD"])
    made.connect("127.0.0.1", port)
    return made


def receive(port: int, count: int) -> None:
    """Count messages until none comes any more."""
    received: list[float] = []
    made = client("in", port)
    made.on_message = lambda *_: received.append(time.monotonic())
    made.on_subscribe = lambda *_: print("listens", flush=True)
    made.subscribe(TOPIC, 0)
    made.loop_start()
    while len(received) < count and (not received or time.monotonic() - received[-1] < 2):
        time.sleep(0.01)
    took: dict[str, Any] = {"took_s": received[-1] - received[0], "bytes": (len(received) - 1) * BLOCK_BYTES}
    print(json.dumps(took), flush=True)
    made.disconnect()
    made.loop_stop()


def send(port: int, count: int) -> None:
    """Send messages as fast as the broker takes them, 64 on their way at once."""
    made = client("out", port)
    room = threading.Semaphore(64)
    made.on_publish = lambda *_: room.release()
    made.loop_start()
    payload = os.urandom(BLOCK_BYTES)
    for _ in range(count):
        room.acquire()
        made.publish(TOPIC, payload, 0)
    made.disconnect()
    made.loop_stop()


if __name__ == "__main__":
    if sys.argv[1:2] in (["receive"], ["send"]):
        {"receive": receive, "send": send}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
