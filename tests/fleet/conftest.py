"""Fixtures of the workstation's tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from tests.brokers import TestBroker, broker, tls_broker
from tests.fleet.fakes import PROFILE, FakeDevice, write_artifact

from edgeferry.fleet.cli import main
from edgeferry.fleet.operator import Login, Operator
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.settings import Passwords, parse_broker_url

__all__ = ["Done", "Fleet", "broker", "fleet", "fleet_dir", "run_edgeferry", "started", "tls_broker"]


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
    """Run `edgeferry` as its console script does, in this process, because starting one for each costs a second."""
    stdout, stderr = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setenv("EDGEFERRY_FLEET", str(fleet_dir))
        patch.setenv("EDGEFERRY_BROKER", broker_url)
        patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, stdout.getvalue(), stderr.getvalue())


@contextmanager
def started(*arguments: str, fleet_dir: Path, broker_url: str = "") -> Iterator[subprocess.Popen[str]]:
    """Start `edgeferry` in a process of its own, for what runs until it is stopped; kill what is left of it."""
    environment = {**os.environ, "EDGEFERRY_FLEET": str(fleet_dir), "EDGEFERRY_BROKER": broker_url}
    process = subprocess.Popen(
        command_line(*arguments), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


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
