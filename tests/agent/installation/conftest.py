"""Fixtures of the tests about installing."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeferry.wire.joining import JoinToken, format_token
from tests.agent.installation.machine import Machine, make_machine, path_with_commands_of

Token = Callable[..., str]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine without an agent."""
    made = make_machine(tmp_path / "machine")
    monkeypatch.setenv("MACHINE", str(made.root))
    monkeypatch.setenv("PATH", path_with_commands_of(made))
    return made


@pytest.fixture
def token() -> Token:
    """Return a function that makes tokens of the device ``pi``."""

    def make(**changes: object) -> str:
        known: dict[str, object] = {
            "v": 1,
            "id": "pi",
            "profile": "raspberry-pi-4",
            "brokers": ("mqtts://broker.local:8883",),
            "password": "secret",
            "root": base64.b64encode(b"{}").decode(),
            "ca_pem": "PEM",
        }
        return format_token(JoinToken(**{**known, **changes}))  # type: ignore[arg-type]  # fields by name

    return make
