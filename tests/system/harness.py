"""A whole fleet for tests: real commands, a real broker, and real agents as processes that can be killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edgeferry.fleet.settings import Passwords
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize
from tests.brokers import TestBroker, free_port

PROFILE = "generic-x86-64"
PATIENCE_S = 40.0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def wait_until(
    is_so: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S, tell: Callable[[], str] = str
) -> None:
    """Return as soon as ``is_so`` answers true; after ``patience_s`` fail with what ``tell`` tells."""
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited {patience_s:.0f} s for {what}\n{tell()}"
        time.sleep(0.005)


def on_host(model_file: Path, samples: np.ndarray) -> np.ndarray:
    """Return what LiteRT itself answers for ``samples``, dequantized."""
    model = Model.load(model_file)
    (x,), (scores,) = model.inputs, model.outputs
    rows = [model.run({x.name: quantize(sample[np.newaxis], x)})[scores.name] for sample in samples]
    return dequantize(np.concatenate(rows), scores)


@dataclass
class Agent:
    """A device: one `edgeferry-agent run`, started and killed as the test likes."""

    id: str
    folder: Path
    http_port: int
    program: tuple[str, ...] = ("-m", "edgeferry.agent")
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "agent.yaml"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def runtime_dir(self) -> Path:
        """As systemd gives it: what is in it need not last."""
        return self.folder / "run"

    @property
    def log(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        self.runtime_dir.mkdir(exist_ok=True)
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "RUNTIME_DIRECTORY": str(self.runtime_dir), **self.environment},
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it cleanly and return its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def serving_pid(self) -> int | None:
        """Return the process id of the serving process; None while there is none."""
        return self._child_pid("edgeferry.agent.serving")

    def trial_pid(self) -> int | None:
        """Return the process id of the trial; None while there is none."""
        return self._child_pid("edgeferry.agent.serving.trial")

    def _child_pid(self, module: str) -> int | None:
        children = psutil.Process(self.pid).children()
        return next((child.pid for child in children if module in child.cmdline()), None)

    def saved_version(self, model: str) -> int:
        """Return the active version in the state file; asking the broker instead would take a process each time."""
        path = self.state_dir / "state"
        saved = json.loads(path.read_bytes().partition(b"\n")[2]) if path.exists() else {}
        return int(saved.get("models", {}).get(model, {}).get("active", {}).get("version", 0))

    def lines_of(self, pattern: str) -> list[str]:
        return re.findall(f".*{pattern}.*", self.log)

    def wait_for_line(self, pattern: str, *, times: int = 1) -> None:
        """Return as soon as the log has ``times`` lines with ``pattern``; fail at once when the agent has ended."""

        def has_said_it() -> bool:
            if len(self.lines_of(pattern)) >= times:
                return True
            assert self.process is None or self.process.poll() is None, f"{self.id} ended:\n{self.log[-3000:]}"
            return False

        wait_until(has_said_it, f"{times} x {pattern!r} in the log of {self.id}", tell=lambda: self.log[-3000:])


@dataclass
class System:
    """A fleet folder, a broker and devices."""

    folder: Path
    broker: TestBroker
    stack: ExitStack
    agents: dict[str, Agent] = field(default_factory=dict)

    @property
    def fleet_dir(self) -> Path:
        return self.folder / "fleet"

    @property
    def environment(self) -> dict[str, str]:
        places = {"EDGEFERRY_FLEET": str(self.fleet_dir), "XDG_DATA_HOME": str(self.folder / "share")}
        return {**os.environ, **places, "EDGEFERRY_BROKER": self.broker.url}

    def run(self, *arguments: str, timeout_s: float = 60) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "edgeferry.fleet", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *arguments: str, timeout_s: float = 60) -> Done:
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.exit_code == 0, f"{arguments}: {done.exit_code}\n{done.stderr}\n{self.logs()}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command in the background; it is killed at the end of the test."""
        with (self.folder / "background.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgeferry.fleet", *arguments], env=self.environment, stdout=log, stderr=log
            )
        self.stack.callback(_end, process)
        return process

    def add_agent(self, device: str, *groups: str, profile: str = PROFILE) -> Agent:
        """Add a device to the fleet and the broker and configure its agent; it is not started."""
        options = [option for group in groups for option in ("--group", group)]
        token = self.must("token", device, "-p", profile, *options).stdout
        self.broker.passwords[device] = Passwords(self.fleet_dir).of(device)
        self.broker.stop()
        self.broker.start()
        folder = self.folder / device
        folder.mkdir()
        agent = Agent(device, folder, free_port())
        command = [sys.executable, "-m", "edgeferry.agent", "init", "--token-file", "-"]
        command += ["--state-dir", str(agent.state_dir), "-o", str(agent.config)]
        command += ["--http", f"127.0.0.1:{agent.http_port}"]
        subprocess.run(command, input=token, text=True, check=True, capture_output=True, timeout=20)
        self.agents[device] = agent
        self.stack.callback(lambda: _end(agent.process) if agent.process else None)
        return agent

    def state_of(self, device: str) -> dict[str, Any]:
        """Return what the device reports; empty while it reports nothing."""
        for entry in self.must("devices", "--json").json:
            if entry["id"] == device:
                return entry.get("state") or {}
        raise AssertionError(f"{device} is not in the inventory")

    def stable_version(self, device: str, model: str = "digits") -> int:
        return int(self.state_of(device).get("models", {}).get(model, {}).get("labels", {}).get("stable", 0))

    def wait_for_version(self, device: str, version: int, model: str = "digits") -> None:
        """Return when ``device`` has saved that it runs ``version``, and reports it, too."""
        agent = self.agents[device]
        wait_until(lambda: agent.saved_version(model) == version, f"{device} to run {model} {version}")
        wait_until(lambda: self.stable_version(device, model) == version, f"{device} to report {model} {version}")

    def wait_online(self, *devices: str) -> None:
        for device in devices:
            self.agents[device].wait_for_line("connected to")

        def all_online() -> bool:
            entries = self.must("devices", "--json").json
            return set(devices) <= {entry["id"] for entry in entries if entry["liveness"] == "online"}

        wait_until(all_online, f"{devices} to be online")

    def logs(self) -> str:
        return "\n".join(f"--- {agent.id}\n{agent.log[-3000:]}" for agent in self.agents.values())


@contextmanager
def system(folder: Path, broker: TestBroker) -> Iterator[System]:
    """Yield a fleet on ``broker`` without devices or models; everything it started is ended."""
    with ExitStack() as stack:
        made = System(folder, broker, stack)
        made.must("init")
        broker.passwords["operator"] = Passwords(made.fleet_dir).of("operator")
        if broker.ca_pem:
            Passwords(made.fleet_dir).put_ca(broker.ca_pem)
        broker.stop()
        broker.start()
        yield made


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(10)
