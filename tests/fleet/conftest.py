"""Fixtures of the workstation's tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgeferry.fleet.operator import Login, Operator
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.settings import Passwords, parse_broker_url
from tests.brokers import TestBroker, broker, tls_broker
from tests.fleet.fakes import PROFILE, FakeDevice, write_artifact

__all__ = ["Done", "Fleet", "broker", "fleet", "fleet_dir", "run_edgeferry", "tls_broker"]

COMMAND_TIMEOUT_S = 60


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Return what it printed."""
        return json.loads(self.stdout)


Run = Callable[..., Done]


def run_command(*arguments: str, fleet_dir: Path, broker_url: str = "", stdin: str = "") -> Done:
    """Run `edgeferry` as a user does, in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EDGEFERRY_")}
    environment["EDGEFERRY_FLEET"] = str(fleet_dir)
    if broker_url:
        environment["EDGEFERRY_BROKER"] = broker_url
    done = subprocess.run(
        command_line(*arguments),
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def command_line(*arguments: str) -> list[str]:
    """Return how `edgeferry` is started with this interpreter."""
    return [sys.executable, "-c", "from edgeferry.fleet.cli import main; main()", *arguments]


@pytest.fixture
def fleet_dir(tmp_path: Path) -> Path:
    """Return where a fleet may be made; nothing is there."""
    return tmp_path / "fleet"


@pytest.fixture
def run_edgeferry(fleet_dir: Path) -> Run:
    """Return a function that runs `edgeferry` on ``fleet_dir``."""

    def run(*arguments: str, stdin: str = "") -> Done:
        return run_command(*arguments, fleet_dir=fleet_dir, stdin=stdin)

    return run


@dataclass
class Fleet:
    """A fleet on a real broker, with devices that are switched on when a test asks for them."""

    folder: Path
    build: Path
    broker: TestBroker
    stack: ExitStack = field(default_factory=ExitStack)

    def run(self, *arguments: str) -> Done:
        """Run `edgeferry` with this fleet and broker."""
        return run_command(*arguments, fleet_dir=self.folder, broker_url=self.broker.url)

    def repository(self) -> Repository:
        """Open the repository."""
        return Repository.open(self.folder)

    def add(self, device: str, *groups: str, profile: str = PROFILE) -> None:
        """Add a device to the inventory and the broker."""
        options = [option for group in groups for option in ("--group", group)]
        done = self.run("token", device, "-p", profile, *options)
        assert done.exit_code == 0, done.stderr
        self.broker.add_device(device)

    def switch_on(self, device: str, **behaviour: Any) -> FakeDevice:
        """Connect a device that was added."""
        return self.stack.enter_context(FakeDevice(self.broker, self.folder, device, **behaviour))

    def artifact(self, version: int, **options: Any) -> str:
        """Write version ``version`` of the model ``digits`` and return its folder."""
        return str(write_artifact(self.build, "digits", version, **options))

    def operator(self, client_id: str = "operator-test") -> Operator:
        """Return a connection of the operator, closed with the fleet."""
        login = Login("operator", self.broker.passwords["operator"])
        return self.stack.enter_context(Operator(parse_broker_url(self.broker.url), login, client_id=client_id))


@pytest.fixture
def fleet(fleet_dir: Path, tmp_path: Path, broker: TestBroker) -> Iterator[Fleet]:
    """Yield a fleet without devices or models on a running broker."""
    made = run_command("init", fleet_dir=fleet_dir, broker_url=broker.url)
    assert made.exit_code == 0, made.stderr
    Passwords(fleet_dir).put("operator", broker.passwords["operator"])
    with ExitStack() as stack:
        yield Fleet(fleet_dir, tmp_path / "build", broker, stack)
