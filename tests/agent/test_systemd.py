"""What the service manager is told, on a real socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeferry.agent.systemd import Notifier


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(10)

    def heard(self) -> str:
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, memory_path: Path) -> Iterator[Manager]:
    address = str(memory_path / "notify") if request.param == "path" else f"@{memory_path.name}"
    manager = Manager(address)
    yield manager
    manager.socket.close()


def test_everything_is_told(manager: Manager) -> None:
    notifier = Notifier(manager.address, 30.0)

    notifier.ready("device kitchen")
    notifier.status("fetching")
    notifier.alive()
    notifier.stopping()

    assert [manager.heard() for _ in range(4)] == [
        "READY=1\nSTATUS=device kitchen",
        "STATUS=fetching",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_the_environment_says_where_and_how_often(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")

    notifier = Notifier.from_environment()
    notifier.alive()

    assert notifier.watchdog_s == 30.0
    assert manager.heard() == "WATCHDOG=1"


@pytest.mark.parametrize("value", [None, "soon"])
def test_without_a_watchdog_it_need_not_be_fed(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if value:
        monkeypatch.setenv("WATCHDOG_USEC", value)

    assert Notifier.from_environment().watchdog_s == 0.0


def test_where_there_is_no_manager_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Notifier("", 0.0).ready("device kitchen")

    assert caplog.text == ""


def test_a_manager_that_has_gone_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(str(tmp_path / "gone"), 0.0).ready("device kitchen")

    assert "cannot reach the service manager" in caplog.text
